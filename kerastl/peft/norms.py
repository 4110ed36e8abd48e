"""Normalizations alone train: their scales and offsets."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from kerastl import _keras
from kerastl.peft.adapter import Adapter, Method, with_values

_HEAD = "head"


@keras.saving.register_keras_serializable(package="kerastl")
@dataclasses.dataclass(frozen=True)
class NormTuning(Method):
    """Something is added to the scale and to the offset of each normalization, zero at first.

    Layer, group and batch normalizations, the RMS normalizations of Keras, and layers of a class
    of that name in KerasHub (`LlamaLayerNorm`). Statistics of batch normalizations stand still:
    the base infers. By itself it acts on all normalizations but those of the head, also on the
    first and the last, which are in no block.

    Example:
        >>> NormTuning().fits(keras.layers.LayerNormalization(scale=False, center=False))
        False

    References:
        Zhao et al., 2023, section 3, of layer normalizations, https://arxiv.org/abs/2312.11420;
        Frankle et al., 2021, of batch normalizations, https://arxiv.org/abs/2003.00152
    """

    kinds = (
        keras.layers.LayerNormalization,
        keras.layers.RMSNormalization,
        keras.layers.BatchNormalization,
        keras.layers.GroupNormalization,
    )

    def fits(self, layer: keras.Layer) -> bool:
        is_one = isinstance(layer, self.kinds) or "Norm" in type(layer).__name__
        return is_one and not _keras.sublayers(layer) and bool(_scale_and_offset(layer))

    def targets(self, model: Any, groups: Any) -> list[keras.Layer]:
        names = [name for name in groups if name != _HEAD]
        return [layer for name in names for layer in groups[name] if self.fits(layer)]

    def adapter(self, layer: keras.Layer, path: str, *, name: str = "norms") -> Adapter:
        return Norm(layer, self, name=name)


def _scale_and_offset(layer):
    """Variables that a normalization made to be trained, whether they train now or not."""
    return _keras.own_trainable_variables(layer)


class Norm(Adapter):
    """What is added to scale and offset of one normalization.

    Args:
        layer: Built normalization.
        method: `NormTuning`.
        name: String.

    Attributes:
        changes: List of variables, one for each of the scale and the offset that there is.
    """

    adds_up = True

    def __init__(self, layer: keras.Layer, method: NormTuning, *, name: str) -> None:
        super().__init__(layer, method, name=name)
        self.changes = [
            self.add_weight(shape=v.shape, initializer="zeros", name=v.name)
            for v in _scale_and_offset(layer)
        ]

    def around(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with with_values(self.merged()):
            return call(*args, **kwargs)

    def merged(self) -> list[tuple[keras.Variable, Any]]:
        pairs = zip(_scale_and_offset(self.beside.layer), self.changes, strict=True)
        return [(v, self.whole(v) + self.whole(change)) for v, change in pairs]
