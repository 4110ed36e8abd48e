"""A layer's kernel as a matrix, and products of two thin matrices in its place.

A linear layer of any geometry gives each output as a sum over inputs: one `(inputs, outputs)`
matrix. A low-rank change of it is `a @ b`, `(inputs, rank) @ (rank, outputs)`; the layer's own
operation with `a` in the place of its kernel, then `b`, computes it without the product.
"""

import abc
import math
import re
import string
from typing import Any

import keras
from keras import ops

from kerastl._keras import kernel_of

CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
DENSE = (keras.layers.Dense, keras.layers.EinsumDense)
LINEAR = (*DENSE, *CONVOLUTIONS, *DEPTHWISE)


class Linear(abc.ABC):
    """The kernel of `layer` as one matrix.

    Attributes:
        layer: Built layer.
        num_inputs: Int, rows of the matrix.
        num_outputs: Int, its columns.
        groups: Int, how many parts the layer's channels are in; the matrix of a grouped
            convolution has the rows of one part.
    """

    layer: keras.Layer
    num_inputs: int
    num_outputs: int
    groups = 1

    @abc.abstractmethod
    def to_kernel(self, matrix: Any) -> Any:
        """A matrix in the shape of the kernel."""

    @abc.abstractmethod
    def to_matrix(self, kernel: Any) -> Any:
        """What has the shape of the kernel as a matrix."""

    @abc.abstractmethod
    def through(self, inputs: Any, a: Any, b: Any, **kwargs: Any) -> Any:
        """What `inputs` give by `a @ b` as the kernel, before bias and activation."""

    def over_outputs(self, vector: Any, num_axes: int) -> Any:
        """A vector of `num_outputs` in a shape that goes with outputs of that many axes."""
        if getattr(self.layer, "data_format", "channels_last") == "channels_first":
            return ops.reshape(vector, (-1, *(1,) * (num_axes - 2)))
        return vector

    def over_inputs(self, vector: Any, num_axes: int) -> Any:
        """A vector of `num_inputs` in a shape that goes with inputs of that many axes.

        Of layers alone whose inputs are the rows of the matrix, as those of `DENSE`.
        """
        return vector

    def shapes(self, rank: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Shapes of `a` and `b`: of a grouped convolution each part has `rank` columns of `a`."""
        return (self.num_inputs, rank * self.groups), (rank, self.num_outputs)

    def product(self, a: Any, b: Any) -> Any:
        """`a @ b` as a matrix, part by part where there are groups."""
        if self.groups == 1:
            return ops.matmul(a, b)
        parts = zip(ops.split(a, self.groups, axis=1), ops.split(b, self.groups, axis=1))  # noqa: B905
        return ops.concatenate([ops.matmul(one, other) for one, other in parts], axis=1)

    def factors(self, matrix: Any, rank: int) -> tuple[Any, Any]:
        """`(a, b)` of the rank nearest to `matrix`, both with the roots of its singular values.

        Eckart & Young, 1936; `a @ b` is `matrix` where its rank is not above `rank`.
        """
        lefts, rights = [], []
        for part in ops.split(matrix, self.groups, axis=1):
            u, s, vt = ops.svd(part, full_matrices=False)
            roots = ops.sqrt(s[:rank])
            lefts.append(u[:, :rank] * roots)
            rights.append(roots[:, None] * vt[:rank])
        return ops.concatenate(lefts, axis=1), ops.concatenate(rights, axis=1)


def is_depthwise(layer: Any) -> bool:
    """Whether `layer` is a convolution in which each filter sees one channel alone."""
    if isinstance(layer, CONVOLUTIONS):
        return layer.groups > 1 and kernel_of(layer).shape[-2] == 1
    return isinstance(layer, DEPTHWISE)


def linear_of(layer: keras.Layer) -> Linear:
    """The `Linear` of a built layer of `LINEAR`, or of an embedding."""
    if isinstance(layer, keras.layers.EinsumDense):
        return EinsumLinear(layer)
    if isinstance(layer, keras.layers.Dense):
        return DenseLinear(layer)
    if isinstance(layer, keras.layers.Embedding):
        return EmbeddingLinear(layer)
    if is_depthwise(layer):
        return DepthwiseLinear(layer)
    return ConvolutionLinear(layer)


class _Matrix(Linear):
    """Of a layer whose kernel is the matrix."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.num_inputs, self.num_outputs = kernel_of(layer).shape

    def to_kernel(self, matrix: Any) -> Any:
        return matrix

    def to_matrix(self, kernel: Any) -> Any:
        return kernel


class DenseLinear(_Matrix):
    """Of `keras.layers.Dense`."""

    def through(self, inputs: Any, a: Any, b: Any, **kwargs: Any) -> Any:
        return ops.matmul(ops.matmul(inputs, a), b)


class EinsumLinear(Linear):
    """Of `keras.layers.EinsumDense`, whatever its equation: the query of BERT is `abc,cde->abde`.

    Axes of the kernel that the inputs share and the outputs lack are the rows of the matrix.

    Raises:
        ValueError: If an axis of the kernel is in inputs and outputs alike: there is one matrix
            for each of its values then.
    """

    def __init__(self, layer: keras.layers.EinsumDense) -> None:
        self.layer = layer
        given, self._axes, self._gives = re.split(",|->", layer.equation.replace(" ", ""))
        self._given = given
        shape = dict(zip(self._axes, kernel_of(layer).shape, strict=True))
        self._rows = [axis for axis in self._axes if axis not in self._gives]
        self._columns = [axis for axis in self._axes if axis in self._gives]
        both = [axis for axis in self._columns if axis in given]
        if both:
            raise ValueError(
                f"{layer.name!r} has one matrix for each value of the axis {both[0]!r} of its "
                f"equation, and no change of low rank is made of those. Received: "
                f"equation={layer.equation!r}"
            )
        self._row_shape = [shape[axis] for axis in self._rows]
        self._column_shape = [shape[axis] for axis in self._columns]
        self.num_inputs = math.prod(self._row_shape)
        self.num_outputs = math.prod(self._column_shape)

    def to_kernel(self, matrix: Any) -> Any:
        ordered = ops.reshape(matrix, (*self._row_shape, *self._column_shape))
        return ops.einsum(f"{self._order}->{self._axes}", ordered)

    def to_matrix(self, kernel: Any) -> Any:
        ordered = ops.einsum(f"{self._axes}->{self._order}", kernel)
        return ops.reshape(ordered, (self.num_inputs, self.num_outputs))

    def over_outputs(self, vector: Any, num_axes: int) -> Any:
        return _laid_out(vector, self._columns, self._column_shape, self._gives, num_axes)

    def over_inputs(self, vector: Any, num_axes: int) -> Any:
        return _laid_out(vector, self._rows, self._row_shape, self._given, num_axes)

    @property
    def _order(self):
        return "".join((*self._rows, *self._columns))

    def through(self, inputs: Any, a: Any, b: Any, **kwargs: Any) -> Any:
        rank = next(letter for letter in string.ascii_letters if letter not in self.layer.equation)
        rows, columns = "".join(self._rows), "".join(self._columns)
        left = "".join(axis for axis in self._given if axis not in self._rows) + rank
        a = ops.reshape(a, (*self._row_shape, -1))
        b = ops.reshape(b, (-1, *self._column_shape))
        hidden = ops.einsum(f"{self._given},{rows}{rank}->{left}", inputs, a)
        return ops.einsum(f"{left},{rank}{columns}->{self._gives}", hidden, b)


def _laid_out(vector, axes, sizes, subscripts, num_axes):
    """A vector of all places of `axes`, in the order of `subscripts`, with ones for other axes."""
    subscripts = subscripts.replace("...", "." * (num_axes + 3 - len(subscripts)))
    ordered = "".join(axis for axis in subscripts if axis in axes)
    parted = ops.einsum(f"{''.join(axes)}->{ordered}", ops.reshape(vector, sizes))
    by_axis = dict(zip(axes, sizes, strict=True))
    return ops.reshape(parted, [by_axis.get(axis, 1) for axis in subscripts])


class ConvolutionLinear(Linear):
    """Of a convolution: `a` is a convolution of the same geometry, `b` one of size 1.

    The rows are the places of the window times the channels of one part, the columns the filters.
    """

    def __init__(self, layer: Any) -> None:
        self.layer, self.groups = layer, layer.groups
        *self._window, self.num_outputs = kernel_of(layer).shape
        self.num_inputs = math.prod(self._window)

    def to_kernel(self, matrix: Any) -> Any:
        return ops.reshape(matrix, (*self._window, -1))

    def to_matrix(self, kernel: Any) -> Any:
        return ops.reshape(kernel, (self.num_inputs, -1))

    def through(self, inputs: Any, a: Any, b: Any, **kwargs: Any) -> Any:
        hidden = _convolved(self.layer, inputs, self.to_kernel(a))
        ones = (1,) * (len(self._window) - 1)
        b = ops.reshape(b, (*ones, *b.shape))
        return ops.conv(hidden, b, padding="valid", data_format=self.layer.data_format)


def _convolved(layer, inputs, kernel):
    """As the layer does it; Conv1D pads by itself where it is causal, before the operation."""
    if layer.padding != "causal":
        return layer.convolution_op(inputs, kernel)
    (size,), (dilation,) = layer.kernel_size, layer.dilation_rate
    left, none = [dilation * (size - 1), 0], [0, 0]
    is_last = layer.data_format == "channels_last"
    return ops.conv(
        ops.pad(inputs, [none, left, none] if is_last else [none, none, left]),
        kernel,
        strides=list(layer.strides),
        padding="valid",
        dilation_rate=layer.dilation_rate,
        data_format=layer.data_format,
    )


class DepthwiseLinear(Linear):
    """Of a depthwise convolution, by `groups` or by class.

    Rows are the places of the window, columns the channels. So `a` holds windows that all
    channels share and `b` how much of each a channel takes, which is smaller than the kernel; a
    convolution in the place of `a` would be larger.
    """

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        *window, channels, multiplier = kernel_of(layer).shape
        self.num_inputs, self.num_outputs = math.prod(window), channels * multiplier

    def to_kernel(self, matrix: Any) -> Any:
        return ops.reshape(matrix, kernel_of(self.layer).shape)

    def to_matrix(self, kernel: Any) -> Any:
        return ops.reshape(kernel, (self.num_inputs, self.num_outputs))

    def through(self, inputs: Any, a: Any, b: Any, **kwargs: Any) -> Any:
        kernel = self.to_kernel(ops.matmul(a, b))
        if isinstance(self.layer, CONVOLUTIONS):
            return _convolved(self.layer, inputs, kernel)
        return ops.depthwise_conv(
            inputs,
            kernel,
            strides=self.layer.strides,
            padding=self.layer.padding,
            data_format=self.layer.data_format,
            dilation_rate=self.layer.dilation_rate,
        )


class EmbeddingLinear(_Matrix):
    """Of an embedding, read forwards and, where its weights are tied, backwards."""

    def through(self, inputs: Any, a: Any, b: Any, **kwargs: Any) -> Any:
        if kwargs.get("reverse"):
            return ops.matmul(ops.matmul(inputs, ops.transpose(b)), ops.transpose(a))
        return ops.matmul(ops.take(a, ops.cast(inputs, "int32"), axis=0), b)
