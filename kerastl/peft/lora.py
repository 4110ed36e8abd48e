"""LoRA: a change of low rank beside a frozen kernel, of any linear layer and of embeddings."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import keras
from keras import ops

from kerastl._base import checks
from kerastl._keras import kernel_of
from kerastl.peft.adapter import (
    Adapter,
    Method,
    added_before_activation,
    masked_as,
    pattern_value,
    with_values,
)
from kerastl.peft.linear import LINEAR, EmbeddingLinear, is_depthwise, linear_of

Scaling: TypeAlias = Literal["rslora", "lora"]
SCALINGS = ("rslora", "lora")


@keras.saving.register_keras_serializable(package="kerastl")
@dataclasses.dataclass(frozen=True)
class LoRA(Method):
    """A frozen layer computes `x @ (W + scale * A @ B)`; `A` and `B` alone train.

    `A`, `(inputs, rank)`, begins uniform in `±1 / sqrt(inputs)` and `B`, `(rank, outputs)`, at
    zero, so that a fresh adapter changes nothing. The kernel of an `EinsumDense` counts as the
    matrix that it is: the query of BERT-base takes 12,288 weights at rank 8. In a convolution `A`
    is one of the same geometry and `B` one of size 1; a depthwise convolution has windows that
    its channels share. In an embedding `A` begins at zero and `B` normal.

    Args:
        rank: Int >= 1.
        alpha: Float > 0. `scale` is `alpha / sqrt(rank)` or `alpha / rank`.
        dropout: Float in [0, 1), share of the inputs left out on the way through `A` in training.
        scaling: `"rslora"` for `alpha / sqrt(rank)`, with which higher ranks learn as fast, or
            `"lora"` for `alpha / rank`, as in the paper.
        ranks: Dict from a regex of whole layer paths to the rank of the layers it matches.
        alphas: Dict from such a regex to their alpha.
        tokens: Ids of tokens; of an embedding their rows alone train, each by itself and whole.

    Raises:
        ValueError, TypeError: If an argument is out of its range.

    Example:
        >>> LoRA(rank=16).scale("any/path")
        2.0

    References:
        Hu et al., 2022, equation 3, https://arxiv.org/abs/2106.09685; Kalajdzievski, 2023, for
        the root, https://arxiv.org/abs/2312.03732
    """

    kinds = LINEAR
    acts_on_int8 = True

    rank: int = 8
    alpha: float = 8.0
    dropout: float = 0.0
    scaling: Scaling = "rslora"
    ranks: Mapping[str, int] = dataclasses.field(default_factory=dict)
    alphas: Mapping[str, float] = dataclasses.field(default_factory=dict)
    tokens: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for rank in (self.rank, *self.ranks.values()):
            checks.whole(rank, 1, 1_000_000, "rank")
        for alpha in (self.alpha, *self.alphas.values()):
            if not checks.in_range(alpha, 0.0, 1e9, "alpha") > 0:
                raise ValueError("`alpha` must be above 0, or nothing is learnt. Received: alpha=0")
        if not checks.in_range(self.dropout, 0.0, 1.0, "dropout") < 1:
            raise ValueError("`dropout` must be below 1. Received: dropout=1")
        checks.one_of(self.scaling, SCALINGS, "scaling")
        object.__setattr__(self, "tokens", tuple(self.tokens))
        for token in self.tokens:
            checks.whole(token, 0, 2**31 - 1, "tokens")
        if len(set(self.tokens)) < len(self.tokens):
            raise ValueError(f"`tokens` must be there once each. Received: tokens={self.tokens}")

    def fits(self, layer: keras.Layer) -> bool:
        return isinstance(layer, (*LINEAR, keras.layers.Embedding))

    def targets(self, model: Any, groups: Any) -> list[keras.Layer]:
        """All linear layers of the blocks; with `tokens` the embedding that is that long."""
        if self.tokens:
            raise ValueError(
                "`tokens` are rows of an embedding: say which by `where`, such as "
                f"where='token_embedding'. Received: tokens={self.tokens}"
            )
        found = super().targets(model, groups)
        return [one for one in found if isinstance(one, LINEAR) and not is_depthwise(one)]

    def rank_of(self, path: str) -> int:
        """The rank at the layer of this path."""
        return pattern_value(path, dict(self.ranks), self.rank)

    def scale(self, path: str) -> float:
        """What `A @ B` is multiplied by at the layer of this path."""
        rank, alpha = self.rank_of(path), pattern_value(path, dict(self.alphas), self.alpha)
        return alpha / (math.sqrt(rank) if self.scaling == "rslora" else rank)

    def check(self, places: Sequence[tuple[keras.Layer, str]]) -> None:
        """Raise where no layer is wide enough for its rank: the factors would hold no more."""
        if self.tokens:
            return
        wide = {path: _widest(layer) for layer, path in places}
        if all(self.rank_of(path) > width for path, width in wide.items()):
            path = max(wide, key=lambda one: wide[one])
            raise ValueError(
                f"`rank` must be at most {wide[path]}, the width of {path!r}, the widest of the "
                f"layers that it acts on. Received: rank={self.rank_of(path)}"
            )

    def adapter(self, layer: keras.Layer, path: str, *, name: str = "lora") -> Adapter:
        if not self.tokens:
            return LowRank(layer, self, path, name=name)
        if not isinstance(layer, keras.layers.Embedding):
            raise ValueError(
                f"`tokens` are rows of an embedding, and {path!r} is a {type(layer).__name__}. "
                f"Received: tokens={self.tokens}"
            )
        return Rows(layer, self, name=name)


@dataclasses.dataclass(frozen=True)
class OverLoRA(Method):
    """A method with the settings of `LoRA`, whose adapters hold a `LowRank` each."""

    kinds = LINEAR

    rank: int = 8
    alpha: float = 8.0
    dropout: float = 0.0
    scaling: Scaling = "rslora"
    ranks: Mapping[str, int] = dataclasses.field(default_factory=dict)
    alphas: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        _ = self.lora  # which checks

    @property
    def lora(self) -> LoRA:
        """The `LoRA` of the settings."""
        return LoRA(**self.get_config())

    def targets(self, model: Any, groups: Any) -> list[keras.Layer]:
        return self.lora.targets(model, groups)

    def check(self, places: Sequence[tuple[keras.Layer, str]]) -> None:
        self.lora.check(places)


class LowRank(Adapter):
    """`scale * A @ B` beside the kernel of one layer; zero at first.

    Args:
        layer: Built layer.
        method: `LoRA`.
        path: String, the path of `layer`.
        name: String.

    Attributes:
        linear: `Linear` of the layer.
        a: Variable, `Linear.shapes(rank)[0]`.
        b: Variable, `Linear.shapes(rank)[1]`.
        scale: Float.
    """

    def __init__(self, layer: keras.Layer, method: LoRA, path: str, *, name: str) -> None:
        super().__init__(layer, method, name=name)
        self.linear = linear_of(layer)
        self.rank, self.scale = method.rank_of(path), method.scale(path)
        of_a, of_b = self.linear.shapes(self.rank)
        _check_smaller(layer, path, self.rank, of_a, of_b)
        bound = 1 / math.sqrt(self.linear.num_inputs)
        first, second = keras.initializers.RandomUniform(-bound, bound), "zeros"
        if isinstance(self.linear, EmbeddingLinear):
            first, second = "zeros", keras.initializers.RandomNormal(stddev=1.0)
        self.a = self.add_weight(shape=of_a, initializer=first, name="lora_a")
        self.b = self.add_weight(shape=of_b, initializer=second, name="lora_b")
        drops = method.dropout > 0 and not isinstance(self.linear, EmbeddingLinear)
        self.dropout = None
        if drops:
            self.dropout = keras.layers.Dropout(method.dropout, dtype=self.dtype_policy)

    def around(self, call: Callable[..., Any], inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("reverse") and (left_alone := _read_backwards(self, call, inputs, kwargs)):
            return left_alone()

        def added(outputs):
            return self.added(inputs, outputs, **kwargs)

        return added_before_activation(self.beside.layer, call, added, inputs, *args, **kwargs)

    def added(self, inputs: Any, outputs: Any, **kwargs: Any) -> Any:
        """What is put to `outputs`, those of the layer for `inputs`, before its activation."""
        if self.dropout is not None and self.is_training:
            inputs = self.dropout(inputs, training=True)
        a, b = self.cast(self.a, outputs), self.cast(self.b, outputs)
        return self.scale * self.linear.through(inputs, a, b, **kwargs)

    def change(self) -> Any:
        """What is added to the kernel, in its shape, float32."""
        product = self.linear.product(self.whole(self.a), self.whole(self.b))
        return self.linear.to_kernel(self.scale * product)

    def merged(self) -> list[tuple[keras.Variable, Any]]:
        kernel = kernel_of(self.beside.layer)
        return [(kernel, self.whole(kernel) + self.change())]


def _widest(layer):
    """Inputs or outputs of the kernel of `layer` as a matrix, whichever are more."""
    linear = linear_of(layer)
    return max(linear.num_inputs, linear.num_outputs // linear.groups)


def _read_backwards(adapter, call, inputs, kwargs):
    """What an embedding read backwards gives where the adapter is no plain summand, or None.

    Weights that are not tied are others than those adapted, and a soft cap comes after the sum.
    """
    layer = adapter.beside.layer
    if not layer.tie_weights:
        return lambda: call(inputs, **kwargs)
    if layer.logit_soft_cap is None:
        return None

    def capped():
        with with_values(adapter.merged()):
            return call(inputs, **kwargs)

    return capped


def _check_smaller(layer, path, rank, of_a, of_b):
    """Refuse a rank at which a depthwise convolution has fewer weights than its adapter."""
    size = math.prod(kernel_of(layer).shape)
    if is_depthwise(layer) and math.prod(of_a) + math.prod(of_b) >= size:
        raise ValueError(
            f"`rank` must be small enough for the adapter to be smaller than its layer: {path!r} "
            f"has {size} weights, its adapter {math.prod(of_a) + math.prod(of_b)}. Received: "
            f"rank={rank}. Take a smaller one by `ranks`, or leave the layer out of `where`."
        )


class Rows(Adapter):
    """Some rows of an embedding, to which something is added that is zero at first.

    Args:
        layer: Built embedding.
        method: `LoRA` with `tokens`.
        name: String.
    """

    def __init__(self, layer: keras.Layer, method: LoRA, *, name: str) -> None:
        super().__init__(layer, method, name=name)
        count, width = kernel_of(layer).shape
        over = [token for token in method.tokens if token >= count]
        if over:
            raise ValueError(
                f"`tokens` must be below {count}, the length of {layer.name!r}. Received: {over}"
            )
        self.rows = self.add_weight(
            shape=(len(method.tokens), width), initializer="zeros", name="rows"
        )
        self._count = count

    def _table(self):
        """`(count, width)`: what is added to each row."""
        tokens = ops.convert_to_tensor(self.beside.method.tokens, "int32")
        rows = self.whole(self.rows)
        return ops.scatter(tokens[:, None], rows, (self._count, rows.shape[1]))

    def around(self, call: Callable[..., Any], inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("reverse") and (left_alone := _read_backwards(self, call, inputs, kwargs)):
            return left_alone()
        outputs = call(inputs, *args, **kwargs)
        table = self.cast(self._table(), outputs)
        if kwargs.get("reverse"):
            return outputs + ops.matmul(inputs, ops.transpose(table))
        return masked_as(outputs, outputs + ops.take(table, ops.cast(inputs, "int32"), axis=0))

    def merged(self) -> list[tuple[keras.Variable, Any]]:
        embeddings = kernel_of(self.beside.layer)
        return [(embeddings, self.whole(embeddings) + self._table())]
