"""Strategies as points: accuracy over seconds of training."""

COLOURS = ("#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#66a61e", "#a6761d")


def draw_comparison(rows, path, *, title=""):
    """Draw accuracy against training time into a PNG, one point a seed and a bar a mean.

    Args:
        rows: Rows of `compare`.
        path: File to write, `.png`.
        title: String above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for i, row in enumerate(rows):
        colour = COLOURS[i % len(COLOURS)]
        accuracy = row["accuracy"]
        percents = [100 * each for each in accuracy["each"]]
        axis.plot([row["seconds"]] * len(percents), percents, "o", color=colour, alpha=0.4, ms=5)
        axis.plot(
            row["seconds"],
            100 * accuracy["mean"],
            marker="_",
            ms=22,
            mew=2.5,
            color=colour,
            ls="",
            label=row["strategy"],
        )
    axis.set_xlim(left=0)
    axis.set_xlabel("seconds of one training")
    axis.set_ylabel("accuracy on held-out pictures (%)")
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, title="mean, and each seed")
    figure.suptitle(title)
    figure.savefig(path, dpi=120, format="png")
