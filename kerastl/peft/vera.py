"""VeRA: random matrices that all layers share and nothing trains, and two vectors a layer."""

import dataclasses
import math
import weakref
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from kerastl._base import checks
from kerastl._keras import kernel_of
from kerastl.peft.adapter import Adapter, Method, added_before_activation
from kerastl.peft.linear import CONVOLUTIONS, DENSE, is_depthwise, linear_of


@keras.saving.register_keras_serializable(package="kerastl")
@dataclasses.dataclass(frozen=True)
class VeRA(Method):
    """`x @ (W + (A * d) @ (B * b))`: `A` and `B` are random and shared, `d` and `b` train.

    `d`, `(rank,)`, begins at `start` and `b`, `(outputs,)`, at zero, so that a fresh adapter
    changes nothing. Each layer takes as many rows of one endless `A` and columns of one endless
    `B` as it has inputs and outputs. Both are drawn from `seed` and are no weights: they are made
    once for each size, in memory and in no file. They are uniform with He's bound
    `sqrt(6 / fan_in)`, that of `A` from the inputs of the layer; the paper slices matrices of the
    widest layer and has one bound for all.

    Args:
        rank: Int >= 1; a rank costs one weight a layer.
        start: Float above 0, what `d` begins at.
        seed: Int in [0, 2**32).

    Raises:
        ValueError, TypeError: If an argument is out of its range.

    Example:
        >>> layer = keras.layers.Dense(4)
        >>> layer.build((None, 8))
        >>> VeRA(rank=16).adapter(layer, "dense").count_params()  # 16 + 4
        20

    References:
        Kopiczko et al., 2024, equation 2, https://arxiv.org/abs/2310.11454
    """

    kinds = (*DENSE, *CONVOLUTIONS)

    rank: int = 256
    start: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        checks.whole(self.rank, 1, 1_000_000, "rank")
        if not checks.in_range(self.start, 0.0, 1e9, "start") > 0:
            raise ValueError("`start` must be above 0, or nothing is learnt. Received: start=0")
        checks.whole(self.seed, 0, 2**32 - 1, "seed")

    def fits(self, layer: keras.Layer) -> bool:
        """A depthwise convolution is smaller than its two vectors, and is left out."""
        return super().fits(layer) and not is_depthwise(layer)

    def adapter(self, layer: keras.Layer, path: str, *, name: str = "vera") -> Adapter:
        return SharedRandom(layer, self, name=name)


@dataclasses.dataclass(frozen=True, eq=False)
class RandomRows:
    """The first rows of an endless random matrix; Keras's trackers and files do not see it.

    Attributes:
        tensor: Float32 tensor `(count, rank)`, uniform in (-1, 1).
    """

    tensor: Any


_MADE: weakref.WeakValueDictionary = weakref.WeakValueDictionary()


def random_rows(seed: int, which: int, count: int, rank: int) -> RandomRows:
    """The first `count` rows of the matrix `which` of `seed`; one object while somebody has it.

    `RandomState` draws the same numbers in every version of NumPy, row after row.
    """
    key = (seed, which, count, rank)
    found = _MADE.get(key)
    if found is None:
        values = np.random.RandomState([seed, which]).uniform(-1, 1, (count, rank))
        found = _MADE[key] = RandomRows(ops.convert_to_tensor(values.astype("float32")))
    return found


class SharedRandom(Adapter):
    """The two vectors of one layer.

    Args:
        layer: Built layer.
        method: `VeRA`.
        name: String.

    Attributes:
        linear: `Linear` of the layer.
        d: Variable, `(rank,)`.
        b: Variable, `(outputs,)`.
    """

    def __init__(self, layer: keras.Layer, method: VeRA, *, name: str) -> None:
        super().__init__(layer, method, name=name)
        linear = self.linear = linear_of(layer)
        self._left = random_rows(method.seed, 0, linear.num_inputs, method.rank)
        self._right = random_rows(method.seed, 1, linear.num_outputs, method.rank)
        start = keras.initializers.Constant(method.start)
        self.d = self.add_weight(shape=(method.rank,), initializer=start, name="vera_d")
        self.b = self.add_weight(shape=(linear.num_outputs,), initializer="zeros", name="vera_b")

    def factors(self) -> tuple[Any, Any]:
        """`(A * d, B * b)`, float32, in `Linear.shapes`: each part of a convolution has one A."""
        bounds = (math.sqrt(6 / n) for n in (self.linear.num_inputs, self.beside.method.rank))
        left, right = (bound * one.tensor for bound, one in zip(bounds, (self._left, self._right)))  # noqa: B905
        a = ops.tile(left * self.whole(self.d), (1, self.linear.groups))
        return a, ops.transpose(right) * self.whole(self.b)

    def around(self, call: Callable[..., Any], inputs: Any, *args: Any, **kwargs: Any) -> Any:
        def added(outputs):
            a, b = (self.cast(factor, outputs) for factor in self.factors())
            return self.linear.through(inputs, a, b)

        return added_before_activation(self.beside.layer, call, added, inputs, *args, **kwargs)

    def merged(self) -> list[tuple[keras.Variable, Any]]:
        kernel = kernel_of(self.beside.layer)
        change = self.linear.to_kernel(self.linear.product(*self.factors()))
        return [(kernel, self.whole(kernel) + change)]
