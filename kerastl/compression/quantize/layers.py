"""Keras's layers with kernels, and the rounding of their kernels to 8 bits."""

import keras
from keras import ops

from kerastl._base.types import TensorLike

SMALLEST = 1e-8  # a filter of zeros has a scale all the same
LARGEST = 2.0**30  # a bias is kept in 32 bits, in steps of the input times steps of the kernel


def rounded(kernel: TensorLike, axis: int | None = None, least: TensorLike = 0.0) -> TensorLike:
    """`kernel` on 255 steps, symmetric about zero: `max|w| / 127` wide, one width a channel.

    Args:
        kernel: Tensor.
        axis: Int, the last axis, for a width of each of its channels; None for one width.
        least: Float or tensor, the smallest magnitude that 127 steps may reach.

    Returns:
        Tensor of the same shape. Its gradient is that of `kernel`.

    Example:
        >>> rounded(ops.convert_to_tensor([[0.5, 1.0], [127.0, -3.0]])).numpy()
        array([[  1.,   1.],
               [127.,  -3.]], dtype=float32)

    References:
        Krishnamoorthi, 2018, section 2.2 (symmetric) and 3.2 (per channel),
        https://arxiv.org/abs/1806.08342
    """
    width = _reach(kernel, axis, least)
    return keras.quantizers.fake_quant_with_min_max_vars(
        kernel, -width, width, narrow_range=True, axis=axis
    )


def rounded_pair(
    kernel: TensorLike, bias: TensorLike, step: TensorLike, axis: int | None = None
) -> tuple[TensorLike, TensorLike]:
    """`kernel`, and `bias` on multiples of `step` times the width of a step of the kernel.

    An int8 kernel adds up products of steps in whole numbers, and its bias is one of them. Where a
    filter is so small against its bias that this number would not fit, its steps become wider.

    Args:
        kernel: Tensor.
        bias: Tensor with one value for each of the last axis of `kernel`, or None.
        step: Scalar tensor, how wide a step of the input is, or None to leave the bias as it is.
        axis: As in `rounded`.

    Returns:
        Kernel and bias, whose gradients are those of `kernel` and `bias`.

    Example:
        >>> kernel, bias = ops.convert_to_tensor([[127.0]]), ops.convert_to_tensor([3.4])
        >>> rounded_pair(kernel, bias, step=2.0)[1].numpy()
        array([4.], dtype=float32)

    References:
        Jacob et al., 2018, section 2.4, equation 11, https://arxiv.org/abs/1712.05877
    """
    if bias is None or step is None:
        return rounded(kernel, axis), bias
    dtype = kernel.dtype  # float16 does not reach as far as the sums do
    kernel, bias = ops.cast(kernel, "float32"), ops.cast(bias, "float32")
    step = ops.stop_gradient(ops.cast(step, "float32"))
    largest = ops.abs(bias) if axis is not None else ops.max(ops.abs(bias))
    least = 127 * largest / (LARGEST * step)
    width = step * _reach(kernel, axis, least) / 127
    nearest = ops.round(bias / width) * width
    bias = bias + ops.stop_gradient(nearest - bias)
    return ops.cast(rounded(kernel, axis, least), dtype), ops.cast(bias, dtype)


def _reach(kernel, axis, least):
    """The magnitude that 127 steps of `kernel` reach, for each channel or for all."""
    others = None if axis is None else tuple(range(len(kernel.shape) - 1))
    largest = ops.max(ops.abs(kernel), axis=others)
    return ops.stop_gradient(ops.maximum(largest, ops.maximum(least, SMALLEST)))


@keras.saving.register_keras_serializable("kerastl")
class QuantizedConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` with a kernel rounded to 8 bits, per output channel.

    Arguments, shapes and weights are those of `keras.layers.Conv2D`; the weights themselves are
    not rounded, so that they learn. Called with `step`, the width of a step of its inputs, it
    rounds its bias, too.

    References:
        Krishnamoorthi, 2018, section 3.2, https://arxiv.org/abs/1806.08342
    """

    def call(self, inputs: TensorLike, step: TensorLike = None) -> TensorLike:
        kernel, bias = rounded_pair(self.kernel, self.bias, step, axis=-1)
        return _finished(self, self.convolution_op(inputs, kernel), bias)


@keras.saving.register_keras_serializable("kerastl")
class QuantizedDepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with a kernel rounded to 8 bits, per output channel.

    References:
        Krishnamoorthi, 2018, section 3.2, https://arxiv.org/abs/1806.08342
    """

    def call(self, inputs: TensorLike, step: TensorLike = None) -> TensorLike:
        shape = self.kernel.shape
        channels = ops.reshape(self.kernel, (*shape[:2], 1, shape[2] * shape[3]))
        kernel, bias = rounded_pair(channels, self.bias, step, axis=-1)
        outputs = ops.depthwise_conv(
            inputs,
            ops.reshape(kernel, shape),
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
        return _finished(self, outputs, bias)


@keras.saving.register_keras_serializable("kerastl")
class QuantizedConv2DTranspose(keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` with a kernel rounded to 8 bits, as a whole.

    The converter of TensorFlow 2.21 refuses one scale for each output channel here.

    References:
        Krishnamoorthi, 2018, section 2.2, https://arxiv.org/abs/1806.08342
    """

    def call(self, inputs: TensorLike, step: TensorLike = None) -> TensorLike:
        kernel, bias = rounded_pair(self.kernel, self.bias, step)
        outputs = ops.conv_transpose(
            inputs,
            kernel,
            strides=list(self.strides),
            padding=self.padding,
            output_padding=self.output_padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
        return _finished(self, outputs, bias)


@keras.saving.register_keras_serializable("kerastl")
class QuantizedDense(keras.layers.Dense):
    """`keras.layers.Dense` with a kernel rounded to 8 bits, as a whole.

    The converter of TensorFlow 2.21 refuses one scale for each output here.

    References:
        Krishnamoorthi, 2018, section 2.2, https://arxiv.org/abs/1806.08342
    """

    def call(self, inputs: TensorLike, step: TensorLike = None) -> TensorLike:
        kernel, bias = rounded_pair(self.kernel, self.bias, step)
        return _finished(self, ops.matmul(inputs, kernel), bias)


QUANTIZED = {
    "Conv2D": QuantizedConv2D,
    "DepthwiseConv2D": QuantizedDepthwiseConv2D,
    "Conv2DTranspose": QuantizedConv2DTranspose,
    "Dense": QuantizedDense,
}


def _finished(layer, outputs, bias):
    if bias is not None:
        outputs = ops.add(outputs, bias)
    return outputs if layer.activation is None else layer.activation(outputs)
