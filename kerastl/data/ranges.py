"""Which range of values a model takes, as far as it says so itself, and whether data lie in it.

Pictures come as 0 to 255, 0 to 1 or -1 to 1, and a model that was trained on one takes the others
without a word. Two things say which: layers at its input that rescale, and the statistics that a
normalization kept of its training.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kerastl import _keras

Range = tuple[float, float]

PIXELS: Range = (0, 255)
UNIT: Range = (0, 1)
SIGNED: Range = (-1, 1)
_CENTRED: Range = (-128, 128)

# A spread is wrong by 127 or 255 times, or right but for the pictures. Between 1 and 255 lies 16.
FAR = 16
_NARROW = 1 / 64  # of the spread in training; statistics of a short training are too wide by some
_NEW = 0.05  # how near statistics still are to their start, that they say nothing
_SLACK = 0.1  # of the range, which resizing and changes of colour may leave it by
_TINY = 100  # times smaller: another range, as -1 to 1 is for 0 to 255
_SMALL = 4  # times smaller than the range: dark pictures, or wrong ones
_SEEN = 16  # examples that statistics are compared on
_STATISTICS = ("BatchNormalization", "Normalization")
_NEAR_UNIT = (0.5, 10)  # what a network's first kernels are made for, by its spread
# Operations that change no range; layers whose name begins with Random are so, too.
_KEEPS = (
    "Cast", "CenterCrop", "Copy", "Cropping2D", "Flip", "GetItem", "Identity", "Pad", "Permute",
    "Reshape", "Resize", "Resizing", "Squeeze", "ExpandDims", "Stack", "Transpose", "UpSampling2D",
    "ZeroPadding2D", "Dropout", "FakeQuantize", "KeepFloat",
)  # fmt: skip


def taken_ranges(model: keras.Model) -> dict[str, Range]:
    """Dict from the names of picture inputs to the range of values that the model says it takes.

    A network that rescales by itself says it, by `Rescaling`, `Normalization` or arithmetic on its
    input, as all of `keras.applications` that do and everything that `kerastl.backbones` loads.
    Of other inputs nothing is known.

    Args:
        model: Functional or built Sequential `keras.Model`.

    Example:
        >>> image = keras.Input((4, 4, 3), name="image")
        >>> taken_ranges(keras.Model(image, keras.layers.Rescaling(1 / 127.5, -1)(image)))
        {'image': (0, 255)}
        >>> taken_ranges(keras.Model(image, keras.layers.Rescaling(2.0, -1)(image)))
        {'image': (0, 1)}
    """
    graph: Any = _keras.graph_of(model)
    if graph is None:
        return {}
    tracked = {id(t): (t.name, np.float64(1), np.float64(0)) for t in _pictures(graph)}
    uses = list(_first_uses(graph, tracked))
    uses += [tracked[id(t)] for t in graph.outputs if id(t) in tracked]
    found = {}
    for name, scale, offset in uses:
        if name not in found:
            found[name] = _range(scale, offset)
    return {name: taken for name, taken in found.items() if taken is not None}


def check_ranges(
    model: keras.Model,
    named: Mapping[str, Any],
    what: str,
    *,
    remedy: str = "",
) -> frozenset[str]:
    """Refuse data whose range is not the one that the model takes.

    Args:
        model: Functional or built Sequential `keras.Model`.
        named: Dict from the names of its inputs to arrays of examples.
        what: What the data are, the beginning of the message.
        remedy: What to do, its end. By default, to pass examples as in training.

    Returns:
        Names of the inputs of which the model says that their range is right. Of the others it
        says nothing.

    Raises:
        ValueError: If the range of an input is another one of pictures. What is in none is warned
            of.

    Example:
        >>> image = keras.Input((4, 4, 3), name="image")
        >>> model = keras.Model(image, keras.layers.Rescaling(1 / 255)(image))
        >>> check_ranges(model, {"image": np.eye(4)[None, ..., None] * np.ones(3)}, "`data`")
        Traceback (most recent call last):
        ValueError: `data` for input 'image' lies in [0, 1], and the model takes [0, 255], as its \
first layers say. Pass examples as the model was trained on.
    """
    known, said = taken_ranges(model), set()
    remedy = remedy or "Pass examples as the model was trained on."
    for name in (tensor.name for tensor in _pictures(model) if tensor.name in named):
        array = np.asarray(named[name])
        low, high = float(array.min()), float(array.max())
        lies = f"{what} for input {name!r} lies in [{low:.4g}, {high:.4g}]"
        if name in known:
            if lies_in((low, high), known[name]):
                said.add(name)
                continue
            first, last = known[name]
            takes = f"the model takes [{first:g}, {last:g}], as its first layers say"
            if _seems(low, high) not in (None, known[name]):
                raise ValueError(f"{lies}, and {takes}. {remedy}")
            warnings.warn(f"{lies}, where {takes}: see that this is so in training.", stacklevel=3)
        elif (times := _times_trained(model, name, array)) is not None:
            if not _NARROW <= times <= FAR:
                seen = f"{times:.3g}" if times >= 1 else f"1/{1 / max(times, 1e-9):.3g}"
                raise ValueError(
                    f"{lies}, and what its first normalization sees of it is {seen} times as far "
                    f"spread as in the training of the model. {remedy}"
                )
            said.add(name)
    return frozenset(said)


def lies_in(given: Range, taken: Range) -> bool:
    """Whether data between the two numbers of `given` are such as a model takes in `taken`.

    One value alone is no range, and is in it.

    Example:
        >>> lies_in((0, 255), (0, 1)), lies_in((0, 1), (0, 255)), lies_in((0, 90), (0, 255))
        (False, False, True)
    """
    (low, high), (first, last) = given, taken
    slack = _SLACK * (last - first)
    inside = low >= first - slack and high <= last + slack
    return inside and (low == high or high - low >= (last - first) / _TINY)


def _seems(low: float, high: float) -> Range | None:
    """The range that pictures between these numbers are in, by all appearances, or None."""
    if low >= -_SLACK and high <= 1 + _SLACK:
        return UNIT
    if low >= -1 - _SLACK and high <= 1 + _SLACK:
        return SIGNED
    for first, last in (PIXELS, _CENTRED):
        edge = _SLACK * (last - first)
        if low >= first - edge and FAR <= high <= last + edge:
            return first, last
    return None


def is_small_part(given: Range, taken: Range) -> bool:
    """Whether data between the numbers of `given` use less than a quarter of `taken`."""
    return given[1] - given[0] < (taken[1] - taken[0]) / _SMALL


def scaled(pixels: np.ndarray, taken: Range) -> np.ndarray:
    """float32 of `pixels` 0 to 255, brought into the range `taken`."""
    first, last = taken
    values = np.asarray(pixels, "float32")
    return values if tuple(taken) == PIXELS else values * np.float32((last - first) / 255) + first


def _pictures(model):
    tensors = keras.tree.flatten(model.inputs)
    return [
        t
        for t in tensors
        if len(t.shape) == 4 and t.shape[-1] in (1, 3) and "float" in str(t.dtype)
    ]


def _first_uses(graph, tracked) -> Iterator[tuple[str, Any, Any]]:
    """`(name, scale, offset)` where an input first meets an operation that changes more than range.

    Args:
        graph: Functional graph.
        tracked: Dict from the id of a tensor to `(name of the input, scale, offset)`: so it comes
            out of what has been applied to the input. Gets those of the graph's own tensors.
    """
    for node in _keras.graph_nodes(graph):
        given = [t for t in node.arguments.keras_tensors if id(t) in tracked]
        if not given:
            continue
        state = tracked[id(given[0])]
        inner = _keras.graph_of(node.operation)
        if inner is not None:
            inside = {id(t): state for t in inner.inputs}
            yield from _first_uses(inner, inside)
            after = inside.get(id(inner.outputs[0]))
        else:
            after = _applied(node, state)
        if after is None:
            yield state
        else:
            tracked.update((id(t), after) for t in node.outputs)


def _applied(node, state):
    """`state` after the node, or None if it does more than change the range."""
    operation, (name, scale, offset) = node.operation, state
    kind = type(operation).__name__
    if kind in _KEEPS or kind.startswith("Random"):
        return state
    if kind == "Rescaling":
        by, plus = (np.asarray(n, "float64") for n in (operation.scale, operation.offset))
        return name, scale * by, offset * by + plus
    if kind == "Normalization" and not operation.invert and operation.built:
        mean, deviation = (np.ravel(n) for n in _moments(operation))
        if not _are_of_pictures((mean - offset) / scale):
            return None
        return name, scale / deviation, (offset - mean) / deviation
    constant = _constant(node)
    if constant is None:
        return None
    changed = {
        "Multiply": lambda c: (scale * c, offset * c),
        "TrueDivide": lambda c: (scale / c, offset / c),
        "Divide": lambda c: (scale / c, offset / c),
        "Add": lambda c: (scale, offset + c),
        "Subtract": lambda c: (scale, offset - c),
    }.get(kind)
    return None if changed is None else (name, *changed(constant))


def _are_of_pictures(means):
    """Whether `means` are such as pictures of 0 to 255, or of 0 to 1, have over a training."""
    return any(np.all((0.1 * high < means) & (means < 0.9 * high)) for _, high in (PIXELS, UNIT))


def _constant(node):
    """The one number, or the one number a channel, that an operation of two takes besides."""
    values = [*node.arguments.args, *node.arguments.kwargs.values()]
    if len(values) != 2 or not isinstance(values[0], keras.KerasTensor):
        return None
    if isinstance(values[1], keras.KerasTensor):
        return None
    array = np.asarray(keras.ops.convert_to_numpy(values[1]), "float64")
    return np.ravel(array) if array.size in (1, 3) else None


def _moments(layer):
    if type(layer).__name__ == "BatchNormalization":
        mean, variance = layer.moving_mean, layer.moving_variance
    else:
        mean, variance = layer.mean, layer.variance
    mean, variance = (
        np.asarray(keras.ops.convert_to_numpy(n), "float64") for n in (mean, variance)
    )
    return mean, np.sqrt(np.maximum(variance, 1e-14))


def _range(scale, offset):
    """What is taken where `scale * x + offset` meets the first kernels, or None if that is open."""
    largest = float(np.max(np.abs(scale)))
    low, high = _NEAR_UNIT
    # In the manner of Caffe pixels keep their spread and lose their mean, around 100.
    if low <= 255 * largest <= high or (largest == 1 and np.min(offset) < -50):
        return PIXELS
    if abs(largest - 127.5) < 1 and np.max(offset) > 100:
        return SIGNED
    if 1.5 <= largest <= high or abs(largest - 255) < 1:
        return UNIT
    return None


def _times_trained(model, name, array):
    """How many times as far spread as in training the first normalization sees input `name`.

    None where there is no such layer, or it has seen nothing.
    """
    graph: Any = _keras.graph_of(model)
    entrance = next((t for t in graph.inputs if t.name == name), None) if graph else None
    found = None if entrance is None else _to_first_statistics(graph, entrance)
    if found is None:
        return None
    parts, layer = found
    mean, deviation = (np.ravel(n) for n in _moments(layer))
    if np.abs(mean).max() < _NEW and np.abs(deviation - 1).max() < _NEW:
        return None
    values = keras.ops.convert_to_tensor(array[:: max(1, len(array) // _SEEN)].astype("float32"))
    for part in parts:
        values = part(values, training=False)
    seen = np.asarray(keras.ops.convert_to_numpy(values), "float64")
    if deviation.size not in (1, seen.shape[-1]) or np.ptp(array) == 0:
        return None
    spread = seen.std(axis=tuple(range(seen.ndim - 1)))
    if not spread.any():  # one example, or one and the same
        return None
    living = np.broadcast_to(deviation > 1e-3 * deviation.max(), spread.shape)
    return float(np.median((spread / deviation)[living]))


def _to_first_statistics(graph, entrance) -> tuple[Sequence[Any], Any] | None:
    """Models that lead in turn from the input `entrance` to what the first normalization that
    reads nothing else takes, and that."""
    reached = {id(entrance)}
    for node in _keras.graph_nodes(graph):
        given = node.arguments.keras_tensors
        if not all(id(tensor) in reached for tensor in given):
            continue
        reached.update(map(id, node.outputs))
        operation, inner = node.operation, None
        if _is_model(operation) and len(given) == len(operation.inputs) == 1:
            within: Any = _keras.graph_of(operation)
            inner = _to_first_statistics(within, within.inputs[0])
        if inner is None and type(operation).__name__ not in _STATISTICS:
            continue
        if len(given) != 1 or not operation.built:
            return None
        parts, layer = inner or ([], operation)
        before = [] if given[0] is entrance else [keras.Model(entrance, given[0])]
        return [*before, *parts], layer
    return None


def _is_model(operation):
    return _keras.graph_of(operation) is not None
