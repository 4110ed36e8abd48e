"""Examples to measure the ranges of activations on, drawn from whatever data the caller has."""

import warnings
from typing import Any

import keras
import numpy as np

from kerastl.data import ranges
from kerastl.export import flatbuffer, metadata
from kerastl.export.litert_model import Tensor, described
from kerastl.export.naming import AnyModel, every_layer, input_names, is_tf_keras
from kerastl.graph import inputs

SAMPLES = 100
READ = 20 * SAMPLES  # examples read of a dataset, from which the samples are drawn


def draw(
    graph: AnyModel, data: Any, *, count: int = SAMPLES, seed: int = 0
) -> dict[str, np.ndarray]:
    """Calibration samples for `graph`.

    Args:
        graph: Functional model.
        data: Array of examples; for several inputs a dict by name or a list in order. Or a
            tuple `(x, y)` of such examples and their classes, of which as many are drawn of each
            class. Or what gives either, batch by batch or one by one, of which the first 2,000
            examples are read: a `tf.data.Dataset`, a `keras.utils.PyDataset`, a generator or the
            function that makes it. Prepared as for training.
        count: Int, how many samples to draw.
        seed: Int, decides which.

    Returns:
        Dict from input name to array `(samples, ...)`.

    Raises:
        ValueError: If there are none, they do not fit the model's inputs, or they lie in another
            range than the model takes.

    References:
        Jacob et al., 2018, section 3, https://arxiv.org/abs/1712.05877
    """
    arrays, y = _read(graph, data)
    named = dict(zip(input_names(graph), arrays, strict=True))
    tensors = dict(zip(input_names(graph), keras.tree.flatten(graph.input), strict=True))
    named = {name: _fitting(tensors[name], array) for name, array in named.items()}
    counts = {name: len(array) for name, array in named.items()}
    if len(set(counts.values())) != 1 or not min(counts.values()):
        raise ValueError(
            "`representative_data` must hold at least one example, and as many for each input. "
            f"Received: {counts} examples."
        )
    rows = _rows(min(counts.values()), y, count, np.random.default_rng(seed))
    samples = {name: array[rows] for name, array in named.items()}
    _check_ranges(graph, samples)
    return samples


def _read(graph, data):
    """`(x, y)` of the first examples; y is None if `data` has no single class for each."""
    if data is None:
        raise ValueError(
            "`representative_data` must be examples to measure the ranges of activations on: an "
            "array, a tuple (x, y), or a tf.data.Dataset, PyDataset or generator of batches. "
            "Received: None. About 100 examples are enough."
        )
    parts, count = [], 0
    for arrays, y in inputs.batches(graph, data, "representative_data"):
        arrays = [np.asarray(array) for array in arrays]
        parts.append((arrays, None if keras.tree.is_nested(y) or y is None else np.asarray(y)))
        count += len(arrays[0]) if arrays[0].ndim else 1
        if count >= READ:
            break
    if not parts:
        raise ValueError("`representative_data` must hold batches. Received: an empty dataset.")
    x = [_joined(column) for column in zip(*(part[0] for part in parts), strict=True)]
    classes = [part[1] for part in parts]
    return x, None if any(y is None for y in classes) else _joined(classes)


def _joined(arrays):
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _fitting(tensor, array):
    array = np.asarray(array)
    expected = tuple(tensor.shape[1:])
    if array.shape[1:] != expected or not array.ndim:
        raise ValueError(
            f"`representative_data` for input {tensor.name!r} must have the shape "
            f"(examples, {', '.join(map(str, expected))}). Received: shape={array.shape}"
        )
    dtype = np.dtype(getattr(tensor.dtype, "name", tensor.dtype))
    if dtype.kind in "iu" and array.dtype.kind == "f":
        raise ValueError(
            f"`representative_data` for input {tensor.name!r} must hold integers. "
            f"Received: dtype={array.dtype.name}"
        )
    array = array.astype(dtype)
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(
            f"`representative_data` for input {tensor.name!r} must be finite. "
            f"Received: {np.count_nonzero(~np.isfinite(array))} values that are not."
        )
    return array


def _rows(total, y, count, rng):
    """Which rows to take: at random, class by class in turn where classes are known."""
    order = rng.permutation(total)
    if y is None:
        return np.sort(order[:count])
    if len(y) != total:
        raise ValueError(
            "`representative_data` must have one class for each example. "
            f"Received: {total} examples, {len(y)} classes."
        )
    y = y.argmax(-1) if y.ndim > 1 and y.shape[-1] > 1 else y.reshape(-1)
    y = y[order]
    # How many of its class stand before each: all firsts come first, then all seconds, ...
    turn = np.zeros(total, int)
    for label in np.unique(y):
        turn[y == label] = np.arange(np.count_nonzero(y == label))
    return np.sort(order[np.argsort(turn, kind="stable")[:count]])


def _check_ranges(graph, samples):
    """Refuse another range than the model takes; warn of what is hardly one."""
    if not is_tf_keras(graph):
        ranges.check_ranges(graph, samples, "`representative_data`")
    taken = expected_ranges(graph)
    for name, array in samples.items():
        if array.dtype.kind != "f":
            continue
        low, high = float(array.min()), float(array.max())
        problem = None
        if low == high:
            problem = "which is one value"
        elif name in taken and ranges.is_small_part((low, high), taken[name]):
            first, last = taken[name]
            problem = f"a small part of the [{first}, {last}] that the model takes"
        if problem:
            warnings.warn(
                f"`representative_data` for input {name!r} lies in [{low:.4g}, {high:.4g}], "
                f"{problem}. Ranges measured on it will not hold for real inputs. Pass examples "
                "as the model was trained on.",
                stacklevel=4,
            )


def expected_ranges(graph: AnyModel) -> dict[str, tuple[float, float]]:
    """Dict from the names of picture inputs that take pixels to the range of these, 0 to 255.

    A network that rescales by itself takes them; see `data.ranges.taken_ranges`.

    Example:
        >>> pixels = keras.Input((4, 4, 3), name="pixels")
        >>> expected_ranges(keras.Model(pixels, keras.layers.Rescaling(1 / 127.5)(pixels)))
        {'pixels': (0, 255)}
    """
    if is_tf_keras(graph):
        return _of_tf_keras(graph)
    taken = ranges.taken_ranges(graph)
    return {name: one for name, one in taken.items() if one == ranges.PIXELS}


def _of_tf_keras(graph):
    """The same by any layer that rescales: the calls of that graph are not read."""
    scales = [layer.scale for layer in every_layer(graph) if type(layer).__name__ == "Rescaling"]
    pictures = [
        tensor.name
        for tensor in keras.tree.flatten(graph.input)
        if len(tensor.shape) == 4 and tensor.shape[-1] in (1, 3)
    ]
    near = any(0.5 <= 255 * float(np.max(np.abs(scale))) <= 10 for scale in scales)
    return dict.fromkeys(pictures, ranges.PIXELS) if near else {}


def range_of_file(content: bytes, tensor: Tensor) -> tuple[float, float] | None:
    """The values that the input `tensor` of a `.tflite` covers, or None if it does not say so.

    Args:
        content: Bytes of the file.
        tensor: `Tensor`; where it is float, the step that quantizes it says it, or the metadata.
    """
    if not tensor.scale:
        from ai_edge_litert.interpreter import Interpreter

        edges = flatbuffer.edges(content)
        found = Interpreter(model_content=content).get_tensor_details()
        names = {detail["index"]: detail["name"] for detail in found}
        given = [names[tensor.index]]
        after = [out[0] for op, read, out in edges if op == "QUANTIZE" and read == given]
        if not after:
            return ranges.PIXELS if tensor.name in metadata.read_pixels(content) else None
        (tensor,) = described([detail for detail in found if detail["name"] == after[0]], {})
    ends = np.iinfo(tensor.dtype)
    low, high = (float(tensor.scale * (end - tensor.zero_point)) for end in (ends.min, ends.max))
    return low, high
