"""The door: a pretrained network from a name, a preset, a file or a model."""

import os
from typing import Any

import keras

from kerastl._base.types import ImageSize, PathLike
from kerastl.backbones import applications, cv, hub, huggingface, local
from kerastl.backbones import weights as weight_files
from kerastl.backbones.pooling import Pooling, check_pooling
from kerastl.backbones.prose import network as prose
from kerastl.backbones.specs import find, lookup
from kerastl.backbones.weights import explained


def load(
    name: PathLike | keras.Model,
    *,
    weights: PathLike | None = "imagenet",
    image_size: ImageSize | None = None,
    pooling: Pooling | None = "auto",
    **options: Any,
) -> keras.Model:
    """A backbone that takes what was decoded and gives one feature vector an example.

    Image backbones take RGB pixels 0 to 255, uint8 or float32, of shape `(batch, height,
    width, 3)`; whatever scaling the network was trained with is inside the
    model, once. Text backbones of KerasHub take the dict their preprocessor makes, which
    `load_tokens` makes from texts.

    Args:
        name: What to load:
            a network of `keras.applications`, such as `"mobilenet_v2"` or `"MobileNetV2"`
            (`kerastl.backbones.names()` lists them);
            `"hub:PRESET"` or the preset's bare name, such as `"bert_tiny_en_uncased"`,
            `"kaggle://..."`, `"hf://..."`, or a folder with a preset of KerasHub or with the
            files of Hugging Face (`config.json`, `model.safetensors`);
            `"cv:PRESET"` for KerasCV;
            `"prosenet"`, the small encoder of texts that ships with kerastl;
            a `.keras` file, a run folder with a `model.keras` in it, or a `keras.Model`, taken as
            it is: it prepares its own input, and only pooling is added where it ends in feature
            maps or tokens. A backbone of KerasHub, or of keras_nlp, is such a model; of a task
            of theirs the backbone is taken, without its head.
        weights: `"imagenet"` (for a preset: its own weights), None for random weights, or the
            path of a `.weights.h5`, `.h5` or `.keras` file, with or without the classifier.
            A `.keras` file or a model brings its weights along; only a path is looked at then.
        image_size: Int or `(height, width)` in pixels. None takes the size the published
            weights saw.
        pooling: `"auto"`, `"own"`, `"avg"`, `"max"`, `"token"`, or None for feature maps or tokens.
            `"own"` is an encoder's own pooled output, and refused where it has none. `"auto"` is
            the mean over a feature map, an encoder's own pooled output where it has one, else the
            mean over its real tokens.
        **options: `alpha`, `depth_multiplier` and `minimalistic`, for the networks that have them.
            `gelu`, for text backbones: `"checkpoint"` computes the activation that a folder of
            Hugging Face says it was trained with, which KerasHub overlooks; `"exact"` or `"tanh"`
            whatever it says. `notices` tells what that changes.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: For an unknown name, option or pooling, an image size the network refuses,
            or a weights file or checkpoint that does not fit or fills only a part of the model;
            the message says what differs.
        FileNotFoundError: If a file is not there.
        ConnectionError: If pretrained weights could not be downloaded.
        ImportError: If the package a name needs is not installed.

    Example:
        >>> model = load("mobilenet", alpha=0.25, weights=None, image_size=32)
        >>> model.output_shape
        (None, 256)
    """
    check_pooling(pooling)
    if weights not in (None, "imagenet"):
        weights = weight_files.check_path(weights)
    settings = {"weights": weights, "image_size": image_size, "pooling": pooling}
    if isinstance(name, keras.Model):
        _no_options(options)
        return local.wrap(hub.without_head(name), **settings)
    name = os.fspath(name)
    # Networks first: a folder that happens to be called resnet50 must not hide ResNet50.
    run = os.path.join(name, "model.keras")
    name = run if os.path.isfile(run) and not lookup(name) else name
    spec = lookup(name)
    if spec is not None:
        return applications.build(spec, options=options, **settings)
    if name == prose.NAME:
        _no_options(options)
        return prose.build(**settings)
    room = _room(name)
    if room is hub:
        return hub.build(name, options=options, **settings)
    _no_options(options)
    return room.build(name, **settings)


def notices(name: PathLike | keras.Model, **options: Any) -> tuple[str, ...]:
    """What `load` of the same arguments computes otherwise than the library it loads from.

    Args:
        name: As in `load`.
        **options: As in `load`; only `gelu` matters.

    Returns:
        Tuple of sentences to show, empty for most networks.

    Example:
        >>> notices("mobilenet_v2")
        ()
    """
    if isinstance(name, keras.Model):
        return ()
    name = os.fspath(name)
    if lookup(name) or not hub.accepts(name):
        return ()
    preset = name.removeprefix("hub:")
    with explained(f"The config.json of {preset!r}", "or pass a folder with its files."):
        return huggingface.notices(preset, **options)


def _room(name) -> Any:
    for room in (hub, cv, local):
        if room.accepts(name):
            return room
    presets = hub.preset_names()
    if name not in presets:
        find(name, (*presets, prose.NAME))  # refuses, with the nearest names of both
    return hub


def _no_options(options):
    if options:
        given = ", ".join(f"{key}={value!r}" for key, value in options.items())
        raise ValueError(
            "Only networks of keras.applications and text presets take further options. A file or "
            f"a model has its configuration inside. Received: {given}"
        )
