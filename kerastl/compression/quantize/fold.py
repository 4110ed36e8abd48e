"""A model rewritten for integers: batch normalizations folded, what is joined taken apart."""

import dataclasses
import functools
from typing import Any

import keras
import numpy as np

from kerastl import _keras
from kerastl.compression.quantize import parts
from kerastl.compression.quantize.origins import Constant, Kernel, Same, Scale, affine
from kerastl.compression.quantize.policy import (
    WEIGHTED,
    activation_name,
    fuses,
    is_plain,
    kind_of,
)
from kerastl.graph import flatten, is_fine_tuner
from kerastl.graph.index import GraphIndex
from kerastl.graph.rewrite import copy_of, rebuilt
from kerastl.training import FineTuner

L = keras.layers


@dataclasses.dataclass(frozen=True)
class Folded:
    """A model that computes in inference what another does, in steps that int8 has.

    Attributes:
        model: Flat functional `keras.Model`, or `FineTuner`, with weights of its own.
        origins: Dict from the name of each layer with weights to what it was made of.
    """

    model: keras.Model
    origins: dict[str, Any]


def fold(model: keras.Model) -> Folded:
    """Rewrite a model so that each step of it is one that int8 kernels have.

    A batch normalization goes into the convolution, depthwise convolution or dense layer before it,
    if nothing else reads what that gives. Another one, and `Rescaling`, `Normalization` and the
    `LayerScale` of ConvNeXt, on pictures, becomes a depthwise 1 × 1 convolution, chains of constant
    ones a single one, or a product and a sum where all channels have the same. `SeparableConv2D`
    becomes its two parts, `Dense` on pictures a 1 × 1 convolution, a sum of many a chain of sums of
    two; activations other than ReLU and ReLU6 become layers of their own, `silu(x)` a product of
    `x` and `sigmoid(x)`. All else is copied.

    Args:
        model: Functional or built Sequential `keras.Model`.

    Returns:
        `Folded`. In inference the outputs are equal to float32 rounding. In training the folded
        statistics stand still.

    References:
        Jacob et al., 2018, section 3.2, https://arxiv.org/abs/1712.05877
    """
    flat = flatten(model)
    folding = _Folding(model, GraphIndex(flat))
    kind = FineTuner if is_fine_tuner(model) else keras.Model
    made = rebuilt(folding.index, folding.place, cls=kind)
    origins = {}
    for layer, origin, trains in folding.made:
        origin.give(layer)
        if isinstance(origin, Same):
            parts.copy_flags(origin.layer, layer, folding.training)
        else:
            layer.trainable = trains
        if layer.weights:
            origins[layer.name] = origin
    return Folded(made, origins)


class _Folding:
    """The state of one rewriting.

    Attributes:
        index: `GraphIndex` of the flat model.
        training: Set of the ids of layers that train.
        made: List of `(layer, origin, trains)`.
    """

    def __init__(self, model: keras.Model, index: GraphIndex) -> None:
        self.index, self.made = index, []
        self.training = {id(x) for x in parts.training_leaves(model)}
        self._makers, self._absorbed, self._copied = {}, set(), set()

    def place(self, node: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The outputs of one call. A layer that is called twice is made once."""
        operation = node.operation
        given = args[0] if args else kwargs.get("inputs")
        if id(operation) in self._absorbed:
            return given
        if id(operation) not in self._makers:
            self._makers[id(operation)] = self._maker(node)
        if id(operation) in self._copied:
            return self._makers[id(operation)](*args, **kwargs)
        return self._makers[id(operation)](given)

    def _maker(self, node):
        operation, kind = node.operation, kind_of(node.operation)
        rank = len(node.input_tensors[0].shape)
        if kind in WEIGHTED and is_plain(operation):
            return self._weighted(node, kind, rank)
        if kind == "SeparableConv2D" and is_plain(operation):
            return self._separable(node)
        if rank == 4 and self._is_scale(operation, kind):
            return self._scale(node)
        if rank == 4 and _is_constant(operation, kind, node):
            return self._constant(node)
        if kind in ("Add", "Multiply", "Average") and isinstance(operation, keras.Layer):
            return parts.chain(operation, kind, len(node.input_tensors))
        if kind in ("silu", "hard_sigmoid"):
            trains = not isinstance(operation, keras.Layer) or id(operation) in self.training
            return parts.activation(kind, operation.name, trains)
        return self._copy(operation)

    def _copy(self, operation):
        new = copy_of(operation)
        self._copied.add(id(operation))
        if isinstance(operation, keras.Layer):
            self.made.append((new, Same(operation), None))
        return new

    def _weighted(self, node, kind, rank):
        layer, norm = node.operation, self._norm_after(node)
        fused = activation_name(layer.activation)
        changes = {"use_bias": layer.use_bias or norm is not None}
        if not fuses(kind, fused):
            changes["activation"] = None
        if norm is not None:  # it would hold another kernel than the one it was meant for
            name = "depthwise" if kind == "DepthwiseConv2D" else "kernel"
            changes[f"{name}_constraint"] = changes["bias_constraint"] = None
        if kind == "Dense" and rank == 4:
            new = _pointwise(layer, layer.units, layer.activation if fuses(kind, fused) else None)
        else:
            new = copy_of(layer, **changes)
        self._build(new, node.input_tensors[0].shape, Kernel(layer, norm))
        return self._then(new, layer, kind, fused)

    def _separable(self, node):
        layer, norm = node.operation, self._norm_after(node)
        first = L.DepthwiseConv2D(
            layer.kernel_size,
            layer.strides,
            layer.padding,
            layer.depth_multiplier,
            dilation_rate=layer.dilation_rate,
            use_bias=False,
            depthwise_regularizer=layer.depthwise_regularizer,
            dtype=layer.dtype_policy,
            name=f"{layer.name}_depthwise",
        )
        fused = activation_name(layer.activation)
        activation = layer.activation if fuses("Conv2D", fused) else None
        second = _pointwise(layer, layer.filters, activation, layer.use_bias or norm is not None)
        shape = node.input_tensors[0].shape
        self._build(first, shape, Kernel(layer, None, "depthwise_kernel", owns_bias=False))
        middle = first.compute_output_shape(shape)
        self._build(second, middle, Kernel(layer, norm, "pointwise_kernel"))
        both = functools.partial(_one_after_the_other, first, second)
        return self._then(both, layer, "Conv2D", fused)

    def _then(self, new, layer, kind, fused):
        """`new`, and after it the activation of `layer` if it is none that int8 kernels hold."""
        if fuses(kind, fused):
            return new
        name, trains = f"{layer.name}_activation", id(layer) in self.training
        after = parts.activation(fused or layer.activation, name, trains)
        return functools.partial(_one_after_the_other, new, after)

    def _scale(self, node):
        layer = node.operation
        has_offset = type(layer) is L.BatchNormalization
        new = _channelwise(layer, has_offset)
        self._build(new, node.input_tensors[0].shape, Scale(layer))
        return new

    def _constant(self, node):
        """What a chain of layers that scale and shift does: two operations, or a convolution."""
        shape = node.input_tensors[0].shape
        first = node.operation
        scale, offset = affine(first)
        while True:
            node = self.index.follower(node)
            if node is None or not _is_constant(node.operation, kind_of(node.operation), node):
                break
            self._absorbed.add(id(node.operation))
            more, shift = affine(node.operation)
            scale, offset = scale * more, offset * more + shift
        if np.size(scale) == np.size(offset) == 1:
            return parts.scaled_and_shifted(first.name, float(scale), float(offset))
        scale, offset = (np.broadcast_to(value, shape[-1:]) for value in (scale, offset))
        new = _channelwise(first, True)
        self._build(new, shape, Constant(scale, offset), trains=False)
        return new

    def _build(self, new, shape, origin, trains=None):
        new.build(shape)
        if trains is None:
            trains = id(origin.layer) in self.training
        self.made.append((new, origin, trains))

    def _norm_after(self, node):
        """The batch normalization that follows every call of a layer, and nothing else; or None."""
        layer = node.operation
        readers = [self.index.sole_reader(call) for call in self.index.calls[id(layer)]]
        if None in readers or activation_name(layer.activation) != "linear":
            return None
        norm = readers[0].operation
        every = {id(reader) for reader in readers}
        if type(norm) is not L.BatchNormalization or not _on_channels(norm, readers[0]):
            return None
        if {id(call) for call in self.index.calls[id(norm)]} != every:
            return None
        self._absorbed.add(id(norm))
        return norm

    def _is_scale(self, layer, kind):
        if kind == "BatchNormalization":
            node = self.index.calls[id(layer)][0]
            return layer.scale and layer.center and _on_channels(layer, node)
        is_convnext = _keras.keras_module(layer) == "applications.convnext"
        return is_convnext and type(layer).__name__ == "LayerScale"


def _is_constant(layer, kind, node):
    channels = node.input_tensors[0].shape[-1]
    if kind == "Normalization":
        return not layer.invert and np.size(layer.mean) in (1, channels)
    if kind == "BatchNormalization":
        return _on_channels(layer, node) and not (layer.scale and layer.center)
    return kind == "Rescaling" and np.size(layer.scale) in (1, channels)


def _on_channels(norm, node):
    return norm.axis in (-1, len(node.input_tensors[0].shape) - 1)


def _channelwise(layer, use_bias):
    return L.DepthwiseConv2D(1, use_bias=use_bias, dtype=layer.dtype_policy, name=layer.name)


def _pointwise(layer, filters, activation, use_bias=None):
    regularizer = getattr(layer, "kernel_regularizer", None)
    return L.Conv2D(
        filters,
        1,
        activation=activation,
        use_bias=layer.use_bias if use_bias is None else use_bias,
        kernel_regularizer=getattr(layer, "pointwise_regularizer", regularizer),
        bias_regularizer=layer.bias_regularizer,
        dtype=layer.dtype_policy,
        name=layer.name,
    )


def _one_after_the_other(first, second, x):
    return second(first(x))
