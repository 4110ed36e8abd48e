"""BitFit: biases alone train."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from kerastl.peft.adapter import Adapter, Method, with_values


@keras.saving.register_keras_serializable(package="kerastl")
@dataclasses.dataclass(frozen=True)
class BitFit(Method):
    """Something is added to each bias, zero at first, and trains in its place.

    Layers without a bias, and batch normalizations whose offset is one, count as well; the base
    keeps the biases that it had.

    Example:
        >>> BitFit().fits(keras.layers.Dense(2, use_bias=False))
        False

    References:
        Zaken et al., 2022, section 3, https://arxiv.org/abs/2106.10199
    """

    kinds = (keras.layers.Layer,)
    acts_on_int8 = True

    def fits(self, layer: keras.Layer) -> bool:
        return _bias_of(layer) is not None

    def adapter(self, layer: keras.Layer, path: str, *, name: str = "bitfit") -> Adapter:
        return Bias(layer, self, name=name)


def _bias_of(layer):
    """The bias of a layer, or the offset of a normalization, or None."""
    bias = getattr(layer, "bias", None)
    bias = getattr(layer, "beta", None) if bias is None else bias
    return bias if isinstance(bias, keras.Variable) else None


class Bias(Adapter):
    """What is added to one bias.

    Args:
        layer: Built layer with a bias.
        method: `BitFit`.
        name: String.
    """

    adds_up = True

    def __init__(self, layer: keras.Layer, method: BitFit, *, name: str) -> None:
        super().__init__(layer, method, name=name)
        shape = self.merged_into.shape
        self.bias = self.add_weight(shape=shape, initializer="zeros", name="bias")

    @property
    def merged_into(self) -> keras.Variable:
        """The bias of the base."""
        bias = _bias_of(self.beside.layer)
        if bias is None:
            raise ValueError(f"{self.beside.layer.name!r} has no bias for BitFit to add to.")
        return bias

    def around(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with with_values(self.merged()):
            return call(*args, **kwargs)

    def merged(self) -> list[tuple[keras.Variable, Any]]:
        bias = self.merged_into
        return [(bias, self.whole(bias) + self.whole(self.bias))]
