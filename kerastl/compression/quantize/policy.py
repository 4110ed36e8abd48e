"""Which steps of a folded graph compute in int8, and whose range each tensor has."""

import collections
import dataclasses
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any

import keras

from kerastl import _keras
from kerastl.compression.quantize.layers import QUANTIZED
from kerastl.compression.quantize.ranges import FakeQuantize, KeepFloat
from kerastl.graph.index import GraphIndex

# int8 kernels with a scale of their own for the result. Measured by converting each.
CONVOLUTIONS = ("Conv2D", "DepthwiseConv2D", "Conv2DTranspose")
WEIGHTED = (*CONVOLUTIONS, "Dense")
FUSED = ("linear", "relu", "relu6")  # part of the int8 kernel before them

_ACTIVATIONS = (
    "linear", "relu", "relu6", "leaky_relu", "sigmoid", "tanh", "softmax", "silu", "hard_sigmoid",
    "hard_silu", "elu", "gelu", "exponential",
)  # fmt: skip
_OPERATIONS = {
    "Relu": "relu", "Relu6": "relu6", "Sigmoid": "sigmoid", "Tanh": "tanh", "Silu": "silu",
    "HardSigmoid": "hard_sigmoid", "HardSilu": "hard_silu", "LeakyRelu": "leaky_relu",
}  # fmt: skip


def kind_of(operation: keras.Operation) -> str | None:
    """The name of what `operation` does: a class of Keras, or an activation; None for others.

    A subclass of a Keras layer is not that layer. `keras.ops.add` is an `"Add"`, as the layer is.

    Example:
        >>> kind_of(keras.layers.Activation("silu")), kind_of(keras.layers.ReLU(6))
        ('silu', 'relu6')
        >>> kind_of(keras.layers.Dense(2)), kind_of(keras.layers.LSTM(2))
        ('Dense', 'LSTM')
    """
    name = type(operation).__name__
    if not isinstance(operation, keras.Layer):
        known = (_keras.keras_module(operation) or "").startswith("ops.")
        return _OPERATIONS.get(name, name) if known else None
    if type(operation) is not getattr(keras.layers, name, None):
        return None
    if name in ("Activation", "ReLU", "LeakyReLU", "Softmax"):
        return _activation(operation, name)
    return name


def activation_name(function: Callable[..., Any] | None) -> str | None:
    """The name of a Keras activation function with an equal in int8; None for others."""
    if function is None:
        return "linear"
    return next((n for n in _ACTIVATIONS if function is keras.activations.get(n)), None)


def fuses(kind: str | None, activation: str | None) -> bool:
    """Whether an activation is part of the int8 kernel of what stands before it.

    The converter of TensorFlow 2.21 computes a transposed convolution in float where no range
    stands between it and a ReLU.

    Example:
        >>> fuses("Conv2D", "relu"), fuses("Conv2DTranspose", "relu"), fuses("Conv2D", "tanh")
        (True, False, False)
    """
    return activation in (("linear",) if kind == "Conv2DTranspose" else FUSED)


def is_plain(layer: keras.Layer) -> bool:
    """Whether a layer with a kernel computes with that kernel alone, channels last."""
    return (
        getattr(layer, "data_format", "channels_last") == "channels_last"
        and not getattr(layer, "lora_enabled", False)
        and getattr(layer, "quantization_mode", None) is None
    )


def _activation(layer, name):
    if name == "Activation":
        return activation_name(layer.activation)
    if name == "LeakyReLU":
        return "leaky_relu"
    if name == "Softmax":
        return "softmax" if layer.axis == -1 else None
    if layer.threshold != 0:
        return None
    if layer.max_value is None:
        return "leaky_relu" if layer.negative_slope else "relu"
    return "relu6" if layer.max_value == 6 and not layer.negative_slope else None


# int8 in the file, whose kernels are not rounded in training: that would take layers of ours.
UNROUNDED = ("Conv1D", "DepthwiseConv1D", "EinsumDense", "Einsum", "Matmul", "Dot")
_COMPUTES = {
    "Add", "Subtract", "Multiply", "Maximum", "Minimum", "Concatenate", "Mean", "Rescaling",
    "GlobalAveragePooling1D", "GlobalAveragePooling2D",
    "relu", "relu6", "leaky_relu", "hard_silu", "gelu", "PReLU", "exponential",
    "Absolute", "Clip", "Exp", "Flip", "Log", "Pad", "Roll", "Rsqrt", "Sqrt", "Stack", "Sum",
    "Take", "Tile", "Resize, bilinear", "Resize, nearest", *UNROUNDED,
}  # fmt: skip
# Kernels with one scale for input and result, whose results are values of the input, or zero.
_CARRIES = {
    "MaxPooling1D", "MaxPooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D", "Max",
    "Reshape", "Flatten", "Permute", "Transpose", "Squeeze", "ExpandDims", "GetItem",
    "ZeroPadding1D", "ZeroPadding2D", "Cropping1D", "Cropping2D", "UpSampling1D", "UpSampling2D",
    "RepeatVector", "Split", "ArraySplit", "Unstack",
}  # fmt: skip
_IDLE = {
    "Identity", "linear", "Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise",
    "GaussianDropout", "ActivityRegularization",
}  # fmt: skip
# The same, but results lie between the values of the input and are rounded to its scale again.
_AVERAGES = {"AveragePooling1D", "AveragePooling2D", "UpSampling2D, bilinear"}
# The result has the scale that the quantization specification of LiteRT fixes.
FIXED = {
    "sigmoid": (0.0, 255 / 256),
    "softmax": (0.0, 255 / 256),
    "tanh": (-1.0, 127 / 128),
}


@dataclasses.dataclass
class Step:
    """What is to happen at one call of a graph.

    Attributes:
        node: The call.
        kind: As `kind_of` tells.
        why_float: String, why it computes in float32; None if it computes in int8.
        range: What its result is rounded to: `"own"`, `"same"` as its input's, `"fixed"`, or None.
    """

    node: Any
    kind: str | None
    why_float: str | None = None
    range: str | None = None

    @property
    def name(self) -> str:
        """Name of the operation."""
        return self.node.operation.name

    @property
    def is_idle(self) -> bool:
        """Whether the call gives back what it is given, in inference."""
        return self.kind in _IDLE or _is_augmentation(self.node)


class Policy:
    """Decides for every call of a folded graph.

    Args:
        index: `GraphIndex` of it.
        kept: Set of the ids of operations that are to stay float.

    Attributes:
        steps: Dict from the id of a call to its `Step`, in the order of the network.
    """

    def __init__(self, index: GraphIndex, kept: AbstractSet[int] = frozenset()) -> None:
        self._index, self._kept = index, kept | _marked(index)
        self.steps = {id(n): Step(n, _kind(n.operation)) for n in index.nodes}
        self._bare = {}  # id of a tensor that no range can be given → name of the layer to blame
        for step in self.steps.values():
            step.why_float = self._why_float(step)
            self._mark_bare(step)
        self._leave_alone()
        self._wanted = self._find_wanted()
        ranged = {id(x) for x in index.model.inputs if self.wants_range(x)}
        for step in self.steps.values():
            self._decide_range(step, ranged)

    def is_kept(self, step: Step) -> bool:
        """Whether a step is to stay float because the caller says so."""
        return id(step.node.operation) in self._kept

    def wants_range(self, tensor: keras.KerasTensor) -> bool:
        """Whether an input of the model is to be rounded."""
        augmented = [_is_augmentation(n) for n in self._index.readers[id(tensor)] if n is not None]
        return _is_float(tensor) and id(tensor) in self._wanted and not any(augmented)

    def rounded(self, step: Step) -> list[keras.KerasTensor]:
        """What of the results of a step with a range is rounded: of several, what int8 reads."""
        outputs = step.node.outputs
        if len(outputs) == 1:
            return outputs
        return [x for x in outputs if id(x) in self._wanted and _is_float(x)]

    def _why_float(self, step):
        operation, kind = step.node.operation, step.kind
        if _is_augmentation(step.node):
            return "acts in training only"
        rank = len(step.node.input_tensors[0].shape)
        if kind not in _INTEGER:
            return _unknown(operation, kind, rank)
        if kind in WEIGHTED and not is_plain(operation):
            return "its kernel is more than one array (LoRA, quantized, or channels first)"
        if not all(map(_is_float, (*step.node.input_tensors, *step.node.outputs))):
            return "computes with integers already"
        if id(operation) in self._kept:
            return "is in `keep_float`"
        blamed = [self._bare[id(x)] for x in step.node.input_tensors if id(x) in self._bare]
        return f"reads {blamed[0]}, which stays float" if blamed else None

    def _mark_bare(self, step):
        """What a layer in float gives is not rounded: between two ranges it would be int8."""
        given = [self._bare[id(x)] for x in step.node.input_tensors if id(x) in self._bare]
        if id(step.node.operation) in self._kept:
            given = [step.name]
        elif step.kind not in _PASSES:
            given = []
        for tensor in step.node.outputs if given else ():
            self._bare[id(tensor)] = given[0]

    def _leave_alone(self):
        """Steps that join no kernel in int8, a sum of two embeddings say, stay float."""
        neighbours = collections.defaultdict(list)
        for step in self.steps.values():
            makers = [self._index.makers.get(id(tensor)) for tensor in step.node.input_tensors]
            for maker in (self.steps[id(node)] for node in makers if node is not None):
                if step.why_float is None and maker.why_float is None:
                    neighbours[id(step)].append(maker)
                    neighbours[id(maker)].append(step)
        todo = [s for s in self.steps.values() if s.kind in WEIGHTED and s.why_float is None]
        joined = {id(step) for step in todo}
        while todo:
            new = [step for step in neighbours[id(todo.pop())] if id(step) not in joined]
            joined.update(map(id, new))
            todo += new
        for step in self.steps.values():
            if step.why_float is None and id(step) not in joined:
                step.why_float = "stands between layers that stay float"

    def _find_wanted(self):
        """Ids of the tensors that something in int8 reads."""
        wanted = set()
        for step in reversed(self.steps.values()):
            passes = step.kind in _PASSES or _is_augmentation(step.node)
            if passes and not any(id(x) in wanted for x in step.node.outputs):
                continue
            if step.why_float is None or _is_augmentation(step.node):
                wanted.update(id(tensor) for tensor in step.node.input_tensors)
        return wanted

    def _decide_range(self, step, ranged):
        """Set the range of a step, and add what has one to `ranged`."""
        passes = step.kind in _PASSES and step.why_float is None
        if passes and not ranged.issuperset(map(id, step.node.input_tensors)):
            step.why_float, passes = "stands between layers that stay float", False
        step.range = self._range(step)
        if passes or step.range is not None:
            ranged.update(map(id, step.node.outputs if passes else self.rounded(step)))

    def _range(self, step):
        outputs = step.node.outputs
        if any(id(x) in self._bare for x in outputs) or not any(map(_is_float, outputs)):
            return None
        is_read = any(id(x) in self._wanted for x in outputs)
        if step.why_float is not None:
            return "own" if is_read else None
        if step.kind in FIXED:
            return "fixed" if is_read else None
        if step.kind in _PASSES:
            repeats = step.kind in _AVERAGES or self._may_be_read_in_float(step)
            return "same" if repeats else None
        return None if self._is_quiet(step) else "own"

    def _may_be_read_in_float(self, step):
        """Whether several steps read the results, or one that stays float.

        The converter of TensorFlow 2.21 may leave some of several readers in float (seen at the
        second max pool of InceptionV3), and gives integers to the float kernels in an attention
        that reads a reshape. Rounding what is rounded already changes nothing.
        """
        readers = [node for x in step.node.outputs for node in self._index.readers[id(x)]]
        known = [self.steps[id(node)] for node in readers if node is not None]
        several = len(step.node.outputs) > 1 or len(readers) > 1
        return several or any(reader.why_float is not None for reader in known)

    def _is_quiet(self, step):
        """Whether the next step is one with this in the file, or gives this its scale."""
        reader = self._index.sole_reader(step.node)
        if reader is None or self.steps[id(reader)].why_float is not None:
            return False
        kind = self.steps[id(reader)].kind
        joins = step.kind in (*WEIGHTED, "Add", "Subtract", "Multiply") and _is_linear(step)
        return kind == "Concatenate" or (joins and fuses(step.kind, kind))


_PASSES = _CARRIES | _AVERAGES | _IDLE
_INTEGER = {*WEIGHTED, *_COMPUTES, *_PASSES, *FIXED}


def _marked(index):
    """Ids of the operations that a quantized model keeps in float."""
    marks = [node for node in index.nodes if isinstance(node.operation, KeepFloat)]
    read = {id(tensor) for node in marks for tensor in node.input_tensors}
    return {id(n.operation) for n in index.nodes if any(id(x) in read for x in n.outputs)}


def _kind(operation):
    """As `kind_of`, and layers of a quantized model as what they were."""
    if isinstance(operation, (FakeQuantize, KeepFloat)):
        return "Identity"
    kinds = {quantized: kind for kind, quantized in QUANTIZED.items()}
    kind = kinds.get(type(operation)) or kind_of(operation)
    if kind == "Resize" or (kind == "UpSampling2D" and operation.interpolation != "nearest"):
        return f"{kind}, {operation.interpolation}"
    return kind


def _is_linear(step):
    return activation_name(getattr(step.node.operation, "activation", None)) == "linear"


def _is_augmentation(node):
    operation = node.operation
    return isinstance(operation, keras.Layer) and _keras.is_augmentation(operation)


def _is_float(tensor):
    return "float" in keras.backend.standardize_dtype(tensor.dtype)


def _unknown(operation, kind, rank):
    name = kind or type(operation).__name__
    if kind == "BatchNormalization":
        return f"a batch normalization of tensors of rank {rank} that could not be folded"
    if isinstance(operation, keras.Layer) and _keras.sublayers(operation):
        return f"a composite layer ({name}), whose inside is not rewritten"
    return f"{name} has no int8 kernel, or none that is known"
