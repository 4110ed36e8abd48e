"""SHiRA: a few entries of a kernel train, and the rest of it stands still."""

import dataclasses
import math
import zlib
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import keras
import numpy as np
from keras import ops

from kerastl._base import checks
from kerastl._keras import kernel_of
from kerastl.peft.adapter import Adapter, Method, refuse_quantized, with_values
from kerastl.peft.linear import LINEAR

Choice: TypeAlias = Literal["random", "magnitude"]
CHOICES = ("random", "magnitude")


@keras.saving.register_keras_serializable(package="kerastl")
@dataclasses.dataclass(frozen=True)
class SHiRA(Method):
    """`W + scatter(values)` at a few places of the kernel that are chosen once; values train.

    The change is sparse and of high rank, where LoRA's is dense and of low rank. It works for any
    kernel, depthwise ones too; merged, every other entry of the kernel is what it was, bit for
    bit. Values begin at zero.

    Args:
        share: Float in (0, 1], share of the entries of each kernel that train, at least one.
        choice: `"random"`, or `"magnitude"` for those of the largest magnitude.
        seed: Int in [0, 2**32), of the random places, which also depend on the layer's path: the
            same in another process.

    Raises:
        ValueError, TypeError: If an argument is out of its range.

    Example:
        >>> layer = keras.layers.Dense(10)
        >>> layer.build((None, 50))
        >>> len(SHiRA(share=0.02).places(layer.kernel, "dense"))
        10

    References:
        Bhardwaj et al., 2024, section 3.1, SHiRA-Rand and SHiRA-WM,
        https://arxiv.org/abs/2406.13175
    """

    kinds = (*LINEAR, keras.layers.Embedding)

    share: float = 0.01
    choice: Choice = "random"
    seed: int = 0

    def __post_init__(self) -> None:
        if not checks.in_range(self.share, 0.0, 1.0, "share") > 0:
            raise ValueError("`share` must be above 0, or nothing is learnt. Received: share=0")
        checks.one_of(self.choice, CHOICES, "choice")
        checks.whole(self.seed, 0, 2**32 - 1, "seed")

    def targets(self, model: Any, groups: Any) -> list[keras.Layer]:
        """All linear layers of the blocks, depthwise ones too; embeddings by `where` alone."""
        return [layer for layer in super().targets(model, groups) if isinstance(layer, LINEAR)]

    def places(self, kernel: Any, path: str) -> np.ndarray:
        """Which entries train: their sorted positions in the kernel read as one row, int32."""
        size = math.prod(kernel.shape)
        count = max(1, round(self.share * size))
        if self.choice == "random":
            # `RandomState` draws the same numbers in every version of NumPy.
            drawn = np.random.RandomState([self.seed, zlib.crc32(path.encode())])
            places = drawn.choice(size, count, replace=False)
        else:
            magnitudes = np.abs(ops.convert_to_numpy(ops.cast(kernel, "float32"))).ravel()
            places = np.argsort(-magnitudes, kind="stable")[:count]
        return np.sort(places).astype("int32")

    def adapter(self, layer: keras.Layer, path: str, *, name: str = "shira") -> Adapter:
        refuse_quantized(layer, path, "SHiRA")
        return Sparse(layer, self, path, name=name)


class Sparse(Adapter):
    """What is added to some entries of one kernel.

    Args:
        layer: Built layer.
        method: `SHiRA`.
        path: String, the path of `layer`.
        name: String.

    Attributes:
        places: Variable, `(count,)`, int32: positions in the kernel read as one row.
        values: Variable, `(count,)`: what is added there.
    """

    def __init__(self, layer: keras.Layer, method: SHiRA, path: str, *, name: str) -> None:
        super().__init__(layer, method, name=name)
        places = method.places(kernel_of(layer), path)
        self.places = self.add_weight(
            shape=places.shape, initializer="zeros", dtype="int32", trainable=False, name="places"
        )
        self.places.assign(places)
        self.values = self.add_weight(shape=places.shape, initializer="zeros", name="values")

    def around(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with with_values(self.merged()):
            return call(*args, **kwargs)

    def merged(self) -> list[tuple[keras.Variable, Any]]:
        kernel = kernel_of(self.beside.layer)
        places = ops.convert_to_tensor(self.places)[:, None]
        change = ops.scatter(places, self.whole(self.values), (math.prod(kernel.shape),))
        return [(kernel, self.whole(kernel) + ops.reshape(change, kernel.shape))]
