"""Nested state as JSON, with its arrays beside it."""

import numpy as np

ARRAY = "__array__"  # {ARRAY: position in the list of arrays, "dtype": name, "scalar": bool}


def encode(state):
    """`state` as JSON values, and the list of the arrays in it.

    Args:
        state: Dicts with string keys, lists, tuples (which come back as lists), None, booleans,
            ints, floats, strings, NumPy arrays and NumPy scalars, nested as you like.

    Returns:
        JSON-able value and list of arrays.

    Raises:
        TypeError: For anything else; nothing is pickled.

    Example:
        >>> encode({"epoch": 3, "weights": [np.zeros(2)]})[0]
        {'epoch': 3, 'weights': [{'__array__': 0, 'dtype': 'float64', 'scalar': False}]}
    """
    arrays = []
    return _encode(state, arrays), arrays


def _encode(value, arrays):
    if value is None or isinstance(value, (bool, int, float, str)):
        # A float64 scalar of NumPy is a float too, and as exact.
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype != object:
        array = np.asarray(value)
        said = {ARRAY: len(arrays), "dtype": array.dtype.name}
        arrays.append(_standard(array))
        return {**said, "scalar": isinstance(value, np.generic)}
    if isinstance(value, (list, tuple)):
        return [_encode(item, arrays) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _encode(item, arrays) for key, item in value.items()}
    raise TypeError(
        "A checkpoint holds dicts with string keys, lists, numbers, strings, None and NumPy "
        f"arrays. Received: {value!r} (of type {type(value).__module__}."
        f"{type(value).__qualname__}). A callback's `get_state` must give such values."
    )


def decode(value, arrays):
    """The state that `encode` made JSON values and `arrays` of."""
    if isinstance(value, list):
        return [decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if ARRAY not in value:
        return {key: decode(item, arrays) for key, item in value.items()}
    array = arrays[value[ARRAY]]
    if array.dtype.name != value["dtype"]:
        array = array.view(np.dtype(value["dtype"]))
    return array[()] if value["scalar"] else array


def _standard(array):
    """`array` in a type that `.npy` knows: bfloat16 and its kin as unsigned ints of their bits."""
    if array.dtype.kind != "V":
        return array
    return array.view(f"u{array.dtype.itemsize}")
