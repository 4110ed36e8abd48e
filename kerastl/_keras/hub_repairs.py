"""Layers of KerasHub 0.32.0 that cannot be saved or loaded by themselves.

KerasHub saves a backbone by the backbone's own arguments, so that nobody noticed. In a flat model
each layer is saved by its own config. Each entry can go when `tests/training/test_hub_repairs.py`
says that KerasHub has mended it.
"""

from collections.abc import Iterable
from typing import Any

import keras


def mend_before_saving(layers: Iterable[keras.Layer]) -> None:
    """Give layers the attributes that their `get_config` reads and their constructor forgot."""
    for layer in layers:
        for name, value in _FORGOTTEN.get(type(layer).__name__, {}).items():
            if not hasattr(layer, name):
                setattr(layer, name, value(layer))


def mend_config(config: dict[str, Any]) -> dict[str, Any]:
    """Rename or drop, in place, what `get_config` says and the constructor does not take."""
    for layer in config["layers"]:
        changes = _UNKNOWN.get(layer["class_name"], {})
        for name, known_as in changes.items():
            value = layer["config"].pop(name, None)
            if known_as is not None and value is not None:
                layer["config"][known_as] = value
    return config


def mend_after_loading(layers: Iterable[keras.Layer]) -> None:
    """Build sublayers that a constructor makes and that nothing builds before weights arrive."""
    for layer in layers:
        if type(layer).__name__ == "RelativeEmbedding" and not layer.layer_norm.built:
            layer.layer_norm.build((None, 2 * layer.bucket_size, layer.hidden_dim))


_FORGOTTEN = {
    "DeiTEncoder": {"key_dim": lambda layer: layer.hidden_dim // layer.num_heads},
    "LlamaTransformerDecoder": {
        "rope_scaling_factor": lambda layer: layer.rope_position_scaling_factor
    },
}

_UNKNOWN = {
    "ViTPatchingAndEmbedding": {"num_patches": None, "num_positions": None},
    "DeiTEmbeddings": {"num_patches": None, "num_positions": None},
    "DeiTEncoder": {"key_dim": None},
    "LlamaTransformerDecoder": {"rope_scaling_factor": "rope_position_scaling_factor"},
}
