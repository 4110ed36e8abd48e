"""The curve of the LR finder as a picture: loss over the learning rate, suggestions marked."""

import numpy as np

_MARKS = {
    "valley": ("o", "#d95f02"),
    "steep": ("s", "#7570b3"),
    "slide": ("^", "#1b9e77"),
    "minimum": ("D", "#666666"),
}


def draw_lr_curve(result, path, *, title=""):
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
