"""Keras's layers with kernels, and the rounding of their kernels to 8 bits."""

import keras
from keras import ops

SMALLEST = 1e-8  # a filter of zeros has a scale all the same


def rounded(kernel, axis=None):
    """`kernel` on 255 steps, symmetric about zero: `max|w| / 127` wide, one width a channel.

    Args:
        kernel: Tensor.
        axis: Int, the last axis, for a width of each of its channels; None for one width.

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
    others = None if axis is None else tuple(range(len(kernel.shape) - 1))
    width = ops.stop_gradient(ops.maximum(ops.max(ops.abs(kernel), axis=others), SMALLEST))
    return keras.quantizers.fake_quant_with_min_max_vars(
        kernel, -width, width, narrow_range=True, axis=axis
    )


@keras.saving.register_keras_serializable("kerastl")
class QuantizedConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` with a kernel rounded to 8 bits, per output channel.

    Arguments, shapes and weights are those of `keras.layers.Conv2D`; the weights themselves are
    not rounded, so that they learn.

    References:
        Krishnamoorthi, 2018, section 3.2, https://arxiv.org/abs/1806.08342
    """

    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, rounded(kernel, axis=-1))


@keras.saving.register_keras_serializable("kerastl")
class QuantizedDepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with a kernel rounded to 8 bits, per output channel.

    References:
        Krishnamoorthi, 2018, section 3.2, https://arxiv.org/abs/1806.08342
    """

    def call(self, inputs):
        shape = self.kernel.shape
        channels = ops.reshape(self.kernel, (*shape[:2], 1, shape[2] * shape[3]))
        outputs = ops.depthwise_conv(
            inputs,
            ops.reshape(rounded(channels, axis=-1), shape),
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
        return _finished(self, outputs)


@keras.saving.register_keras_serializable("kerastl")
class QuantizedConv2DTranspose(keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` with a kernel rounded to 8 bits, as a whole.

    The converter of TensorFlow 2.21 refuses one scale for each output channel here.

    References:
        Krishnamoorthi, 2018, section 2.2, https://arxiv.org/abs/1806.08342
    """

    def call(self, inputs):
        outputs = ops.conv_transpose(
            inputs,
            rounded(self.kernel),
            strides=list(self.strides),
            padding=self.padding,
            output_padding=self.output_padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
        return _finished(self, outputs)


@keras.saving.register_keras_serializable("kerastl")
class QuantizedDense(keras.layers.Dense):
    """`keras.layers.Dense` with a kernel rounded to 8 bits, as a whole.

    The converter of TensorFlow 2.21 refuses one scale for each output here.

    References:
        Krishnamoorthi, 2018, section 2.2, https://arxiv.org/abs/1806.08342
    """

    def call(self, inputs, training=None):
        return _finished(self, ops.matmul(inputs, rounded(self.kernel)))


QUANTIZED = {
    "Conv2D": QuantizedConv2D,
    "DepthwiseConv2D": QuantizedDepthwiseConv2D,
    "Conv2DTranspose": QuantizedConv2DTranspose,
    "Dense": QuantizedDense,
}


def _finished(layer, outputs):
    if layer.use_bias:
        outputs = ops.add(outputs, layer.bias)
    return outputs if layer.activation is None else layer.activation(outputs)
