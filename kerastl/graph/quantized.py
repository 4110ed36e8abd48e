"""Layers that `keras.Model.quantize` changed, at any depth: which they are, and made so again.

A layer of its own is saved with its quantized policy, and is made with it again. One inside a
composite layer is made by that, which knows nothing of it (Keras 3.15.1, KerasHub 0.32), so that
the file could not be loaded.
"""

import gc
from collections.abc import Iterable
from typing import Any

import keras

from kerastl import _keras
from kerastl.graph.flatten import layers_at_any_depth


def quantized_layers(model: keras.Model) -> dict[int, keras.Layer]:
    """Dict from the position of each quantized layer of `model`, at any depth, to the layer."""
    return {i: one for i, one in enumerate(layers_at_any_depth(model)) if mode_of(one) is not None}


def mode_of(layer: Any) -> str | None:
    """How `layer` itself was quantized, such as `"int8"`, or None."""
    is_composite = bool(_keras.sublayers(layer))
    return None if is_composite else getattr(layer, "quantization_mode", None)


def quantization_state(model: keras.Model) -> list[list[Any]]:
    """`[position, mode, config]` of each quantized layer of `model`, as plain data."""
    return [[i, mode_of(layer), _config_of(layer)] for i, layer in quantized_layers(model).items()]


def _config_of(layer: Any):
    return keras.saving.serialize_keras_object(getattr(layer, "quantization_config", None))


def restore_quantization(model: keras.Model, state: Iterable[list[Any]]) -> None:
    """Quantize the layers of `model` that `quantization_state` told of, where they are not yet."""
    layers: Any = layers_at_any_depth(model)
    gc.freeze()  # else Keras looks through all objects for each kernel that it drops, for seconds
    try:
        for i, mode, config in state:
            if mode_of(layers[i]) is None:
                layers[i].quantize(mode, config=keras.saving.deserialize_keras_object(config))
    finally:
        gc.unfreeze()
