"""What verbs print: a table for people, one JSON object for machines."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    click.echo(_printable(json.dumps(value, indent=2, ensure_ascii=False, default=str)))


def _printable(text):
    """`text` with what is no UTF-8 in it, in names of files, as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
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


def print_continuations(found: Iterable[Mapping[str, Any]]) -> None:
    """Each prompt in bold with what was written after it, as text, a blank line between two."""
    for number, one in enumerate(found):
        prompt = click.style(_printable(one["prompt"]), bold=True)
        click.echo(f"{chr(10) if number else ''}{prompt}{_printable(one['continuation'])}")


def percent(share: float | None) -> str:
    """A share as text, or a dash for None.

    Example:
        >>> percent(0.8333), percent(None)
        ('83.3 %', '-')
    """
    return "-" if share is None else f"{100 * share:.1f} %"


def size(num_bytes: float) -> str:
    """Bytes as text with a unit.

    Example:
        >>> size(999), size(1_250_000)
        ('999 B', '1.25 MB')
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:.3g} {unit}"
    return f"{num_bytes} B"


def notices(lines: Iterable[str]) -> None:
    """Lines for the user, on standard error."""
    for line in lines:
        click.echo(f"Note: {_printable(line)}", err=True)


def metrics_table(metrics: Mapping[str, Any], folder: Any) -> None:
    """The tables that `tune` and `demo` end with."""
    noun = metrics["examples"]
    rows = [
        (f"{score_name(metrics)}, held-out", score(metrics["score"], metrics)),
        *_side_by_side(metrics),
        *_rival(metrics),
        (f"{noun} held out", metrics["num_examples"]),
        (f"{noun} trained on", metrics["num_train"]),
        ("loss, held-out", f"{metrics['loss']:.4g}"),
        ("weights", f"{metrics['num_weights']:,}"),
        *_adapters(metrics.get("adapters")),
        *metrics.get("prepared", ()),  # none in a demo
    ]
    cached = metrics.get("frozen_features")  # none in a demo
    if cached and cached["epochs"]:
        rows.append(("epochs from cached features", cached["epochs"]))
        rows.append(("  seconds saved, about", f"{cached['seconds_saved']:.0f}"))
    if metrics["num_skipped"]:
        rows.append(("files skipped, see skipped.csv", metrics["num_skipped"]))
    for key, name in (("float_tflite", "float.tflite"), ("tflite", "model.tflite")):
        if lite := metrics.get(key):
            rows += _file_lines(name, lite, metrics)
    if metrics.get("trained") and "learning_rate" in metrics:  # none in older runs
        rows.append(("peak learning rate", f"{metrics['learning_rate']:.3g}"))
    before = metrics.get("seconds_before_a_stop")
    stopped = f", {before:.0f} of them before it was stopped" if before else ""
    rows.append(("seconds in all", f"{metrics['seconds']:.0f}{stopped}"))
    print_table(str(folder), ("", ""), rows)
    _tried(metrics)
    _tables(metrics)


def _adapters(told):
    """Rows of the adapters that were trained, if any were."""
    if told is None:
        return []
    others = told["trainable"] - told["weights"]
    beside = f", and {others:,} others" if others else ""
    said = f"{told['weights']:,} beside {told['layers']} layers{beside}: {percent(told['share'])}"
    rows = [(f"  that trained, {told['method']}", f"{said} of all")]
    return [*rows, ("  by themselves", told["file"])] if told["file"] else rows


def _tried(metrics):
    """The table of what was compared with the regression on examples held back, if anything was."""
    from kerastl.tasks import Paired, objective_of

    share, rows = objective_of(metrics).is_share, []
    for one in (metrics.get("choice") or {}).get("tried", ()):
        told = ("-", "-", "-")
        if one["folds"]:
            beside = Paired(**one["difference"])
            loss = f"{-one['loss_gain']:+.3f} ± {one['loss_gain_error']:.3f}"
            told = (beside.num_examples, beside.text(is_share=share), loss)
        rows.append((one["name"], *told, one["fate"]))
    if rows:
        title = "Tried beside the regression, on examples held back"
        print_table(title, ("", "examples", "score (95 %)", "loss", "what became of it"), rows)


def _side_by_side(metrics):
    """Rows of a regression on frozen features beside what was trained; none in older runs.

    Where nothing in the network is new, of the network as it was loaded.
    """
    if before := metrics.get("before"):
        return _before_and_after(before, metrics)
    if not (probe := metrics.get("probe")):
        return []
    said = f"{score(probe['score'], metrics)} in {probe['seconds']:.1f} s"
    rows = [("  regression on frozen features", said)]
    said, start = "nothing", "probe"
    if trained := metrics["trained"]:
        said = f"{score(trained['score'], metrics)} in {trained['seconds']:.1f} s"
        said += f", {trained['tracing_seconds']:.1f} of these tracing"
        start = trained.get("start", "probe")
    rows.append(("  trained from there" if start == "probe" else "  trained from zero", said))
    if comparing := metrics.get("seconds_of", {}).get("comparing"):
        rows.append(("  comparing on examples held back", f"{comparing:.1f} s"))
    if metrics["difference"]:
        rows += _difference(metrics["difference"], metrics)
    kept = {"probe": "the regression", "trained": "what was trained"}[metrics["kept"]]
    reason = (metrics.get("choice") or {}).get("reason")
    return [*rows, ("  kept", f"{kept}: {reason}" if reason else kept)]


def _before_and_after(before, metrics):
    """Rows of a network as it was loaded, and of what was trained."""
    trained = metrics["trained"]
    perplexity = f"perplexity {before['perplexity']:.4g} → {trained['perplexity']:.4g}"
    bits = f"bits per byte {before['bits_per_byte']:.3f} → {trained['bits_per_byte']:.3f}"
    spent = f"{trained['seconds']:.1f}, {trained['tracing_seconds']:.1f} of these tracing"
    reason = (metrics["choice"] or {}).get("reason")
    kept = {"before": "the network as it was loaded", "trained": "what was trained"}[
        metrics["kept"]
    ]
    return [
        ("  before → trained", f"{perplexity}, {bits}"),
        ("  seconds of training", spent),
        *_difference(metrics["difference"], metrics),
        ("  kept", f"{kept}: {reason}" if reason else kept),
    ]


def _rival(metrics):
    """Rows of the cheapest way without a network, and of what ours is beside it."""
    if not (rival := metrics.get("rival")):
        return []
    said = f"{score(rival['score'], metrics)} in {rival['seconds']:.1f} s"
    beside = _difference(rival["difference"], metrics) if rival["difference"] else []
    return [(f"  {rival['name']}", said), *beside]


def _difference(difference, metrics):
    from kerastl.tasks import Paired, objective_of

    found = Paired(**difference)
    objective = objective_of(metrics)
    shown = found.turned() if objective.cost_name else found
    text = shown.text(is_share=objective.is_share)
    rows = [("  difference, 95 % interval", f"{text}, {found.verdict()}")]
    if found.p is not None:
        said = f"{found.gained}, {found.lost} (p = {found.p:.2g})"
        rows.append((f"  {metrics['examples']} gained, lost", said))
    return rows


def score_tables(title: str, report: Mapping[str, Any]) -> None:
    """The tables that `evaluate` prints: the score, and what the objective judges besides."""
    rows = [(score_name(report), score(report["score"], report))]
    rows += [("loss", f"{report['loss']:.4g}"), ("examples", report["num_examples"])]
    print_table(title, ("", ""), rows)
    _tables(report)


def _tables(metrics):
    from kerastl.tasks import objective_of

    for title, header, rows in objective_of(metrics).tables(metrics):
        print_table(title, header, rows)


def score_name(metrics: Mapping[str, Any]) -> str:
    """What the number that `score` shows is called."""
    from kerastl.tasks import objective_of

    return objective_of(metrics).cost_name or metrics["score_name"]


def score(value: float | None, metrics: Mapping[str, Any]) -> str:
    """A score as text: in percent where it is a share, or a dash for None.

    Where people know the cost whose minus it is, that is shown.

    Args:
        value: Float, or None.
        metrics: Dict with the `objective` whose score it is.
    """
    if value is None:
        return "-"
    from kerastl.tasks import objective_of

    objective = objective_of(metrics)
    if objective.cost_name:
        return f"{-value:.3f}"
    return percent(value) if objective.is_share else f"{value:.3f}"


def files_table(
    title: str, rows: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any], first: str = "file"
) -> None:
    """The table of `file_rows`: what each form of a network gives and costs.

    Agreement is with the row above; shares are of the first row that has the figure. Where weights
    were made zero, their share of all kernels is told.
    """
    header = (first, metrics["score_name"], "bytes", "gzip", "ms", "agreement")
    zeros = ("zeros",) if any(row.get("sparsity") for row in rows) else ()
    print_table(title, (*header, *zeros), file_cells(rows, metrics))


def file_cells(
    rows: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any]
) -> list[tuple[str, ...]]:
    """The cells of `file_rows` as text.

    Example:
        >>> row = {"name": "int8", "score": 0.8, "bytes": 250, "gzip": 200, "ms": 0.5}
        >>> rows = [{**row, "bytes": 1000, "agreement": None}, {**row, "agreement": 1.0}]
        >>> file_cells(rows, {"objective": "classification"})[1]
        ('int8', '80.0 %', '250  25%', '200 100%', '0.50 100%', '100.0 %')
    """
    base = {
        key: next((row[key] for row in rows if row[key] is not None), None)
        for key in ("bytes", "gzip", "ms")
    }
    pruned = any(row.get("sparsity") for row in rows)
    return [
        (
            row["name"],
            score(row["score"], metrics),
            _with_share(row["bytes"], base["bytes"], ","),
            _with_share(row["gzip"], base["gzip"], ","),
            _with_share(row["ms"], base["ms"], ".2f"),
            percent(row["agreement"]),
            *((percent(row["sparsity"]),) if pruned else ()),
        )
        for row in rows
    ]


def _with_share(value, of, form):
    return "-" if value is None else f"{value:{form}} {value / of:>4.0%}"


def _file_lines(name, lite, metrics):
    lines = [(name, size(lite["size_bytes"])), ("  by gzip", size(lite["gzip_bytes"]))]
    if lite["score"] is not None:
        lines.append((f"  {metrics['score_name']}", score(lite["score"], metrics)))
    if lite["agreement"] is not None:
        lines.append(("  agreement with Keras", percent(lite["agreement"])))
    return [
        *lines,
        ("  largest difference", f"{lite['max_abs_error']:.1e}"),
        ("  one example, one thread", f"{lite['median_ms']:.2f} ms"),
    ]


def dicts_table(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table of dicts with the same keys."""
    cells = [[f"{v:,}" if isinstance(v, int) else v for v in row.values()] for row in rows]
    print_table(title, list(rows[0]), cells)


RULES = {
    "valley": "middle of the longest fall: use this",
    "steep": "where the loss falls fastest",
    "slide": "from the right, where the slope settles",
    "minimum": "a tenth of the rate of the lowest loss",
}


def rates_table(result: Any) -> None:
    """What the LR finder suggests, by rule."""
    rows = [
        (rule, "-" if rate is None else f"{rate:.2g}", RULES[rule])
        for rule, rate in result.suggestions.items()
    ]
    print_table("Learning rates", ("rule", "rate", ""), rows)
    click.echo(result.summary())


def print_export(result: Any, as_json: bool) -> None:
    """What `export` prints: the ladder if there was one, and the rows."""
    ladder = result.ladder
    kept = [] if ladder is None else [entry.layer for entry in ladder.chosen.kept]
    if as_json:
        found = {"path": result.path, "rows": result.rows, "notices": result.notices}
        if ladder is not None:
            tried = [rung.name for rung in ladder.rungs]
            found.update(taken=ladder.chosen.name, in_float=kept, tried=tried)
            found.update(judged_on=result.judged_on)
        print_json(found)
        return
    if ladder is not None:
        click.echo(f"{ladder}\n")
        left = f"; {', '.join(kept)} stayed in float" if kept else ""
        click.echo(f"Judged on {result.judged_on}{left}.")
    if result.rows:
        files_table(result.path, result.rows, result.metrics)
    else:
        click.echo(f"Written: {result.path}")


def contestants_table(comparison: Mapping[str, Any], seeds: int) -> None:
    """The ways to learn that the demo compares."""
    noun = comparison.get("examples", "digits")
    print_table(
        f"{comparison['num_labels']} labelled {noun}, {_seeds(seeds)}, accuracy on "
        f"{comparison['num_test']} others",
        ("", "mean", "± std", "each seed"),
        [
            (
                name,
                percent(row["mean"]),
                percent(row["std"] if seeds > 1 else None),  # one differs from nothing
                " ".join(map(percent, row["each"])),
            )
            for name, row in comparison["accuracy"].items()
        ],
    )
    click.echo(_what_transfer_adds(comparison["difference"], seeds, noun))
    if differences := comparison.get("differences"):
        from kerastl.tasks import Paired

        rows = [
            (name, Paired(**told).text(is_share=True), told["gained"], told["lost"])
            for name, told in differences.items()
        ]
        print_table(
            "What fine-tuning gains over each", ("", "points (95 %)", "gained", "lost"), rows
        )


def _what_transfer_adds(difference, seeds, noun="digits"):
    """A sentence.

    Example:
        >>> told = {"difference": 0.002, "low": -0.002, "high": 0.006, "p": 0.4, "gained": 60}
        >>> print(_what_transfer_adds({**told, "lost": 50, "num_examples": 1797}, 3))
        Over a regression on the same frozen features, fine-tuning adds nothing that shows on these
        digits: +0.2 points (-0.2 to +0.6, 95 % interval), 60 gained and 50 lost over 3 seeds.
    """
    from kerastl.tasks import Paired

    found = Paired(**difference)
    more = "adds" if found.difference > 0 else "loses"
    says = f"{more} accuracy" if found.resolves else f"adds nothing that shows on these\n{noun}"
    text = found.text(is_share=True).replace(")", ", 95 % interval)")
    return (
        f"Over a regression on the same frozen features, fine-tuning {says}: {text}, "
        f"{found.gained} gained and {found.lost} lost over {_seeds(seeds)}."
    )


def _seeds(count):
    return f"{count} seed{'s'[: count > 1]}"
