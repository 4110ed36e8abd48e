"""What a model is fed: data in whatever form they come, as its inputs in their order."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from kerastl._base.checks import listed

TOGETHER = 32  # examples that come one by one


def in_order(model: Any, data: Any, called: str = "data") -> list[Any]:
    """The arrays of `data`, one for each of `model.inputs`.

    Args:
        model: Model of Keras or tf_keras with declared inputs.
        data: Array; or arrays as a dict by the names of the inputs (or by the keys that the model
            was built with), in which other names are passed over as `predict` does; or as a list
            in the order of the inputs.
        called: What the caller calls `data`, for an error.

    Raises:
        ValueError: If an input is missing, or there are too many arrays.

    Example:
        >>> zoom, angle = keras.Input((2,), name="zoom"), keras.Input((3,), name="angle")
        >>> model = keras.Model([zoom, angle], keras.layers.Concatenate()([zoom, angle]))
        >>> found = in_order(model, {"angle": np.zeros((5, 3)), "zoom": np.zeros((5, 2))})
        >>> [array.shape for array in found]
        [(5, 2), (5, 3)]
    """
    names, structure = [tensor.name for tensor in model.inputs], _structure(model)
    if isinstance(data, (list, tuple)) and len(data) == 1:
        data = data[0]
    if isinstance(data, Mapping):
        arrays = keras.tree.flatten(_by_name(names, structure, data, called))
    else:
        arrays = keras.tree.flatten(data)
        if len(arrays) > 1 and isinstance(structure, dict) and list(structure) != sorted(structure):
            raise ValueError(
                f"`{called}` must be a dict of {listed(structure)}, because the model was built on "
                f"one, which has no order. Received: {len(arrays)} arrays."
            )
    if len(arrays) != len(names):
        raise ValueError(
            f"`{called}` must fit the model, which has {len(names)} inputs: {listed(names)}. "
            f"Received: {len(arrays)} arrays."
        )
    return arrays


def _structure(model):
    return model.inputs if isinstance(model, keras.Sequential) else model.input


def _by_name(names, structure, data, called):
    if isinstance(structure, dict) and set(structure) <= set(data):
        return {key: data[key] for key in structure}
    if set(names) <= set(data):
        return [data[name] for name in names]
    wanted = structure if isinstance(structure, dict) else names
    raise ValueError(
        f"`{called}` must go by the names of the model's inputs: {listed(wanted)}. "
        f"Received: {listed(data) or 'no name'}."
    )


def is_arrays(data: Any) -> bool:
    """Whether `data` is one array or nested ones, not something that gives batches."""
    return not hasattr(data, "element_spec") and all(
        hasattr(leaf, "shape") for leaf in keras.tree.flatten(data)
    )


def unpacked(model: Any, element: Any) -> tuple[Any, Any]:
    """`(inputs, targets)` of what a dataset gives, or of arrays; targets are None if it has none.

    A tuple of two or three is inputs, targets and weights, unless it is just the model's inputs.
    """
    if isinstance(element, tuple) and len(element) in (2, 3):
        nested = keras.tree.is_nested(element[0])
        if nested or len(element) != len(model.inputs):
            return element[0], element[1]
    return element, None


def batches(model: Any, data: Any, called: str = "data") -> Iterator[tuple[list[Any], Any]]:
    """Pairs of `(inputs, targets)`, the inputs as `in_order` gives them.

    Args:
        model: As in `in_order`.
        data: Arrays as in `in_order`, which are one batch, or a tuple `(x, y)` of such. Or what
            gives batches of either, or single examples, of which 32 become a batch: a
            `tf.data.Dataset`, a `keras.utils.PyDataset`, any iterable, or a function without
            arguments that returns one.
        called: As in `in_order`.

    Raises:
        TypeError: If `data` is nothing of the kind.
        ValueError: As in `in_order`.

    Example:
        >>> model = keras.Sequential([keras.Input((2,), name="x"), keras.layers.Dense(1)])
        >>> def examples():
        ...     yield from np.zeros((40, 2))
        >>> [x.shape for (x,), y in batches(model, examples)]
        [(32, 2), (8, 2)]
    """
    x, y = unpacked(model, data)
    if is_arrays(x):
        yield in_order(model, x, called), y
        return
    singles: list[Any] = []
    for element in _elements(data, called):
        x, y = unpacked(model, element)
        arrays = [_array(leaf) for leaf in in_order(model, x, called)]
        if not _is_one_example(model, arrays):
            yield arrays, y
            continue
        singles.append((arrays, y))
        if len(singles) == TOGETHER:
            yield _stacked(singles)
            singles = []
    if singles:
        yield _stacked(singles)


def _elements(data: Any, called: str) -> Iterable[Any]:
    if isinstance(data, keras.utils.PyDataset):
        count = data.num_batches
        places = itertools.count() if count is None else range(count)
        return (data[place] for place in places)
    if isinstance(data, Callable) and not isinstance(data, (Iterable, type)):
        data = data()
    if not isinstance(data, Iterable) or isinstance(data, (str, bytes)):
        raise TypeError(
            f"`{called}` must be arrays, a tuple (x, y) of them, or a tf.data.Dataset, PyDataset, "
            f"generator or other iterable of batches. Received: {type(data).__module__}."
            f"{type(data).__qualname__}"
        )
    return data


def _array(leaf):
    return leaf if hasattr(leaf, "shape") else np.asarray(leaf)


def _is_one_example(model, arrays):
    return all(
        len(array.shape) == len(tensor.shape) - 1
        and all(
            size in (None, got)
            for size, got in zip(tuple(tensor.shape)[1:], tuple(array.shape), strict=True)
        )
        for tensor, array in zip(model.inputs, arrays, strict=True)
    )


def _stacked(singles):
    columns = zip(*(arrays for arrays, _ in singles), strict=True)
    targets = [y for _, y in singles]
    y = None if targets[0] is None else keras.tree.map_structure(_stack, *targets)
    return [_stack(*column) for column in columns], y


def _stack(*values):
    return np.stack([np.asarray(value) for value in values])
