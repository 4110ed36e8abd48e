"""The stages of a compression as points: accuracy over bytes."""

import math

from kerastl.report.comparison import COLOURS


def draw_stages(rows, path, *, title=""):
    """Draw accuracy against the bytes of the file into a PNG, a point a stage, in order.

    A filled point is the file as a device loads it, a hollow one the same by gzip, as a download
    has it. The bar is one standard error of the accuracy where the number of pictures is known.

    Args:
        rows: List of dicts with `name`, `accuracy` in [0, 1], `bytes`, `gzip`, and `num_examples`
            or None; those without bytes are left out.
        path: File to write, `.png`.
        title: String above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    drawn = [row for row in rows if row["bytes"] is not None]
    sizes = [row["bytes"] / 1e3 for row in drawn]
    percents = [100 * row["accuracy"] for row in drawn]
    axis.plot(sizes, percents, color="#bbbbbb", lw=1, zorder=1)
    for i, (row, kilobytes, percent) in enumerate(zip(drawn, sizes, percents, strict=True)):
        style = {"color": COLOURS[i % len(COLOURS)], "ms": max(5, 13 - 2 * i)}  # none hides another
        label = f"{row['name']}  {percent:.1f} %"
        axis.errorbar(
            kilobytes, percent, _standard_error(row), fmt="o", capsize=3, label=label, **style
        )
        axis.plot(row["gzip"] / 1e3, percent, "o", mfc="none", **style)
    axis.plot([], [], "o", ms=8, mfc="none", color="#666666", label="the same by gzip")
    axis.set_ylim(max(0, min(percents) - 10), min(101, max(percents) + 10))
    axis.set_xlim(0, 1.12 * max(sizes))
    axis.set_xlabel("size of the file (kB)")
    axis.set_ylabel("accuracy (%), bar: ± one standard error")
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
    share = row["accuracy"]
    return 100 * math.sqrt(share * (1 - share) / row["num_examples"])
