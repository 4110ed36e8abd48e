"""The glyph network: a small residual convolutional network for 32×32 pictures."""

from pathlib import Path

import keras
from keras import layers

from kerastl.backbones.glyphs.fonts import class_names
from kerastl.backbones.glyphs.rendering import IMAGE_SIZE

STEM_FILTERS = 24
STAGE_FILTERS = (32, 64, 96)


def glyphnet(
    input_shape: tuple[int, int, int] = (IMAGE_SIZE, IMAGE_SIZE, 3),
    *,
    classes: int | None = None,
    name: str = "glyphnet",
) -> keras.Model:
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


# A link to saved_models/glyphnet/ in a checkout, the file itself in an installed package.
WEIGHTS = Path(__file__).with_name("glyphnet.weights.h5")
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def load_glyphnet(*, include_top: bool = False) -> keras.Model:
    """Load the glyph network, pretrained on rendered letters and digits.

    It ships with kerastl, so nothing is downloaded. `saved_models/glyphnet/MODEL_CARD.md`
    says what it was trained on and how well it does.

    Args:
        include_top: Bool, whether to keep the softmax head over `class_names()`.

    Returns:
        A functional `keras.Model` of RGB pixels 0 to 255, white ink on black, 32×32: the
        features of shape `(batch, 96)`, or the probabilities of the 49 classes.

    Raises:
        FileNotFoundError: If the weights are missing or the link to them was not followed.

    Example:
        >>> load_glyphnet().output_shape
        (None, 96)
    """
    if not WEIGHTS.is_file() or WEIGHTS.read_bytes()[:8] != HDF5_SIGNATURE:
        raise FileNotFoundError(
            f"The glyph weights must be an HDF5 file. Received: {WEIGHTS}, which is missing or "
            "a link that this checkout could not follow. Install kerastl from a wheel, or make "
            "the weights with `python examples/pretrain_glyphs.py`."
        )
    model = glyphnet(classes=len(class_names()))
    model.load_weights(WEIGHTS)
    if include_top:
        return model
    return keras.Model(model.input, model.get_layer("features").output, name="glyphnet")
