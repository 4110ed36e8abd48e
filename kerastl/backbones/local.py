"""A model of the user's own as a backbone, taken as it is."""

import os
from collections.abc import Sequence
from typing import Any

import keras

from kerastl._base.types import ImageSize, PathLike
from kerastl._keras import hub_repairs
from kerastl.backbones.pooling import Pooling, pooled
from kerastl.backbones.preprocessing import rescale
from kerastl.backbones.weights import load_weights


def accepts(name: str) -> bool:
    """Whether `name` is spelled like a saved model."""
    return name.endswith(".keras")


def build(
    path: str, *, weights: PathLike | None, image_size: ImageSize | None, pooling: Pooling | None
) -> keras.Model:
    """The model in a `.keras` file, as `wrap` takes it."""
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"`name` ends in .keras, so it must be a saved model that exists. Received: {path!r}"
        )
    try:
        model: Any = keras.models.load_model(path, compile=False)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} could not be loaded as a Keras model: {error}") from error
    return wrap(model, weights=weights, image_size=image_size, pooling=pooling)


def wrap(
    model: keras.Model,
    *,
    weights: PathLike | None,
    image_size: ImageSize | None,
    pooling: Pooling | None,
) -> keras.Model:
    """`model` with pooled features out; the input and its preparation stay the model's own.

    A model that gives a vector is returned itself, whatever the vector means: a classifier's
    probabilities are 'features' too, so cut its head first if that is not wanted
    (`keras.Model(model.input, model.layers[-2].output)`).

    Returns:
        `model` itself if nothing had to be added, else a functional `keras.Model` around it.

    Raises:
        ValueError: If `model` has no graph, or cannot be pooled that way.
    """
    if weights not in (None, "imagenet"):
        load_weights(model, weights)
    model = _with_graph(model)
    hub_repairs.mend_before_saving([model, *model.layers])
    if image_size is not None:
        return image_backbone(model, image_shape(image_size), pooling=pooling)
    features = _pooled_output(model, pooling)
    if features is model.output:
        return model
    return keras.Model(model.input, features, name=model.name)


def _with_graph(model):
    if not getattr(model, "inputs", None):
        raise ValueError(
            "A model taken as a backbone must be functional or Sequential, and built. Received: "
            f"{model.name!r} of type {type(model).__module__}.{type(model).__qualname__}"
        )
    if isinstance(model, keras.Sequential):  # has no `input` before its first call
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return model


def text_backbone(network: keras.Model, pooling: Pooling | None = "auto") -> keras.Model:
    """`network` with its own dict of inputs and pooled features; padding is left out."""
    return keras.Model(network.input, _pooled_output(network, pooling), name=network.name)


def _pooled_output(network, pooling):
    inputs = network.input
    mask = inputs.get("padding_mask") if isinstance(inputs, dict) else None
    return pooled(network.output, pooling, mask)


def is_image_backbone(network: keras.Model) -> bool:
    """Whether `network` takes one batch of pictures."""
    return not isinstance(network.input, (dict, list)) and len(network.input.shape) == 4


def image_backbone(
    network: keras.Model,
    shape: tuple[int, int, int],
    *,
    scale: float | Sequence[float] = 1.0,
    offset: float | Sequence[float] = 0.0,
    pooling: Pooling | None = "auto",
) -> keras.Model:
    """`network` behind an input of pixels of `shape`, scaled for it, pooled.

    Raises:
        ValueError: If `network` takes no pictures, or was made for another image size.
    """
    if not is_image_backbone(network):
        raise ValueError(
            "`image_size` is for backbones that take pictures; "
            f"{network.name!r} does not. Received: image_size={shape[:2]}"
        )
    takes: Any = network.input  # one tensor, as `is_image_backbone` has seen
    expected = takes.shape[1:]
    if any(n is not None and n != m for n, m in zip(expected, shape, strict=True)):
        raise ValueError(
            f"`image_size` must be {tuple(expected[:2])} for {network.name!r}, which was made for "
            f"pictures of {expected} alone. Received: image_size={shape[:2]}"
        )
    image = keras.Input(shape, name="image")
    plain = scale == 1.0 and offset == 0.0
    outputs = network(image if plain else rescale(image, scale, offset))
    return keras.Model(image, pooled(outputs, pooling), name=network.name)


def image_shape(image_size: ImageSize) -> tuple[int, int, int]:
    """`(height, width, 3)` from an int or a pair; ValueError for anything else."""
    pair = (image_size, image_size) if isinstance(image_size, int) else image_size
    fits = isinstance(pair, (tuple, list)) and len(pair) == 2
    if not fits or not all(isinstance(n, int) and n is not True and n > 0 for n in pair):
        raise ValueError(
            "`image_size` must be a positive int or a pair (height, width), in pixels. "
            f"Received: image_size={image_size!r}"
        )
    return (*pair, 3)
