"""Training curves as a picture: loss and accuracy over the epochs, thaws marked."""


def draw_curves(history, path, *, thaws=None, title=""):
    """Draw loss and accuracy of training and validation over the epochs into a PNG.

    Args:
        history: Dict from metric name to a list of one value an epoch, as `History.history`.
        path: File to write, `.png`.
        thaws: Dict from epoch (from 0) to the names of the groups that thawed when it began.
        title: String above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2)
    for axis, metric in zip(axes, ("loss", "accuracy"), strict=True):
        _draw(axis, history, metric, thaws or {})
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
    axis.set_ylabel("loss (nats)" if metric == "loss" else metric)
    if metric == "accuracy":
        axis.set_ylim(top=1.02)
    else:
        axis.set_ylim(bottom=0.0)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(alpha=0.25)
    axis.legend(frameon=False)
