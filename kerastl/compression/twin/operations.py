"""Which `keras.ops` nodes of a graph are a layer in tf_keras, and its arguments."""

from typing import Any

import keras

from kerastl import _keras
from kerastl.compression import island
from kerastl.compression.twin.equality import NoEqualError
from kerastl.compression.twin.layers import registered, spelled

_MODULES = ("ops.numpy", "ops.nn")
_ACTIVATIONS = {
    "Relu": "relu", "Relu6": "relu6", "Sigmoid": "sigmoid", "Tanh": "tanh", "Silu": "silu",
    "Softplus": "softplus", "Softsign": "softsign", "Selu": "selu", "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu", "HardTanh": "hard_tanh", "LogSigmoid": "log_sigmoid",
}  # fmt: skip
_POOLS = {"Mean": "GlobalAveragePooling", "Max": "GlobalMaxPooling"}


def translated(node: Any, name: str) -> Any:
    """The tf_keras layer that computes what one node of a Keras 3 graph computes.

    Args:
        node: Node of a `keras.ops` operation.
        name: String, name of the layer.

    Returns:
        Layer, not built. It takes the tensors of the node: one by itself, several as a list.

    Raises:
        NoEqualError: If there is none.
    """
    kind, config = _translated(node)
    return getattr(island.tf_keras().layers, kind)(**config, name=name, dtype=node.outputs[0].dtype)


def _translated(node):
    """`(name of a class in tf_keras.layers, config)`."""
    operation, kind = node.operation, type(node.operation).__name__
    if _keras.keras_module(operation) not in _MODULES or not _all_floats_alike(node):
        raise NoEqualError(kind)
    if kind in _ACTIVATIONS:
        return "Activation", {"activation": spelled(keras.activations.get(_ACTIVATIONS[kind]))}
    if kind in _RULES:
        return _RULES[kind](node)
    raise NoEqualError(kind)


def _all_floats_alike(node):
    dtypes = {t.dtype for t in [*node.input_tensors, *node.outputs]}
    return len(dtypes) == 1 and keras.backend.is_float_dtype(dtypes.pop())


def _elementwise(layer, scaled):
    """A rule for x1 and x2 both tensors, and, by `scaled(number, number is first)`, for one."""

    def rule(node):
        operands = [*node.arguments.args, *node.arguments.kwargs.values()]
        tensors = [x for x in operands if isinstance(x, keras.KerasTensor)]
        ranks = {len(tensor.shape) for tensor in tensors}
        if layer and len(operands) == len(tensors) == 2 and len(ranks) == 1:
            return layer, {}
        numbers = [x for x in operands if isinstance(x, (int, float))]
        if len(operands) != 2 or len(tensors) != 1 or len(numbers) != 1 or scaled is None:
            raise NoEqualError(type(node.operation).__name__)
        scale, offset = scaled(numbers[0], operands[0] is numbers[0])
        return "Rescaling", {"scale": scale, "offset": offset}

    return rule


def _quotient(number, first):
    if first or number == 0:
        raise NoEqualError("division of a number by a tensor")
    return 1.0 / number, 0.0


def _one_tensor(node):
    """The shapes of input and output of a node with one tensor, the batch kept in front."""
    if len(node.input_tensors) != 1 or len(node.outputs) != 1:
        raise NoEqualError(type(node.operation).__name__)
    before, after = node.input_tensors[0].shape, node.outputs[0].shape
    if len(before) < 2 or len(after) < 2 or before[0] != after[0]:
        raise NoEqualError(type(node.operation).__name__)
    return before, after


def _reshaped(node):
    before, after = _one_tensor(node)
    # Only if each example keeps its numbers; (batch, 6) to (batch * 2, 3) has None in front, too.
    if None in (*before[1:], *after[1:]) or _size(before[1:]) != _size(after[1:]):
        raise NoEqualError(type(node.operation).__name__)
    return "Reshape", {"target_shape": tuple(after[1:])}


def _size(shape):
    product = 1
    for side in shape:
        product *= side
    return product


def _transposed(node):
    before, _ = _one_tensor(node)
    axes = node.operation.axes or tuple(reversed(range(len(before))))
    axes = [axis % len(before) for axis in axes]
    if axes[0] != 0:
        raise NoEqualError("Transpose of the batch")
    return "Permute", {"dims": tuple(axes[1:])}


def _concatenated(node):
    rank = len(node.input_tensors[0].shape)
    if len(node.input_tensors) < 2 or node.operation.axis % rank == 0:
        raise NoEqualError("Concatenate of one tensor, or of batches")
    return "Concatenate", {"axis": node.operation.axis}


def _padded(node):
    before, _ = _one_tensor(node)
    operation, rank = node.operation, len(before)
    widths = [tuple(pair) for pair in operation.pad_width]
    values = [*node.arguments.args[1:], *node.arguments.kwargs.values()]
    spatial = len(widths) == rank and widths[0] == widths[-1] == (0, 0)
    zeros = operation.mode == "constant" and all(value in (None, 0) for value in values)
    if not (3 <= rank <= 5 and spatial and zeros):
        raise NoEqualError("Pad other than with zeros around the sides")
    widths = widths[1] if rank == 3 else tuple(widths[1:-1])
    return f"ZeroPadding{rank - 2}D", {"padding": widths, **_last(rank)}


def _last(rank):
    # The layer for sequences knows no other format, and no argument for it.
    return {} if rank == 3 else {"data_format": "channels_last"}


def _pooled(node):
    before, _ = _one_tensor(node)
    operation, rank = node.operation, len(before)
    axes = operation.axis if isinstance(operation.axis, (list, tuple)) else [operation.axis]
    wanted = list(range(1, rank - 1))
    if not 3 <= rank <= 5 or None in axes or sorted(axis % rank for axis in axes) != wanted:
        raise NoEqualError(f"{type(operation).__name__} over axes {axes}")
    if getattr(operation, "initial", None) is not None:
        raise NoEqualError("Max with an initial value")
    name = f"{_POOLS[type(operation).__name__]}{rank - 2}D"
    return name, {"keepdims": operation.keepdims, "data_format": "channels_last"}


def _gelu(node):
    if node.operation.approximate:
        return "Activation", {"activation": registered("gelu", approximate=True)}
    return "Activation", {"activation": "gelu"}


def _softmax(node):
    if not isinstance(node.operation.axis, int):
        raise NoEqualError(f"Softmax over axis {node.operation.axis}")
    return "Softmax", {"axis": node.operation.axis}


_RULES = {
    "Add": _elementwise("Add", lambda number, first: (1.0, number)),
    "Subtract": _elementwise("Subtract", lambda n, first: (-1.0, n) if first else (1.0, -n)),
    "Multiply": _elementwise("Multiply", lambda number, first: (number, 0.0)),
    "TrueDivide": _elementwise(None, _quotient),
    "Divide": _elementwise(None, _quotient),
    "Maximum": _elementwise("Maximum", None),
    "Minimum": _elementwise("Minimum", None),
    "Negative": lambda node: ("Rescaling", {"scale": -1.0, "offset": 0.0}),
    "Reshape": _reshaped,
    "Squeeze": _reshaped,
    "ExpandDims": _reshaped,
    "Transpose": _transposed,
    "Concatenate": _concatenated,
    "Pad": _padded,
    "Mean": _pooled,
    "Max": _pooled,
    "Softmax": _softmax,
    "LeakyRelu": lambda node: ("LeakyReLU", {"alpha": node.operation.negative_slope}),
    "Elu": lambda node: ("ELU", {"alpha": node.operation.alpha}),
    "Gelu": _gelu,
}
