"""The glyph network: a small residual convolutional network for 32×32 pictures."""

import keras
from keras import layers

from kerastl.glyphs.rendering import IMAGE_SIZE

STEM_FILTERS = 24
STAGE_FILTERS = (32, 64, 96)


def glyphnet(input_shape=(IMAGE_SIZE, IMAGE_SIZE, 3), *, classes=None, name="glyphnet"):
    """Build the glyph network with fresh weights.

    A stem at full resolution, then three stages of one residual block each that halve the
    resolution, then a global average. Its layers carry the names of the groups `stem`,
    `stage_1`, `stage_2`, `stage_3` and `head`. About 230,000 weights.

    Args:
        input_shape: Tuple (height, width, 3); sides of at least 8.
        classes: Int, the size of a softmax head, or `None` for pooled features.
        name: String, the model's name.

    Returns:
        A functional `keras.Model` of RGB pixels 0 to 255; the scaling is inside. Features of
        shape `(batch, 96)`, or probabilities of shape `(batch, classes)`.

    Example:
        >>> glyphnet().output_shape
        (None, 96)
    """
    inputs = keras.Input(input_shape, name="pixels")
    x = layers.Rescaling(1 / 127.5, -1, name="stem_rescale")(inputs)
    x = _conv(x, STEM_FILTERS, "stem_conv")
    x = layers.ReLU(name="stem_relu")(x)
    for number, filters in enumerate(STAGE_FILTERS, start=1):
        x = _stage(x, filters, f"stage_{number}")
    x = layers.GlobalAveragePooling2D(name="features")(x)
    if classes is not None:
        x = layers.Dense(classes, activation="softmax", name="head")(x)
    return keras.Model(inputs, x, name=name)


def _stage(x, filters, name):
    """Two 3×3 convolutions, the first of stride 2, beside a 1×1 shortcut of stride 2."""
    shortcut = _conv(x, filters, f"{name}_shortcut", kernel_size=1, strides=2)
    x = _conv(x, filters, f"{name}_conv1", strides=2)
    x = layers.ReLU(name=f"{name}_relu1")(x)
    x = _conv(x, filters, f"{name}_conv2")
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return layers.ReLU(name=f"{name}_relu2")(x)


def _conv(x, filters, name, *, kernel_size=3, strides=1):
    """A convolution without bias, because the batch normalization after it has one."""
    x = layers.Conv2D(
        filters,
        kernel_size,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    return layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
