"""What a kernel multiplies, as rows of a matrix."""

import keras
import tensorflow as tf

from kerastl.compression.prunable import SEPARABLE
from kerastl.compression.reads import mixed_by

L = keras.layers
WIDEST = 5000  # inputs up to which a kernel is fitted anew: the time grows with their third power


def why_not_fitted(kernel):
    """Why the weights that stay in a `Kernel` are left as they are, or None if they are not.

    Example:
        >>> from kerastl.compression.prunable import Kernel
        >>> layer = L.Embedding(10, 4)
        >>> layer.build()
        >>> why_not_fitted(Kernel("words", layer, layer.embeddings))
        'is an Embedding, whose inputs are no numbers to fit to'
    """
    layer = kernel.layer
    if isinstance(layer, L.Embedding):
        return "is an Embedding, whose inputs are no numbers to fit to"
    is_plain = isinstance(layer, (L.Conv1D, L.Conv2D)) and layer.groups == 1
    is_pointwise = isinstance(layer, SEPARABLE) and kernel.variable is layer.pointwise_kernel
    if not (is_plain or is_pointwise or isinstance(layer, L.Dense)):
        return f"is of the class {type(layer).__name__}, whose inputs are not seen as rows"
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return "has its channels first"
    if getattr(layer, "padding", None) == "causal":
        return "pads causally"
    width = kernel.size // kernel.variable.shape[-1]
    return f"has {width:,} inputs, more than {WIDEST:,}" if width > WIDEST else None


def rows_of(layer, value):
    """Tensor of `(places, inputs)`: what the kernel of `layer` multiplies where it reads `value`.

    A convolution's inputs are the taps times the channels, in the order of its kernel.
    """
    value = tf.cast(mixed_by(layer, value), "float32")
    if isinstance(layer, (L.Conv1D, L.Conv2D)):
        value = _patches(layer, value)
    return tf.reshape(value, (-1, value.shape[-1]))


def _patches(layer, value):
    kernel, strides, dilations = layer.kernel_size, layer.strides, layer.dilation_rate
    if isinstance(layer, L.Conv1D):
        value = value[:, None]
        kernel, strides, dilations = (1, *kernel), (1, *strides), (1, *dilations)
    return tf.image.extract_patches(
        value,
        sizes=(1, *kernel, 1),
        strides=(1, *strides, 1),
        rates=(1, *dilations, 1),
        padding=layer.padding.upper(),
    )
