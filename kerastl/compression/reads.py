"""What the weights of a layer multiply, and how well some of it tells the rest."""

from collections.abc import Mapping

import keras
import numpy as np

from kerastl._base.types import TensorLike
from kerastl.compression.kernels import SEPARABLE, TRANSPOSED
from kerastl.graph.index import GraphIndex

TINY, SHRINKAGE = 1e-6, 0.01  # of an input's second moment, see `steadied`


def mixed_by(layer: keras.Layer, value: TensorLike) -> TensorLike:
    """What the kernel of `layer` that mixes channels reads where the layer itself reads `value`."""
    if not isinstance(layer, SEPARABLE):
        return value
    return keras.ops.depthwise_conv(
        keras.ops.cast(value, layer.compute_dtype),
        keras.ops.cast(layer.depthwise_kernel, layer.compute_dtype),
        strides=layer.strides,
        padding=layer.padding,
        data_format=layer.data_format,
        dilation_rate=layer.dilation_rate,
    )


def steadied(moments: np.ndarray, inputs: int, rows: int) -> np.ndarray:
    """`moments` with a little more on the diagonal, so that they can be inverted.

    It keeps equal inputs from a division by zero, and many inputs from being fitted to few places:
    relative to each input's own moment, and none on a constant.

    Args:
        moments: Matrix of second moments, or of their sums, of `inputs` inputs and, last, of the
            constant 1 if that is one of them.
        inputs: Int.
        rows: Int, places that the moments are of.
    """
    own = np.diag(moments)
    more = (TINY + SHRINKAGE * inputs / rows) * own
    more[inputs:] = 0
    return moments + np.diag(more + TINY**2 * max(float(own.mean()), TINY))


def sink_of(
    layer: keras.Layer, after: Mapping[int, keras.Layer]
) -> tuple[keras.Variable, float] | None:
    """The variable that takes up a constant added to the outputs of `layer`, and its sign.

    A transposed convolution has none: not every output has all taps.
    """
    if isinstance(layer, TRANSPOSED):
        return None
    if layer.bias is not None:
        return layer.bias, 1.0
    is_linear = layer.activation is None or layer.activation is keras.activations.linear
    norm = after.get(id(layer)) if is_linear else None
    return None if norm is None else (norm.moving_mean, -1.0)


def norms_after(model: keras.Model) -> dict[int, keras.Layer]:
    """Dict from the id of a layer to the batch normalization that alone reads what it returns."""
    index = GraphIndex(model)
    pairs = [(node, index.follower(node)) for node in index.nodes]
    return {
        id(node.operation): after.operation
        for node, after in pairs
        if after is not None and isinstance(after.operation, keras.layers.BatchNormalization)
    }
