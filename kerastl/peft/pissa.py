"""PiSSA: LoRA that begins at the principal part of the kernel."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from kerastl._keras import kernel_of
from kerastl.peft.adapter import Adapter, added_before_activation, refuse_quantized
from kerastl.peft.lora import LowRank, OverLoRA, Scaling


@keras.saving.register_keras_serializable(package="kerastl")
@dataclasses.dataclass(frozen=True)
class PiSSA(OverLoRA):
    """`A` and `B` begin at the largest singular values of the kernel and train from there.

    With `W = U S V`, `A0 = U_r sqrt(S_r / scale)` and `B0 = sqrt(S_r / scale) V_r`. The paper
    takes `scale * A0 @ B0` out of the base and trains `A` and `B` beside what is left:
    `x @ (W - scale * A0 @ B0) + scale * x @ A @ B`. Here the base keeps `W`, and the adapter adds
    `scale * (x @ A @ B - x @ A0 @ B0)`, which is the same sum and exactly zero at first. `A0` and
    `B0` are weights of the adapter that do not train. A singular value decomposition of each
    kernel is made when it is added. Of a grouped convolution, each part is decomposed by itself.

    Args:
        rank: Int >= 1, at most the smaller side of each kernel as a matrix.
        alpha: Float > 0. Others than `scale = 1` change only how fast it learns.
        dropout: Float in [0, 1), on the way through `A`, not through `A0`.
        scaling: `"lora"`, with which `scale` is 1 by default as in the paper, or `"rslora"`.
        ranks: Dict from a regex of whole layer paths to their rank.
        alphas: Dict from such a regex to their alpha.

    Raises:
        ValueError, TypeError: If an argument is out of its range.

    Example:
        >>> PiSSA(rank=4, alpha=4.0).lora.scale("any/path")
        1.0

    References:
        Meng et al., 2024, equations 2 to 5, https://arxiv.org/abs/2404.02948
    """

    scaling: Scaling = "lora"

    def adapter(self, layer: keras.Layer, path: str, *, name: str = "pissa") -> Adapter:
        refuse_quantized(layer, path, "PiSSA")
        return Principal(layer, self, path, name=name)


class Principal(Adapter):
    """What the principal part of one kernel has become, less what it was.

    Args:
        layer: Built layer.
        method: `PiSSA`.
        path: String, the path of `layer`.
        name: String.

    Attributes:
        lora: `LowRank`, the part that trains.
        a: Variable, `A0`.
        b: Variable, `B0`.
    """

    def __init__(self, layer: keras.Layer, method: PiSSA, path: str, *, name: str) -> None:
        super().__init__(layer, method, name=name)
        with keras.name_scope(name):
            self.lora = LowRank(layer, method.lora, path, name="lora")
        linear, rank = self.lora.linear, self.lora.rank
        most = min(linear.num_inputs, linear.num_outputs // linear.groups)
        if rank > most:
            raise ValueError(
                f"`rank` must be at most {most}, the smaller side of the kernel of {path!r}, for "
                f"PiSSA to take so many singular values. Received: rank={rank}. Take a smaller "
                "one by `ranks`, or leave the layer out of `where`."
            )
        matrix = linear.to_matrix(self.whole(kernel_of(layer)))
        factors = linear.factors(matrix / self.lora.scale, rank)
        self.a, self.b = (
            self.add_weight(shape=v.shape, trainable=False, name=f"principal_{name}")
            for name, v in zip("ab", factors, strict=True)
        )
        for value, *variables in zip(factors, (self.a, self.b), (self.lora.a, self.lora.b)):  # noqa: B905
            for variable in variables:
                variable.assign(value)

    def around(self, call: Callable[..., Any], inputs: Any, *args: Any, **kwargs: Any) -> Any:
        def added(outputs):
            a, b = self.cast(self.a, outputs), self.cast(self.b, outputs)
            before = self.lora.scale * self.lora.linear.through(inputs, a, b, **kwargs)
            return self.lora.added(inputs, outputs, **kwargs) - before

        return added_before_activation(self.beside.layer, call, added, inputs, *args, **kwargs)

    def merged(self) -> list[tuple[keras.Variable, Any]]:
        kernel, linear = kernel_of(self.beside.layer), self.lora.linear
        a, b = self.whole(self.a), self.whole(self.b)
        before = linear.to_kernel(self.lora.scale * linear.product(a, b))
        return [(kernel, self.whole(kernel) + (self.lora.change() - before))]
