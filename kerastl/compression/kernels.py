"""Which weights of a model can be pruned, and how each is seen as a matrix."""

import dataclasses
import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from kerastl import _keras
from kerastl._base.types import TensorLike, Where
from kerastl.graph import layer_groups, leaf_layers, select_layers

L = keras.layers
CONVOLUTIONS = (L.Conv1D, L.Conv2D, L.Conv3D)
TRANSPOSED = (L.Conv1DTranspose, L.Conv2DTranspose, L.Conv3DTranspose)
SEPARABLE = (L.SeparableConv1D, L.SeparableConv2D)
DEPTHWISE = (L.DepthwiseConv1D, L.DepthwiseConv2D)
CELLS = (L.SimpleRNNCell, L.GRUCell, L.LSTMCell)

# Kind of layer → attributes with its kernels. Biases and norms are never pruned.
KERNELS = (
    ((L.Dense, L.EinsumDense, *CONVOLUTIONS, *TRANSPOSED), ("kernel",)),
    (SEPARABLE, ("pointwise_kernel",)),
    ((L.Embedding,), ("embeddings",)),
    (CELLS, ("kernel", "recurrent_kernel")),
)
KERNELS_OF_DEPTHWISE = ((DEPTHWISE, ("kernel",)), (SEPARABLE, ("depthwise_kernel",)))


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One weight that can be pruned.

    Attributes:
        path: Path of its layer in the flat model, with the weight's name if the layer has two.
        layer: The layer.
        variable: The `keras.Variable`.
    """

    path: str
    layer: keras.Layer
    variable: keras.Variable

    @property
    def size(self) -> int:
        """Number of scalars."""
        return math.prod(self.variable.shape)


def find_kernels(
    model: keras.Model, where: Where | None = None, *, depthwise: bool = False
) -> tuple[list[Kernel], dict[str, str]]:
    """The kernels of `model` that pruning is for, and why other matrices are left dense.

    Args:
        model: Functional or built Sequential `keras.Model`.
        where: Layers as in `select_layers`; None for all but the head.
        depthwise: Boolean, whether depthwise kernels count.

    Returns:
        List of `Kernel` in the order of the layers, and a dict from path to the reason why a
        weight of two or more dimensions is not among them.
    """
    groups = layer_groups(model)
    layers = leaf_layers(model) if where is None else select_layers(model, where)
    head = {id(layer) for layer in groups["head"]} if where is None and "head" in groups else ()
    kernels, skipped = {}, {}
    for layer in layers:
        path = groups.path_of(layer)
        if id(layer) in head and _names(layer, True):
            skipped[path] = "is the head: name it in `where` to prune it"
            continue
        found = _of_layer(layer, path, depthwise, skipped)
        kernels.update((id(kernel.variable), kernel) for kernel in found)
    return list(kernels.values()), skipped


def all_kernels(model: keras.Model) -> list[Kernel]:
    """Every `Kernel` of `model`, the head and depthwise ones included."""
    return find_kernels(model, leaf_layers(model), depthwise=True)[0]


def _of_layer(layer, path, depthwise, skipped):
    names = _names(layer, depthwise)
    if names and (reason := _obstacle(layer)):
        skipped[path] = reason
        return []
    if not names and (reason := _why_not(layer)):
        skipped[path] = reason
    several = len(names) > 1
    return [
        Kernel(f"{path}/{name}" if several else path, layer, getattr(layer, name)) for name in names
    ]


def _names(layer, depthwise):
    table = (*KERNELS, *KERNELS_OF_DEPTHWISE) if depthwise else KERNELS
    return [name for kinds, names in table if isinstance(layer, kinds) for name in names]


def _obstacle(layer):
    if getattr(layer, "lora_enabled", False):
        return "has LoRA: its kernel is a sum"
    if getattr(layer, "quantization_mode", None):
        return f"is quantized ({layer.quantization_mode})"
    return None


def _why_not(layer):
    if isinstance(layer, DEPTHWISE):
        return "is depthwise: few weights, each of which counts; pass depthwise=True to prune it"
    if any(len(weight.shape) > 1 for weight in _keras.own_trainable_variables(layer)):
        return f"is a {type(layer).__name__}, of which no weight is known to be a kernel"
    return None


@dataclasses.dataclass(frozen=True)
class View:
    """A kernel seen in another shape.

    Attributes:
        order: Tuple, the dimensions of the kernel in the order of the view.
        shape: Tuple, the shape after that.
    """

    order: tuple[int, ...]
    shape: tuple[int, ...]

    def of(self, kernel: TensorLike) -> tf.Tensor:
        return tf.reshape(tf.transpose(kernel, self.order), self.shape)

    def back(self, mask: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
        """`mask` of the view as one of the kernel, whose shape is `shape`."""
        ordered = tf.reshape(mask, [shape[i] for i in self.order])
        inverse = sorted(range(len(self.order)), key=self.order.__getitem__)
        return tf.transpose(ordered, inverse)


def matrix_view(kernel: Kernel) -> View | None:
    """`Kernel` as a matrix of inputs × outputs, or None if it is none.

    Example:
        >>> query = keras.layers.EinsumDense("abc,cde->abde", (None, 2, 3))
        >>> query.build((None, 5, 8))
        >>> matrix_view(Kernel("query", query, query.kernel))
        View(order=(0, 1, 2), shape=(8, 6))
    """
    layer, shape = kernel.layer, tuple(kernel.variable.shape)
    if isinstance(layer, L.EinsumDense):
        return _einsum_view(layer.equation, shape)
    if isinstance(layer, (*CONVOLUTIONS, *SEPARABLE)) and set(shape[:-2]) == {1}:
        return View(tuple(range(len(shape))), shape[-2:])
    if len(shape) == 2:
        return View((0, 1), shape)
    return None


def channels_view(kernel: Kernel) -> View | None:
    """`Kernel` with the inputs that one output multiplies in the last dimension but one.

    That is the dimension along which `m_by_n` counts. None for what multiplies nothing.
    """
    layer, shape = kernel.layer, tuple(kernel.variable.shape)
    if isinstance(layer, (L.Embedding, *TRANSPOSED, *DEPTHWISE)):
        return None
    if len(shape) == 4 and isinstance(layer, L.Conv2D):
        return View((0, 1, 2, 3), shape)
    if len(shape) == 3 and isinstance(layer, L.Conv1D):
        return View((0, 1, 2), (1, *shape))
    return matrix_view(kernel)


def _einsum_view(equation, shape):
    operands, outputs = equation.replace(" ", "").split("->")
    inputs, letters = operands.split(",")
    if any(letter in inputs and letter in outputs for letter in letters):
        return None  # one matrix for each place along that dimension
    summed = [i for i, letter in enumerate(letters) if letter not in outputs]
    kept = [i for i in range(len(letters)) if i not in summed]
    sizes = (math.prod(shape[i] for i in summed), math.prod(shape[i] for i in kept))
    return View((*summed, *kept), sizes) if summed and kept else None
