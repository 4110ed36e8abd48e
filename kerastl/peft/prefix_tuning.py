"""Prefix tuning: learnt keys and values before the real ones in every attention layer."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from kerastl import _keras
from kerastl._base import checks
from kerastl.graph import flat_layers
from kerastl.peft.adapter import Adapter, Method, scopes_of

ATTENTIONS = (
    "attention layers: keras.layers.MultiHeadAttention, those of BERT-, GPT-2-, Llama- and "
    "Mistral-like models of KerasHub and of ViT"
)


@keras.saving.register_keras_serializable(package="kerastl")
@dataclasses.dataclass(frozen=True)
class PrefixTuning(Method):
    """Each attention layer attends to `num_tokens` more keys and values, which train.

    `softmax(q [P_k; K]^T / sqrt(d)) [P_v; V]`: the rows of `P_k` and `P_v` come before the real
    ones, and every place of the text sees them all. Trained directly they are unsteady, so one
    small network makes those of all layers, of which each layer has the last part:
    `[P_k; P_v] = tanh(E W + b) W' + b'`, with `E`, `W` and `b` one for the whole model and `W'` and
    `b'` the layer's own. All of it is saved, so that training goes on after loading. The rows have
    no position, and the text keeps its positions. Not the identity at the start.

    Generation with a cache is right as it is: the rows are in no cache and come before what is.

    Args:
        num_tokens: Int >= 1, rows in each layer.
        hidden_dim: Int >= 0, features between `W` and `W'`. 0 trains keys and values themselves.

    Raises:
        ValueError, TypeError: If an argument is out of its range.

    Example:
        >>> import keras_hub
        >>> from kerastl import FineTuner, peft
        >>> base = keras_hub.models.GPT2Backbone(50, 2, 2, 8, 16, max_sequence_length=12)
        >>> added = peft.add(FineTuner.from_model(base), PrefixTuning(num_tokens=3, hidden_dim=0))
        >>> added.paths[-1], added.weights  # 2 layers · 3 rows · (8 of keys + 8 of values)
        ('transformer_layer_1/self_attention', 96)

    References:
        Li & Liang, 2021, sections 4.2 and 4.3, https://arxiv.org/abs/2101.00190
    """

    num_tokens: int = 10
    hidden_dim: int = 512

    def __post_init__(self) -> None:
        checks.whole(self.num_tokens, 1, 1_000_000, "num_tokens")
        checks.whole(self.hidden_dim, 0, 1_000_000, "hidden_dim")

    @property
    def acts_on(self) -> str:
        return ATTENTIONS

    def fits(self, layer: keras.Layer) -> bool:
        return bool(_keras.attention_layers(layer)[:1] == [layer])

    def targets(self, model: Any, groups: Any) -> list[keras.Layer]:
        """All attention layers but those on another sequence (`cross_attention`)."""
        found = [one for one in _attentions(model) if not one.name.startswith("cross")]
        if not found:
            raise ValueError(
                f"PrefixTuning acts on {ATTENTIONS}, and {model.name!r} has none. Take LoRA or "
                "BottleneckAdapter."
            )
        return found

    def among(self, model: Any, chosen: Sequence[keras.Layer]) -> list[keras.Layer]:
        """The attention layers whose keys come from one of `chosen`."""
        ids = {id(layer) for layer in chosen}
        return [one for one in _attentions(model) if id(_keras.key_of(one)) in ids]

    def adapter(self, layer: keras.Layer, path: str, *, name: str = "prefix") -> Adapter:
        return Prefix(layer, self, None, name=name)

    def adapters(self, places: Sequence[tuple[keras.Layer, str]], *, name: str) -> list[Adapter]:
        """The first owns what all share."""
        made: list[Prefix] = []
        for layer, path in places:
            with scopes_of(path):
                made.append(Prefix(layer, self, made[0] if made else None, name=name))
        return [*made]


def _attentions(model):
    found = [one for layer in flat_layers(model) for one in _keras.attention_layers(layer)]
    return list({id(one): one for one in found}.values())


@dataclasses.dataclass(eq=False)
class _Shared:
    """What the adapters of one `add` have in common, where Keras's files look for no layers.

    Attributes:
        first: `Prefix` that owns the shared weights.
        others: List of the attention layers of the others, which read them.
    """

    first: "Prefix"
    others: list[keras.Layer] = dataclasses.field(default_factory=list)


class Prefix(Adapter):
    """The keys and values before those of one attention layer.

    Keys and values that serve several heads of queries do so here, too.

    Args:
        layer: Built attention layer.
        method: `PrefixTuning`.
        first: `Prefix` that owns what is shared, or None to own it.
        name: String.
    """

    def __init__(
        self, layer: keras.Layer, method: PrefixTuning, first: "Prefix | None", *, name: str
    ) -> None:
        super().__init__(layer, method, name=name)
        width, *self._shapes = _keras.key_and_value_shapes(layer)
        size = sum(map(math.prod, self._shapes))
        length, hidden = method.num_tokens, method.hidden_dim
        self.shared = first.shared if first is not None else _Shared(self)
        if first is not None:
            self.shared.others.append(layer)
        if not hidden:
            normal = keras.initializers.RandomNormal(stddev=0.02)
            self.rows = self.add_weight(shape=(length, size), initializer=normal, name="rows")
            return
        if first is None:
            normal = keras.initializers.RandomNormal(stddev=1.0)
            self.table = self.add_weight(shape=(length, width), initializer=normal, name="table")
            self.dense = self.add_weight(shape=(width, hidden), name="dense")
            self.dense_bias = self.add_weight(
                shape=(hidden,), initializer="zeros", name="dense_bias"
            )
        self.out = self.add_weight(shape=(hidden, size), name="out")
        self.out_bias = self.add_weight(shape=(size,), initializer="zeros", name="out_bias")

    def hooks(self) -> list[tuple[keras.Layer, str, Callable[..., Any]]]:
        """Also one that does nothing where others read its weights: those layers train with it."""
        own = (self.beside.layer, _keras.COMPUTE_ATTENTION, self.around)
        if self.shared.first is not self or not self.beside.method.hidden_dim:
            return [own]
        return [own, *((one, _keras.COMPUTE_ATTENTION, _as_is) for one in self.shared.others)]

    def keys_and_values(self) -> tuple[Any, Any]:
        """Each `(num_tokens, heads, size)`, float32."""
        first = self.shared.first
        if self.beside.method.hidden_dim:
            hidden = ops.tanh(ops.matmul(first.table, first.dense) + first.dense_bias)
            rows = ops.matmul(hidden, self.out) + self.out_bias
        else:
            rows = ops.convert_to_tensor(self.rows)
        parts = ops.split(rows, [math.prod(self._shapes[0])], axis=-1)
        keys, values = (
            ops.reshape(part, (-1, *shape)) for part, shape in zip(parts, self._shapes, strict=True)
        )
        return keys, values

    def around(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        given = _keras.attention_arguments(self.beside.layer, *args, **kwargs)
        now = given.arguments
        if len(now["key"].shape) != 4:
            raise ValueError(
                "PrefixTuning needs keys of one sequence, (batch, length, heads, size). Received: "
                f"shape={tuple(now['key'].shape)} in {self.beside.layer.name!r}"
            )
        mask = now.get("attention_mask")
        if now.get("use_causal_mask"):
            mask = _causal(now["query"], now["key"], mask)
            now["use_causal_mask"] = False
        if mask is not None:
            mask = ops.convert_to_tensor(mask)
            seen = ops.ones((*ops.shape(mask)[:-1], self.beside.method.num_tokens), mask.dtype)
            mask = ops.concatenate([seen, mask], axis=-1)
        keys, values = self.keys_and_values()
        now["attention_mask"] = mask
        now["key"], now["value"] = (
            self._before(keys, now["key"]),
            self._before(values, now["value"]),
        )
        return call(*given.args, **given.kwargs)

    def _before(self, rows, real):
        """`real`, `(batch, length, heads, size)`, with `rows` in front."""
        rows = ops.repeat(self.cast(rows, real), real.shape[2] // rows.shape[1], axis=1)
        rows = ops.broadcast_to(rows[None], (ops.shape(real)[0], *rows.shape))
        return ops.concatenate([rows, real], axis=1)


def _as_is(call, *args, **kwargs):
    return call(*args, **kwargs)


def _causal(query, key, mask):
    """What `use_causal_mask` means, as a mask `(1, queries, keys)`, and `mask` with it."""
    rows, columns = ops.arange(ops.shape(query)[1]), ops.arange(ops.shape(key)[1])
    causal = (rows[:, None] >= columns[None])[None]
    return causal if mask is None else ops.logical_and(ops.cast(mask, "bool"), causal)
