"""Take whole channels out of a network, so that its tensors really become smaller."""

import dataclasses
from typing import Any, Literal

import keras

from kerastl._base import checks
from kerastl._base.text_table import in_columns
from kerastl._base.types import Where
from kerastl.compression.channels.groups import choose, groups_of
from kerastl.compression.channels.rebuild import Cut, compensate, rebuild
from kerastl.compression.channels.scoring import Norms, Saliency, read_moments
from kerastl.compression.channels.trace import trace
from kerastl.compression.sparsity import check_sparsity
from kerastl.graph import flatten, leaf_layers, select_layers
from kerastl.graph.flags import count_weights

CRITERIA = ("error", "l1", "l2", "gamma")


def prune_channels(
    model: keras.Model,
    channels: float,
    *,
    data: Any = None,
    where: Where | None = None,
    criterion: Literal["error", "l1", "l2", "gamma"] | None = None,
    scope: Literal["group", "global"] | None = None,
    round_to: int = 8,
) -> tuple[keras.Model, "ChannelReport"]:
    """A smaller network: `model` without the channels that count least.

    Zeros in a tensor do not make a file smaller; fewer channels do. Channels that depend on each
    other go together: those that a residual addition or a squeeze-and-excitation ties, those
    before and after a depthwise convolution, and batch normalizations with them; what reads them,
    through concatenation or flattening, loses the same inputs. Channels that something else
    reads (an input, an output, attention, a layer this function does not know) stay, and the
    report says why.

    Pass `data`, a few hundred inputs as in training, whenever you can: those channels then go that
    the others tell best, and the others take over what they told, by least squares. Train the
    result for some epochs afterwards, with batch normalizations that follow the batches
    (`unfreeze(model, ".*", batch_norm="train")` where they are frozen): without `data` it will
    hardly work before that. Channels whose filters and batch normalization are zero leave without
    any effect.

    Args:
        model: Functional or built Sequential `keras.Model`, channels last. Nested models are
            inlined. It stays as it is, but for the renaming that `kerastl.flatten` tells of.
        channels: Float in (0, 1), share of the channels to take away.
        data: Inputs of `model`: arrays, nested as its inputs are, or a dataset of batches of
            inputs or of `(inputs, targets)`. None to go by weights alone.
        where: Layers whose channels may go, as in `kerastl.select_layers`; None for all. A channel
            stays if one of the layers that make it is not among them.
        criterion: How a channel is scored: `"error"`, the error that is left in what reads it,
            which needs `data`; `"l1"` or `"l2"`, the norm of its filters; `"gamma"`, the scale of
            its batch normalizations. None for `"error"` with `data` and `"l1"` without.
        scope: `"group"` takes the share of each group of tied layers, `"global"` of all channels
            together; filters and scales then count relative to the mean of their group. None for
            `"global"` with the criterion `"error"`, which is the same quantity in every layer, and
            `"group"` with the others.
        round_to: Int > 0. What is left of each group is a multiple of it, the nearest to the
            share and at least once; a group with fewer channels stays as it is.

    Returns:
        A new functional model (a `FineTuner` if `model` is one) with weights of its own, not
        compiled, and a `ChannelReport`.

    Raises:
        ValueError: If no channel can go, or an argument is none of those named.

    Example:
        >>> import keras
        >>> model = keras.Sequential([
        ...     keras.Input((8, 8, 3)), keras.layers.Conv2D(32, 3, name="conv"),
        ...     keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2, name="head")])
        >>> smaller, report = prune_channels(model, 0.5)
        >>> report["conv"].after, smaller.get_layer("head").kernel.shape[0]
        (16, 16)

    References:
        Li et al., 2017, section 3.1 (the sum of a filter's magnitudes; section 3.3 for residual
        networks, where it adds over what is tied), https://arxiv.org/abs/1608.08710;
        Liu et al., 2017 (scales), https://arxiv.org/abs/1708.06519;
        He, Zhang & Sun, 2017 (least squares), https://arxiv.org/abs/1707.06168
    """
    criterion, scope = _check(channels, data, criterion, scope, round_to)
    flat = flatten(model)
    found = trace(flat)
    if where is not None:
        _pin_others(model, found, where)
    readers = {} if data is None else read_moments(flat, found, data)
    scorer = Saliency(found, readers) if criterion == "error" else Norms(found, criterion)
    groups = _scored(found, groups_of(found), scorer)
    gone = choose(groups, scorer, channels, scope=scope, round_to=round_to)
    if not gone:
        raise ValueError(_nothing(model, found, groups, round_to))
    cut = Cut(found, gone)
    smaller = rebuild(model, flat, cut, compensate(flat, found, readers, cut))
    rows = tuple(_row(found, layer, cut, round_to) for layer in found.makers)
    return smaller, ChannelReport(rows, count_weights(model), count_weights(smaller))


def _check(channels, data, criterion, scope, round_to):
    if check_sparsity(channels, "channels") == 0:
        raise ValueError("`channels` must be a share in (0, 1). Received: channels=0")
    criterion = criterion or ("l1" if data is None else "error")
    checks.one_of(criterion, CRITERIA, "criterion")
    if criterion == "error" and data is None:
        raise ValueError(
            "`criterion='error'` needs `data`, a few hundred inputs as in training. "
            "Received: data=None"
        )
    scope = scope or ("global" if criterion == "error" else "group")
    checks.one_of(scope, ("group", "global"), "scope")
    checks.whole(round_to, 1, 2**31 - 1, "round_to")
    return criterion, scope


def _pin_others(model, found, where):
    leaves = [leaf for layer in select_layers(model, where) for leaf in leaf_layers(layer)]
    chosen = {id(leaf) for leaf in leaves}
    for layer in found.makers:
        if id(layer) not in chosen:
            found.atoms.pin(found.flows[id(layer)].output, f"{layer.name} is not in `where`")


def _scored(found, groups, scorer):
    """The groups that have a score; the others are to stay."""
    known = [group for group in groups if scorer.knows(group.choices)]
    for group in groups:
        for layer in () if group in known else group.makers:
            reason = f"{layer.name} has no batch normalization with a scale"
            found.atoms.pin(found.flows[id(layer)].output, reason)
    return known


def _row(found, layer, cut, round_to):
    layout = found.flows[id(layer)].output
    left = len(cut.stay(layout))
    reason = "" if left < len(layout) else _why(found, layout, round_to)
    return LayerChannels(layer.name, len(layout), left, reason)


def _why(found, layout, round_to):
    pinned = found.atoms.pinned(layout)
    if pinned:
        return next(iter(pinned.values()))
    if len(layout) <= round_to:
        return f"has no more than {round_to} channels"
    return "counts more than others"


def _nothing(model, found, groups, round_to):
    if not found.makers:
        return (
            "`model` must have convolutions or dense layers in its flat graph. "
            f"Received: {model.name!r}, which has none that can be followed."
        )
    sizes = [len(group.choices) for group in groups]
    whys = [
        f"{layer.name}: {_why(found, found.flows[id(layer)].output, round_to)}"
        for layer in found.makers
    ]
    return (
        f"No channel of {model.name!r} can go: {checks.listed(whys, 6)}. Received: "
        f"round_to={round_to}, groups of {checks.listed(sizes, 6) or 'no'} channels."
    )


@dataclasses.dataclass(frozen=True)
class LayerChannels:
    """Channels that one layer makes.

    Attributes:
        path: Name of the layer.
        before: Int.
        after: Int.
        reason: String, why it was not narrowed, or empty.
    """

    path: str
    before: int
    after: int
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class ChannelReport:
    """What `prune_channels` took away.

    Attributes:
        layers: Tuple of `LayerChannels`, in the order of the network.
        weights_before: Int, scalars in the weights of the model.
        weights_after: Int.
    """

    layers: tuple[LayerChannels, ...]
    weights_before: int
    weights_after: int

    @property
    def share_left(self) -> float:
        """Weights after over weights before."""
        return self.weights_after / self.weights_before

    def __getitem__(self, path: str) -> LayerChannels:
        """The `LayerChannels` of the layer at `path`."""
        return next(row for row in self.layers if row.path == path)

    def __str__(self) -> str:
        cells = [("layer", "channels", "left", "")]
        cells += [(row.path, str(row.before), str(row.after), row.reason) for row in self.layers]
        weights = f"{self.weights_before:,}", f"{self.weights_after:,}"
        cells.append(("weights", *weights, f"{self.share_left:.1%}"))
        return in_columns(cells)
