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
    rich.console.Console(highlight=False).print(table)


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
    if metrics["num_skipped"]:
        rows.append(("files skipped, see skipped.csv", metrics["num_skipped"]))
    if lite := metrics.get("tflite"):
        rows += [
            ("model.tflite", size(lite["size_bytes"])),
            ("  agreement with Keras", percent(lite["agreement"])),
            ("  largest difference", f"{lite['max_abs_error']:.1e}"),
            ("  one picture, one thread", f"{lite['median_ms']:.1f} ms"),
        ]
    rows.append(("seconds in all", f"{metrics['seconds']:.0f}"))
    print_table(str(folder), ("", ""), rows)
    worst = sorted(
        (item for item in metrics["per_class"].items() if item[1]["recall"] is not None),
        key=lambda item: item[1]["recall"],
    )
    found = [(name, percent(c["recall"]), c["num_examples"]) for name, c in worst[:10]]
    print_table("Classes, hardest first", ("class", "found", "pictures"), found)
