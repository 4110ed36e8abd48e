"""DoRA: a kernel's directions by LoRA, its lengths by weights of their own."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kerastl._keras import kernel_of
from kerastl.peft.adapter import (
    Adapter,
    changed_before_activation,
    refuse_quantized,
    with_values,
)
from kerastl.peft.lora import LowRank, OverLoRA


@keras.saving.register_keras_serializable(package="kerastl")
@dataclasses.dataclass(frozen=True)
class DoRA(OverLoRA):
    """Each column of the kernel keeps a length of its own, and LoRA turns its direction.

    `y = g * (x @ W + scale * x @ A @ B) + bias`, with `g = (|W| + delta) / |W + scale * A @ B|`
    for each output; the length below the line counts as a constant, so that no gradient flows
    through it. `delta` trains from zero, where the paper's magnitude is `|W| + delta`: a fresh
    adapter is exactly the identity. Two of them on one layer do not add up.

    Args:
        rank: Int >= 1, as in `LoRA`, and so are the others.
        alpha: Float > 0.
        dropout: Float in [0, 1), on the way through `A` alone.
        scaling: `"rslora"` or `"lora"`.
        ranks: Dict from a regex of whole layer paths to their rank.
        alphas: Dict from such a regex to their alpha.

    Raises:
        ValueError, TypeError: If an argument is out of its range.

    Example:
        >>> layer = keras.layers.Dense(4)
        >>> layer.build((None, 8))
        >>> DoRA(rank=2).adapter(layer, "dense").count_params()  # 2 * (8 + 4) + 4
        28

    References:
        Liu et al., 2024, equations 5 and 6, without gradient of the norm as in section 4.3,
        https://arxiv.org/abs/2402.09353
    """

    def adapter(self, layer: keras.Layer, path: str, *, name: str = "dora") -> Adapter:
        refuse_quantized(layer, path, "DoRA")
        return Decomposed(layer, self, path, name=name)


class Decomposed(Adapter):
    """Lengths and directions of the columns of one kernel.

    Args:
        layer: Built layer.
        method: `DoRA`.
        path: String, the path of `layer`.
        name: String.

    Attributes:
        lora: `LowRank`, the change before lengths are set.
        magnitude: Variable, `(outputs,)`: what is added to the lengths of the base.
    """

    is_additive = False

    def __init__(self, layer: keras.Layer, method: DoRA, path: str, *, name: str) -> None:
        super().__init__(layer, method, name=name)
        with keras.name_scope(name):
            self.lora = LowRank(layer, method.lora, path, name="lora")
        self.magnitude = self.add_weight(
            shape=(self.lora.linear.num_outputs,), initializer="zeros", name="magnitude"
        )

    def gains(self) -> Any:
        """`(outputs,)`, float32: `g`, and 1 where a column is zero, which has no direction."""
        kernel = self.whole(kernel_of(self.beside.layer))
        length = self._lengths(kernel)
        turned = self._lengths(kernel + self.lora.change())
        some = turned > 0
        gains = (length + self.whole(self.magnitude)) / ops.where(some, turned, 1.0)
        return ops.where(some, gains, 1.0)

    def _lengths(self, kernel):
        matrix = self.lora.linear.to_matrix(ops.stop_gradient(kernel))
        return ops.sqrt(ops.sum(ops.square(matrix), axis=0))

    def around(self, call: Callable[..., Any], inputs: Any, *args: Any, **kwargs: Any) -> Any:
        layer, linear = self.beside.layer, self.lora.linear
        bias = getattr(layer, "bias", None)

        def changed(outputs):
            num_axes = len(outputs.shape)
            gains = linear.over_outputs(self.cast(self.gains(), outputs), num_axes)
            outputs = gains * (outputs + self.lora.added(inputs, outputs, **kwargs))
            if bias is None:
                return outputs
            added = self.cast(bias, outputs)
            is_shaped = isinstance(layer, keras.layers.EinsumDense)
            return outputs + (added if is_shaped else linear.over_outputs(added, num_axes))

        def product(*args, **kwargs):
            with with_values([] if bias is None else [(bias, ops.zeros(bias.shape))]):
                return call(*args, **kwargs)

        return changed_before_activation(layer, product, changed, inputs, *args, **kwargs)

    def merged(self) -> list[tuple[keras.Variable, Any]]:
        kernel, linear = kernel_of(self.beside.layer), self.lora.linear
        matrix = linear.to_matrix(self.whole(kernel) + self.lora.change())
        return [(kernel, linear.to_kernel(self.gains() * matrix))]
