"""The input preparation of `keras.applications`, as layers inside the model."""

from collections.abc import Sequence
from typing import Any, Literal

import keras

from kerastl._base.checks import one_of

# Pixels 0-255 in; `x * scale + offset` per channel, after RGB -> BGR where the flag says so.
# The numbers are those of keras.applications.imagenet_utils.preprocess_input (Keras 3.15).
_TORCH_MEAN = (0.485, 0.456, 0.406)
_TORCH_STD = (0.229, 0.224, 0.225)
MODES = {
    "none": None,
    "tf": (False, 1 / 127.5, -1.0),
    "caffe": (True, 1.0, [-103.939, -116.779, -123.68]),
    "torch": (
        False,
        [1 / (255 * std) for std in _TORCH_STD],
        [-mean / std for mean, std in zip(_TORCH_MEAN, _TORCH_STD, strict=True)],
    ),
}


def preprocess(
    pixels: keras.KerasTensor, mode: Literal["tf", "caffe", "torch", "none"]
) -> keras.KerasTensor:
    """Prepare RGB pixels as a network trained in `mode` expects them.

    Stock Keras operations only, so a saved or exported model needs nothing of kerastl. They
    compute in float32 whatever the global dtype policy, because float16 has three
    digits and pixels have two and a half.

    Args:
        pixels: Keras tensor `(batch, height, width, 3)`, RGB, values 0 to 255.
        mode: `"tf"` scales to [-1, 1]; `"caffe"` turns RGB into BGR and subtracts the ImageNet
            mean; `"torch"` scales to [0, 1] and standardizes each channel; `"none"`
            returns `pixels`, for networks that rescale by themselves.

    Returns:
        Keras tensor of the same shape.

    Example:
        >>> pixels = keras.Input((4, 4, 3))
        >>> model = keras.Model(pixels, preprocess(pixels, "tf"))
        >>> float(model(keras.ops.full((1, 4, 4, 3), 255.0))[0, 0, 0, 0])
        1.0
    """
    settings = MODES[one_of(mode, tuple(MODES), "mode")]
    if settings is None:
        return pixels
    flip, scale, offset = settings
    return rescale(keras.ops.flip(pixels, axis=-1) if flip else pixels, scale, offset)


def rescale(
    pixels: keras.KerasTensor,
    scale: float | Sequence[float] = 1.0,
    offset: float | Sequence[float] = 0.0,
) -> keras.KerasTensor:
    """`pixels * scale + offset` by one stock layer, in float32, named `preprocessing`."""
    # Tuples come back from JSON as lists; lists from the start keep configs equal.
    scale = list(scale) if isinstance(scale, (tuple, list)) else scale
    offset = list(offset) if isinstance(offset, (tuple, list)) else offset
    settings: dict[str, Any] = {"scale": scale, "offset": offset}  # Keras takes lists, too
    layer = keras.layers.Rescaling(**settings, dtype="float32", name="preprocessing")
    return layer(pixels)
