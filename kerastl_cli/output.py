"""What verbs print: a table for people, one JSON object for machines."""

import json

import click


def print_json(value):
    """One JSON object on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_table(title, header, rows):
    """A table on standard output. The first column is text, the others are right-aligned."""
    import rich.box
    import rich.console
    import rich.table

    table = rich.table.Table(title=title, box=rich.box.SIMPLE, title_justify="left")
    for i, name in enumerate(header):
        table.add_column(name, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console = rich.console.Console(highlight=False)
    if not console.is_terminal:  # a file or a pipe has no width to keep to
        console.width = max(console.width, 120)
    console.print(table)


def percent(share):
    """A share as text, or a dash for None.

    Example:
        >>> percent(0.8333), percent(None)
        ('83.3 %', '-')
    """
    return "-" if share is None else f"{100 * share:.1f} %"


def size(num_bytes):
    """Bytes as text with a unit.

    Example:
        >>> size(999), size(1_250_000)
        ('999 B', '1.25 MB')
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:.3g} {unit}"
    return f"{num_bytes} B"


def metrics_table(metrics, folder):
    """The table that `tune` and `demo` end with."""
    rows = [
        ("accuracy, held-out", percent(metrics["accuracy"])),
        ("pictures held out", metrics["num_examples"]),
        ("pictures trained on", metrics["num_train"]),
        ("cross-entropy, held-out", f"{metrics['loss']:.3f} nats"),
        ("weights", f"{metrics['num_weights']:,}"),
    ]
    if pixels := metrics.get("image_size"):  # none in a demo
        rows.append(("height × width in pixels", " × ".join(map(str, pixels))))
    cached = metrics.get("frozen_features")  # none in a demo
    if cached and cached["epochs"]:
        rows.append(("epochs from cached features", cached["epochs"]))
        rows.append(("  seconds saved, about", f"{cached['seconds_saved']:.0f}"))
    if metrics["num_skipped"]:
        rows.append(("files skipped, see skipped.csv", metrics["num_skipped"]))
    for key, name in (("float_tflite", "float.tflite"), ("tflite", "model.tflite")):
        if lite := metrics.get(key):
            rows += _file_lines(name, lite)
    rows.append(("seconds in all", f"{metrics['seconds']:.0f}"))
    print_table(str(folder), ("", ""), rows)
    worst = sorted(
        (item for item in metrics["per_class"].items() if item[1]["recall"] is not None),
        key=lambda item: item[1]["recall"],
    )
    found = [(name, percent(c["recall"]), c["num_examples"]) for name, c in worst[:10]]
    print_table("Classes, hardest first", ("class", "found", "pictures"), found)


def files_table(title, rows, first="file"):
    """The table of `file_rows`: what each form of a network gives and costs.

    Agreement is with the row above; shares are of the first row that has the figure.
    """
    header = (first, "accuracy", "bytes", "gzip", "ms", "agreement")
    print_table(title, header, file_cells(rows))


def file_cells(rows):
    """The cells of `file_rows` as text.

    Example:
        >>> row = {"name": "int8", "accuracy": 0.8, "bytes": 250, "gzip": 200, "ms": 0.5}
        >>> file_cells([{**row, "bytes": 1000, "agreement": None}, {**row, "agreement": 1.0}])[1]
        ('int8', '80.0 %', '250  25%', '200 100%', '0.50 100%', '100.0 %')
    """
    base = {
        key: next((row[key] for row in rows if row[key] is not None), None)
        for key in ("bytes", "gzip", "ms")
    }
    return [
        (
            row["name"],
            percent(row["accuracy"]),
            _with_share(row["bytes"], base["bytes"], ","),
            _with_share(row["gzip"], base["gzip"], ","),
            _with_share(row["ms"], base["ms"], ".2f"),
            percent(row["agreement"]),
        )
        for row in rows
    ]


def _with_share(value, of, form):
    return "-" if value is None else f"{value:{form}} {value / of:>4.0%}"


def _file_lines(name, lite):
    lines = [(name, size(lite["size_bytes"])), ("  by gzip", size(lite["gzip_bytes"]))]
    if lite["accuracy"] is not None:
        lines.append(("  accuracy", percent(lite["accuracy"])))
    return [
        *lines,
        ("  agreement with Keras", percent(lite["agreement"])),
        ("  largest difference", f"{lite['max_abs_error']:.1e}"),
        ("  one picture, one thread", f"{lite['median_ms']:.2f} ms"),
    ]
