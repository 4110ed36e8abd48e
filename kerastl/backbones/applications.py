"""Networks of `keras.applications` with their preprocessing inside."""

import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kerastl._base.checks import closest, in_range, listed
from kerastl._base.types import ImageSize, PathLike
from kerastl.backbones.local import image_shape
from kerastl.backbones.pooling import Pooling
from kerastl.backbones.preprocessing import preprocess
from kerastl.backbones.specs import Spec
from kerastl.backbones.weights import explained, load_weights

# The published EfficientNet files keep the standard deviation where their Normalization layer
# expects the variance; keras.applications mends it with one more Rescaling, but only for
# weights="imagenet" (https://github.com/tensorflow/tensorflow/issues/49930, Keras 3.15).
_EFFICIENTNET_STD = (0.229, 0.224, 0.225)

_WIDTHS = ("alpha", "depth_multiplier")  # options that multiply a number of filters


def build(
    spec: Spec,
    *,
    weights: PathLike | None,
    image_size: ImageSize | None,
    pooling: Pooling | None,
    options: Mapping[str, Any],
) -> keras.Model:
    """One flat model: preprocessing, the network without its classifier, pooling.

    Args:
        spec: `Spec` of the network.
        weights: `"imagenet"`, None or a path.
        image_size: None, an int or `(height, width)`.
        pooling: `"auto"` or `"avg"`, `"max"`, or None for feature maps. The constructor does it,
            because ConvNeXt normalizes after it.
        options: Dict of further constructor arguments; keys in `spec.options`.

    Returns:
        A functional `keras.Model` from `(B, height, width, 3)` to `(B, features)`.
    """
    shape = image_shape(spec.image_size if image_size is None else image_size)
    _check_size(spec, shape)
    _check_options(spec, options)
    if pooling in ("token", "own"):
        raise ValueError(
            f"`pooling={pooling!r}` needs a backbone of tokens. Received: name={spec.name!r}, "
            "which gives feature maps. Use 'avg' or 'max'."
        )
    image = keras.Input(shape, name="image")
    settings = {**options, "pooling": "avg" if pooling == "auto" else pooling}
    network = _construct(spec, preprocess(image, spec.preprocessing), weights, settings)
    # The constructors wrap their input in a list and would warn at each call; this does not.
    model = keras.Model(image, network.output, name=network.name)
    if weights not in (None, "imagenet"):
        load_weights(network, weights, head_arrays=spec.head_arrays, hint=_hint(spec, options))
        _mend_efficientnet(model)
    return model


def _check_size(spec, shape):
    if min(shape[:2]) < spec.min_size:
        raise ValueError(
            f"`image_size` must be at least {spec.min_size} pixels for {spec.name}. "
            f"Received: image_size={shape[:2]}. Its published weights saw {spec.image_size}."
        )


def _check_options(spec, options):
    for name in options:
        if name not in spec.options:
            allowed = listed(spec.options) or "no further options"
            near = f" Closest: {closest(name, spec.options, 1)}." if spec.options else ""
            raise ValueError(
                f"{spec.name} takes {allowed}. Received: {name}={options[name]!r}.{near}"
            )
        if name in _WIDTHS:
            in_range(options[name], 0.01, 100, name)


def _construct(spec, pixels, weights, settings):
    constructor = getattr(keras.applications, spec.constructor)
    with warnings.catch_warnings(), explained(f"The weights of {spec.name} (weights='imagenet')"):
        # Other sizes than the published one are ordinary here; the weights are the same.
        warnings.filterwarnings("ignore", message="`input_shape` is undefined or non-square")
        return constructor(
            include_top=False,
            weights="imagenet" if weights == "imagenet" else None,
            input_tensor=pixels,
            input_shape=tuple(pixels.shape[1:]),
            **settings,
        )


def _hint(spec, options):
    if "alpha" not in spec.options:
        return ""
    return f" The model was made with alpha={options.get('alpha', 1.0)}: is the file's the same?"


def _mend_efficientnet(model):
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            _, variance, _ = layer.weights
            if np.allclose(variance, _EFFICIENTNET_STD, atol=1e-4):
                variance.assign(np.square(_EFFICIENTNET_STD))
                layer.finalize_state()
