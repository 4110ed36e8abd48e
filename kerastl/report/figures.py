"""Pictures of a run: training curves, comparisons, the LR finder's curve, stages."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerastl._base.types import PathLike


def draw_curves(
    history: Mapping[str, Sequence[float]],
    path: PathLike,
    *,
    metric: str = "accuracy",
    thaws: Mapping[int, Sequence[str]] | None = None,
    title: str = "",
) -> None:
    """Draw the loss and a metric of training and validation over the epochs into a PNG.

    Args:
        history: Dict from metric name to a list of one value an epoch, as `History.history`.
        path: File to write, `.png`.
        metric: Name of the metric in `history`.
        thaws: Dict from epoch (from 0) to the names of the groups that thawed when it began.
        title: String above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2)
    for axis, name in zip(axes, ("loss", metric), strict=True):
        _draw(axis, history, name, thaws or {})
    figure.suptitle(title)
    figure.savefig(path, dpi=120, format="png")


def _draw(axis, history, metric, thaws):
    for name, label, style in (
        (metric, "training", {"color": "#1f77b4"}),
        (f"val_{metric}", "validation", {"color": "#d95f02"}),
    ):
        values = history.get(name)
        if values:
            axis.plot(range(1, len(values) + 1), values, marker="o", ms=3, label=label, **style)
    for epoch in thaws:
        if epoch:
            axis.axvline(epoch + 0.5, color="#999999", lw=0.8, ls=":")
    if any(thaws):
        axis.plot([], [], color="#999999", lw=0.8, ls=":", label="groups thaw")
    axis.set_xlabel("epoch")
    axis.set_ylabel(metric.replace("_", " "))
    if "accuracy" in metric:
        lowest = min(axis.dataLim.ymin, 1.0)
        axis.set_ylim(bottom=lowest - 0.05 * (1.02 - lowest), top=1.02)  # no line on the edge
        bottom = axis.get_ylim()[0]
        axis.set_yticks([tick for tick in axis.get_yticks() if bottom <= tick < 1.001])
    elif (highest := axis.dataLim.ymax) > 0:
        axis.set_ylim(bottom=0.0, top=1.05 * highest)  # room above, also where all are alike
    axis.set_xlim(0.5, max(len(history.get(name, ())) for name in (metric, f"val_{metric}")) + 0.5)
    axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axis.grid(alpha=0.25)
    axis.legend(frameon=False)


COLOURS = ("#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#66a61e", "#a6761d")


def draw_comparison(
    rows: Sequence[Any],
    path: PathLike,
    *,
    score_name: str = "accuracy",
    is_share: bool = True,
    title: str = "",
) -> None:
    """Draw the score against training time into a PNG, one point a seed and a bar a mean.

    Where rows have a `difference` to another, it is drawn beside, with its interval.

    Args:
        rows: Rows of `compare`.
        path: File to write, `.png`.
        score_name: String, what the score is called.
        is_share: Boolean, whether it is a share, shown in percent.
        title: String above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    coloured = [(row, COLOURS[i % len(COLOURS)]) for i, row in enumerate(rows)]
    against = [(row, colour) for row, colour in coloured if row["difference"]]
    figure = Figure(figsize=(11 if against else 7.5, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axis, *beside = figure.subplots(1, 2 if against else 1, squeeze=False)[0]
    for row, colour in coloured:
        unit, score = 100 if is_share else 1, row["score"]
        each = [unit * one for one in score["each"]]
        axis.plot([row["seconds"]] * len(each), each, "o", color=colour, alpha=0.4, ms=5)
        axis.plot(
            row["seconds"],
            unit * score["mean"],
            marker="_",
            ms=22,
            mew=2.5,
            color=colour,
            ls="",
            label=row["strategy"],
        )
    axis.set_xlim(0, 1.12 * max(row["seconds"] for row, _ in coloured))
    if is_share:
        axis.set_ylim(top=min(axis.get_ylim()[1], 101))
    axis.set_xlabel("seconds of one training")
    axis.set_ylabel(f"{score_name}, held out{' (%)' if is_share else ''}")
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, title="mean, and each seed")
    if beside:
        _draw_differences(beside[0], against, 100 if is_share else 1)
        kind = "points of " if is_share else ""
        beside[0].set_xlabel(f"{kind}{score_name} over {rows[0]['strategy']}, 95 % interval")
    figure.suptitle(title)
    figure.savefig(path, dpi=120, format="png")


def _draw_differences(axis, coloured, unit):
    """Each row's difference on a line of its own, from the first at the top."""
    for line, (row, colour) in enumerate(coloured):
        found = {name: unit * row["difference"][name] for name in ("difference", "low", "high")}
        axis.plot([found["low"], found["high"]], [line, line], color=colour, lw=1.5)
        axis.plot(found["difference"], line, "o", color=colour, ms=7)
    axis.axvline(0, color="#999999", lw=0.8)
    axis.set_yticks(range(len(coloured)), [row["strategy"] for row, _ in coloured])
    axis.set_ylim(len(coloured) - 0.5, -0.5)
    axis.grid(alpha=0.25, axis="x")


_MARKS = {
    "valley": ("o", "#d95f02"),
    "steep": ("s", "#7570b3"),
    "slide": ("^", "#1b9e77"),
    "minimum": ("D", "#666666"),
}


def draw_lr_curve(result: Any, path: PathLike, *, title: str = "") -> None:
    """Draw the losses over the learning rate into a PNG.

    Args:
        result: `LRFinderResult`, or anything with its `rates`, `losses`, `batch_losses`,
            `suggestions` and `reason`.
        path: File to write, `.png`.
        title: String above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    if len(result.rates):
        _draw_losses(axis, result)
        _mark(axis, result)
        axis.legend(frameon=False)
    if result.reason is not None:
        axis.set_title(f"no suggestion: {result.reason}", fontsize=9, wrap=True)
    axis.set_xlabel("learning rate")
    axis.set_ylabel("loss")
    axis.grid(alpha=0.25)
    figure.suptitle(title)
    figure.savefig(path, dpi=120, format="png")


def _draw_losses(axis, result):
    axis.set_xscale("log")
    if len(result.batch_losses):
        style = {"ls": "", "marker": ".", "ms": 3, "color": "#b0b0b0"}
        axis.plot(result.rates, result.batch_losses, label="batch", **style)
    axis.plot(result.rates, result.losses, color="#1f77b4", label="smoothed")
    # What diverges would press the rest flat.
    low, first = min(result.losses), result.losses[0]
    room = max(2.0 * (first - low), 0.2 * abs(first), 1e-6)
    axis.set_ylim(low - 0.15 * room, min(max(result.losses), low + 1.5 * room) + 0.1 * room)


def _mark(axis, result):
    rates, losses = np.log(result.rates), np.asarray(result.losses)
    for rule, rate in result.suggestions.items():
        if rate is None:
            continue
        marker, color = _MARKS[rule]
        loss = np.interp(np.log(rate), rates, losses)
        label = f"{rule} {rate:.2g}"
        axis.plot([rate], [loss], ls="", marker=marker, ms=8, color=color, label=label)


def draw_stages(
    rows: Sequence[Mapping[str, Any]],
    path: PathLike,
    *,
    score_name: str = "accuracy",
    is_share: bool = True,
    title: str = "",
) -> None:
    """Draw the score against the bytes of the file into a PNG, a point a stage, in order.

    A filled point is the file as a device loads it, a hollow one the same by gzip, as a download
    has it. The bar is one standard error of an accuracy where the number of examples is known.

    Args:
        rows: List of dicts with `name`, `score`, `bytes`, `gzip`, and `num_examples`
            or None; those without bytes are left out.
        path: File to write, `.png`.
        score_name: String, what the score is called.
        is_share: Boolean, whether it is a share, shown in percent.
        title: String above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    drawn = [row for row in rows if row["bytes"] is not None]
    sizes = [row["bytes"] / 1e3 for row in drawn]
    unit, end = (100, " %") if is_share else (1, "")
    scores = [unit * row["score"] for row in drawn]
    errors = [_standard_error(row) if score_name == "accuracy" else None for row in drawn]
    axis.plot(sizes, scores, color="#bbbbbb", lw=1, zorder=1)
    for i, (row, kilobytes, score) in enumerate(zip(drawn, sizes, scores, strict=True)):
        style = {"color": COLOURS[i % len(COLOURS)], "ms": max(5, 13 - 2 * i)}  # none hides another
        label = f"{row['name']}  {score:.{1 if is_share else 3}f}{end}"
        axis.errorbar(kilobytes, score, errors[i], fmt="o", capsize=3, label=label, **style)
        axis.plot(row["gzip"] / 1e3, score, "o", mfc="none", **style)
    axis.plot([], [], "o", ms=8, mfc="none", color="#666666", label="the same by gzip")
    room = max(0.1 * unit, *(1.1 * (error or 0.0) for error in errors))  # whole bars
    least, most = min(scores) - room, max(scores) + room
    axis.set_ylim(max(0, least) if is_share else least, min(101, most) if is_share else most)
    axis.set_xlim(0, 1.12 * max(sizes))
    axis.set_xlabel("size of the file (kB)")
    bar = ", bar: ± one standard error" if any(errors) else ""
    axis.set_ylabel(f"{score_name}{' (%)' if is_share else ''}{bar}")
    axis.grid(alpha=0.25)
    (gzip, *stages), names = axis.get_legend_handles_labels()  # lines before error bars
    figure.legend(
        [*stages, gzip],
        [*names[1:], names[0]],
        frameon=False,
        loc="outside right center",
        title="file on the device",
    )
    figure.suptitle(title)
    figure.savefig(path, dpi=120, format="png")


def _standard_error(row):
    """One standard error of the accuracy in percent, or None."""
    if not row.get("num_examples"):
        return None
    share = row["score"]
    return 100 * math.sqrt(share * (1 - share) / row["num_examples"])
