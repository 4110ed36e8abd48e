"""How channels pass through a layer: what comes out, and which axes of its weights follow."""

import dataclasses
import math
import numbers
from typing import Any

import keras
import numpy as np

from kerastl.compression.channels.groups import Atoms

L = keras.layers

PASSING = (
    L.ReLU, L.LeakyReLU, L.ELU, L.Dropout, L.SpatialDropout1D, L.SpatialDropout2D,
    L.SpatialDropout3D, L.GaussianNoise, L.GaussianDropout, L.Identity, L.ActivityRegularization,
    L.ZeroPadding1D, L.ZeroPadding2D, L.ZeroPadding3D, L.Cropping1D, L.Cropping2D, L.Cropping3D,
    L.UpSampling1D, L.UpSampling2D, L.UpSampling3D, L.MaxPooling1D, L.MaxPooling2D,
    L.MaxPooling3D, L.AveragePooling1D, L.AveragePooling2D, L.AveragePooling3D,
    L.GlobalAveragePooling1D, L.GlobalAveragePooling2D, L.GlobalAveragePooling3D,
    L.GlobalMaxPooling1D, L.GlobalMaxPooling2D, L.GlobalMaxPooling3D,
)  # fmt: skip
MERGES = (L.Add, L.Subtract, L.Multiply, L.Average, L.Maximum, L.Minimum)
CONVOLUTIONS = (L.Conv1D, L.Conv2D, L.Conv3D)
TRANSPOSED = (L.Conv1DTranspose, L.Conv2DTranspose, L.Conv3DTranspose)
SEPARABLE = (L.SeparableConv1D, L.SeparableConv2D)
DEPTHWISE = (L.DepthwiseConv1D, L.DepthwiseConv2D)

# Functions of one channel at a time, as layers, activations or `keras.ops` nodes.
ELEMENTWISE = frozenset((
    "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "sigmoid",
    "hard_sigmoid", "log_sigmoid", "silu", "swish", "hard_silu", "hard_swish", "tanh", "hard_tanh",
    "tanh_shrink", "soft_shrink", "hard_shrink", "softplus", "softsign", "sparse_plus",
    "squareplus", "mish", "exponential", "threshold",
))  # fmt: skip
MERGING_OPS = frozenset(("add", "subtract", "multiply", "true_divide", "maximum", "minimum"))


@dataclasses.dataclass
class Call:
    """One call of an operation, as layouts.

    Attributes:
        operation: The layer or `keras.ops` operation.
        inputs: List of layouts of the tensors that it is given.
        shapes: List of their shapes.
        outputs: List of the shapes of what it returns.
        constants: List of what else it is given.
        atoms: `Atoms` of the network.
    """

    operation: keras.Operation
    inputs: list[np.ndarray]
    shapes: list[tuple[int | None, ...]]
    outputs: list[Any]
    constants: list[Any]
    atoms: Atoms


@dataclasses.dataclass
class Flow:
    """What a layer does to channels.

    Attributes:
        output: Layout of what comes out.
        axes: Dict from the name of a weight to a dict from axis to the layout it follows.
        sizes: Dict from the name of a setting of the layer to the layout whose length it is.
        makes: Name of the weight whose filters make `output`, or None if it makes none.
    """

    output: np.ndarray
    axes: dict[Any, dict[int, np.ndarray]] = dataclasses.field(default_factory=dict)
    sizes: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    makes: str | None = None

    @property
    def mixing_axes(self) -> tuple[int, int]:
        """The axes of the inputs and of the outputs in the weight that makes channels."""
        axes = self.axes[self.makes]
        out = next(axis for axis, layout in axes.items() if layout is self.output)
        return next(axis for axis in axes if axis != out), out

    @property
    def reads(self) -> np.ndarray:
        """Layout of the inputs that the weight that makes channels mixes."""
        return self.axes[self.makes][self.mixing_axes[0]]


def flow_of(call: Call) -> Flow | str:
    """`Flow` of a `Call`, or a string that says why its channels must stay as they are."""
    operation = call.operation
    if getattr(operation, "data_format", None) == "channels_first":
        return "is channels_first"
    if getattr(operation, "lora_enabled", False):
        return "has LoRA: merge it first"
    if getattr(operation, "quantization_mode", None):
        return "is quantized"
    for kinds, rule in RULES:
        for kind in kinds:
            if isinstance(operation, kind) and type(operation).call is kind.call:
                return rule(call)
    return _of_function(call)


def _passing(call):
    return Flow(call.inputs[0])


def _activation(call):
    if not _is_elementwise(call.operation.activation):
        return "mixes channels"
    return Flow(call.inputs[0])


def _prelu(call):
    layer, rank = call.operation, len(call.shapes[0])
    shared = {axis % rank for axis in layer.shared_axes or ()}
    if rank - 1 in shared:
        return Flow(call.inputs[0])
    return Flow(call.inputs[0], axes={"alpha": {rank - 2: call.inputs[0]}})


def _batch_norm(call):
    layer, layout = call.operation, call.inputs[0]
    if layer.axis % len(call.shapes[0]) != len(call.shapes[0]) - 1:
        return "normalizes another axis than the last"
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    return Flow(layout, axes={name: {0: layout} for name in names})


def _convolution(call):
    layer = call.operation
    if getattr(layer, "groups", 1) != 1:
        return f"has {layer.groups} groups of channels"
    rank = len(layer.kernel.shape)
    order = (rank - 1, rank - 2) if isinstance(layer, TRANSPOSED) else (rank - 2, rank - 1)
    return _maker(call, "kernel", *order, size="filters")


def _dense(call):
    return _maker(call, "kernel", 0, 1, size="units")


def _separable(call):
    layer, layout = call.operation, call.inputs[0]
    rank = len(layer.pointwise_kernel.shape)
    flow = _maker(call, "pointwise_kernel", rank - 2, rank - 1, size="filters")
    flow.axes["pointwise_kernel"][rank - 2] = np.repeat(layout, layer.depth_multiplier)
    flow.axes["depthwise_kernel"] = {rank - 2: layout}
    return flow


def _maker(call, name, axis_in, axis_out, *, size):
    layer = call.operation
    output = call.atoms.make(getattr(layer, name).shape[axis_out], layer)
    if not _is_elementwise(layer.activation):
        call.atoms.pin(output, f"{layer.name} mixes channels in its activation")
    axes = {name: {axis_in: call.inputs[0], axis_out: output}, "bias": {0: output}}
    return Flow(output, axes=axes, sizes={size: output}, makes=name)


def _depthwise(call):
    layer, layout = call.operation, call.inputs[0]
    output = np.repeat(layout, layer.depth_multiplier)
    if not _is_elementwise(layer.activation):
        return "mixes channels in its activation"
    axis = len(layer.kernel.shape) - 2
    return Flow(output, axes={"kernel": {axis: layout}, "bias": {0: output}})


def _flatten(call):
    places = math.prod(size or 1 for size in call.shapes[0][1:-1])
    if None in call.shapes[0][1:-1]:
        return "flattens a map of unknown size"
    return Flow(np.tile(call.inputs[0], places))


def _reshape(call):
    shape, target = call.shapes[0], tuple(call.outputs[0])
    if target[-1] == shape[-1]:  # in row-major order the last axis is then left as it is
        return Flow(call.inputs[0], sizes={"target_shape": call.inputs[0]})
    if len(target) == 2 and None not in shape[1:]:
        flow = _flatten(call)
        if isinstance(flow, Flow):
            flow.sizes = {"target_shape": flow.output}
        return flow
    return "reshapes channels"


def _concatenate(call):
    if call.operation.axis % len(call.shapes[0]) == len(call.shapes[0]) - 1:
        return Flow(np.concatenate(call.inputs))
    return _merge(call)


def _merge(call):
    """Operations on two tensors channel by channel, where one may have a single channel."""
    widest = max(call.inputs, key=len)
    for layout in call.inputs:
        if len(layout) == len(widest):
            call.atoms.join(widest, layout)
        elif len(layout) != 1:
            return "combines tensors of different numbers of channels"
    return Flow(widest)


def _of_function(call):
    name = type(call.operation).__name__
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).strip("_")
    if isinstance(call.operation, keras.Layer):
        return f"is a {name}, which may mix channels"
    if snake in MERGING_OPS and all(_is_scalar(value) for value in call.constants):
        return _merge(call)
    if snake in ELEMENTWISE:
        return Flow(call.inputs[0])
    return f"is keras.ops {name}, which may mix channels"


def _is_scalar(value):
    return value is None or isinstance(value, numbers.Number) or np.size(value) == 1


def _is_elementwise(activation):
    return activation is None or getattr(activation, "__name__", "") in ELEMENTWISE


RULES = (
    (PASSING, _passing),
    ((L.Activation,), _activation),
    ((L.PReLU,), _prelu),
    ((L.BatchNormalization,), _batch_norm),
    ((*CONVOLUTIONS, *TRANSPOSED), _convolution),
    ((L.Dense,), _dense),
    (SEPARABLE, _separable),
    (DEPTHWISE, _depthwise),
    ((L.Flatten,), _flatten),
    ((L.Reshape,), _reshape),
    ((L.Concatenate,), _concatenate),
    (MERGES, _merge),
)
