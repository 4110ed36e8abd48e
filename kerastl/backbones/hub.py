"""KerasHub presets, pictures or text (`keras_nlp` is today another name of KerasHub)."""

import os
from collections.abc import Mapping
from typing import Any

import keras

from kerastl._base.checks import closest, one_of
from kerastl._base.quiet import quiet
from kerastl._base.types import ImageSize, PathLike
from kerastl._keras import hub_repairs
from kerastl.backbones import huggingface
from kerastl.backbones.local import image_backbone, image_shape, is_image_backbone, text_backbone
from kerastl.backbones.pooling import Pooling
from kerastl.backbones.weights import explained, load_weights

_HANDLES = ("kaggle://", "hf://", "modelscope://")
_IMAGE_SIZE = 224  # what most published image presets were trained at


def accepts(name: str) -> bool:
    """Whether `name` is a preset: `hub:...`, a handle, or a folder with a `config.json`."""
    return name.startswith(("hub:", *_HANDLES)) or os.path.isdir(name)


def preset_names() -> tuple[str, ...]:
    """The names of KerasHub's published backbones; none where KerasHub is not installed."""
    try:
        return tuple(import_keras_hub().models.Backbone.presets)
    except ImportError:
        return ()


def build(
    name: str,
    *,
    weights: PathLike | None,
    image_size: ImageSize | None,
    pooling: Pooling | None,
    options: Mapping[str, Any],
) -> keras.Model:
    """The preset's backbone with its image converter's scaling inside, pooled.

    The converter's resizing is not taken over: the model sees the size it is given.

    Args:
        name: `"hub:PRESET"`, a handle, a folder, or the bare name of a preset.
        weights: `"imagenet"` for the preset's own, None or a path.
        image_size: As in `load`.
        pooling: As in `load`.
        options: Dict, perhaps with `gelu`, as in `huggingface.use_gelu`.
    """
    asks = pooling in ("auto", "own")
    network = load_network(name, weights=weights, with_pooler=asks, options=options)
    if not is_image_backbone(network):
        _no_image_size(network, image_size)
        return text_backbone(network, pooling)
    converter = _converter(import_keras_hub(), checked(name))
    size = image_size or _own_size(network, converter)
    return image_backbone(network, image_shape(size), **_scaling(converter), pooling=pooling)


def load_network(
    name: str, *, weights: PathLike | None, with_pooler: bool, options: Mapping[str, Any]
) -> Any:
    """The preset's backbone as KerasHub makes it, mended, with its weights.

    Args:
        name: As in `build`, and so are `weights` and `options`.
        with_pooler: Boolean, whether an encoder's trained pooler is wanted.
    """
    preset = checked(name)
    gelu = _gelu(name, options)
    keras_hub = import_keras_hub()
    whole = huggingface.whole_checkpoint(preset, with_pooler=with_pooler)
    with explained(f"The weights of the preset {preset!r}"), whole:
        network = keras_hub.models.Backbone.from_preset(preset, load_weights=weights == "imagenet")
    if weights not in (None, "imagenet"):
        load_weights(network, weights)
    hub_repairs.mend_before_saving([network, *network.layers])
    if not is_image_backbone(network):
        huggingface.use_gelu(network, preset, gelu)
        huggingface.use_epsilon(network, preset)
    return network


def without_head(model: keras.Model) -> keras.Model:
    """The backbone of `model` if it is a task of KerasHub, else `model` itself."""
    if not type(model).__module__.startswith("keras_hub."):
        return model
    return model.backbone if isinstance(model, import_keras_hub().models.Task) else model


def import_keras_hub() -> Any:
    """The package `keras_hub`, imported now and not with kerastl."""
    try:
        import keras_hub
    except ImportError as error:
        raise ImportError(
            "KerasHub presets need the keras-hub package: pip install keras-hub"
        ) from error
    hub_repairs.quiet_sentencepiece(keras_hub.tokenizers.SentencePieceTokenizer, quiet)
    return keras_hub


def checked(name: str) -> str:
    """The preset that `name` means, if there is such a folder or published preset.

    Raises:
        ValueError: If there is none; the message has the nearest names.
        ImportError: If KerasHub is not installed.
    """
    preset = name.removeprefix("hub:")
    _check_known(import_keras_hub(), preset)
    return preset


def _gelu(name, options):
    unknown = [key for key in options if key != "gelu"]
    if unknown:
        raise ValueError(
            "A preset has its configuration inside; the only further option is `gelu`. Received: "
            f"{unknown[0]}={options[unknown[0]]!r} for {name!r}"
        )
    return one_of(options.get("gelu", "checkpoint"), huggingface.GELUS, "gelu")


def _check_known(keras_hub, preset):
    if os.path.isdir(preset):
        if not os.path.isfile(os.path.join(preset, "config.json")):
            raise ValueError(
                "A preset folder must hold a config.json, as `backbone.save_to_preset(FOLDER)` "
                f"writes it. Received: {preset!r}"
            )
        return
    known = keras_hub.models.Backbone.presets
    if "://" not in preset and preset not in known:
        raise ValueError(
            "`hub:PRESET` must name a KerasHub preset, a handle (kaggle://, hf://) or a preset "
            f"folder. Received: {preset!r}. Closest: {closest(preset, known)}."
        )


def _no_image_size(network, image_size):
    if image_size is not None:
        raise ValueError(
            "`image_size` is for backbones that take pictures; "
            f"{network.name!r} takes text. Received: image_size={image_size!r}"
        )


def _converter(keras_hub, preset):
    """The preset's image converter; None where it has none and so takes pixels as they are."""
    try:
        with explained(f"The image converter of the preset {preset!r}"):
            return keras_hub.layers.ImageConverter.from_preset(preset)
    except FileNotFoundError:  # a backbone saved without a preprocessor
        return None


def _scaling(converter):
    values = {} if converter is None else {"scale": converter.scale, "offset": converter.offset}
    return {key: value for key, value in values.items() if value is not None}


def _own_size(network, converter):
    shape = network.input.shape[1:3]
    if None not in shape:
        return tuple(shape)
    size = getattr(converter, "image_size", None)
    return _IMAGE_SIZE if size is None or None in size else tuple(size)
