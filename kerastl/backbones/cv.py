"""KerasCV presets. KerasCV is frozen upstream; KerasHub is where its networks went on."""

import os

import keras

from kerastl._base.checks import closest
from kerastl._base.types import ImageSize, PathLike
from kerastl.backbones.local import image_backbone, image_shape
from kerastl.backbones.pooling import Pooling
from kerastl.backbones.weights import explained, load_weights

_IMAGE_SIZE = 224


def accepts(name: str) -> bool:
    """Whether `name` is spelled `cv:PRESET` or `cv:FOLDER`."""
    return name.startswith("cv:")


def build(
    name: str, *, weights: PathLike | None, image_size: ImageSize | None, pooling: Pooling | None
) -> keras.Model:
    """The preset's backbone, pooled; pixels are scaled to [0, 1] once.

    KerasCV backbones divide by 255 themselves where `include_rescaling` is True, as in its named
    presets; where it is False they still expect [0, 1].
    """
    preset = name.removeprefix("cv:")
    models = _keras_cv().models
    _check_known(models, preset)
    with explained(f"The weights of the KerasCV preset {preset!r}"):
        load = None if weights == "imagenet" else False
        network = _preset_class(models, preset).from_preset(preset, load_weights=load)
    if weights not in (None, "imagenet"):
        load_weights(network, weights)
    shape = image_shape(image_size or _own_size(network))
    scale = 1.0 if getattr(network, "include_rescaling", False) else 1 / 255
    return image_backbone(network, shape, scale=scale, pooling=pooling)


def _keras_cv():
    try:
        import keras_cv
    except ImportError as error:
        raise ImportError(
            "KerasCV presets need the keras-cv package: pip install keras-cv"
        ) from error
    return keras_cv


def _named(models):
    """Dict from preset name to the class that declares it."""
    found = {}
    for attribute in dir(models):
        if attribute.endswith("Backbone") and attribute != "Backbone":
            owner = getattr(models, attribute)
            found.update(dict.fromkeys(owner.presets, owner))
    return found


def _preset_class(models, preset):
    return _named(models).get(preset, models.Backbone)


def _check_known(models, preset):
    known = _named(models)
    if preset not in known and "://" not in preset and not os.path.isdir(preset):
        raise ValueError(
            "`cv:PRESET` must name a KerasCV preset or a preset folder. "
            f"Received: {preset!r}. Closest: {closest(preset, known)}."
        )


def _own_size(network):
    shape = network.input.shape[1:3]
    return _IMAGE_SIZE if None in shape else tuple(shape)
