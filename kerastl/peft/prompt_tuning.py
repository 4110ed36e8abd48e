"""Prompt tuning: learnt vectors before the embeddings of a text, or of the patches of a picture."""

import dataclasses
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from kerastl._base import checks
from kerastl._keras import kernel_of
from kerastl.graph import flat_layers
from kerastl.graph.leaves import leaf_layers
from kerastl.peft.adapter import Adapter, Method, masked_as, scopes_of
from kerastl.peft.prompt_path import (
    KEY_MASKS,
    NEEDS,
    PAIR_MASKS,
    TOKEN_EMBEDDING,
    is_picture_encoder,
    is_position_embedding,
    path_of_tokens,
    token_embeddings,
)


@keras.saving.register_keras_serializable(package="kerastl")
@dataclasses.dataclass(frozen=True)
class PromptTuning(Method):
    """`num_tokens` vectors that train come before the embeddings of the tokens: `[P; E(x)]`.

    They have the first positions and segment 0, the text the positions after them, so together
    they must fit the positions that the network has learnt. Every text sees them all. Behind the
    last block they are taken off again: what follows, a pooler or a head, reads the text's places
    alone. Not the identity at the start.

    In a ViT of KerasHub they come before the patches, behind the positions, as in the shallow form
    of visual prompt tuning; they begin uniform in `±sqrt(3 / features)`.

    Generation with a cache, which reads one token at a time, is refused, as soon as it is traced:
    a task of KerasHub that has generated before keeps its trace until `task.compile()`.

    Args:
        num_tokens: Int >= 1, how many vectors.
        init_tokens: Ids of tokens from whose embeddings they start, over and over until there are
            enough. Without them tokens are drawn from the vocabulary.

    Raises:
        ValueError, TypeError: If an argument is out of its range.

    Example:
        >>> import keras_hub
        >>> from kerastl import FineTuner, peft
        >>> base = keras_hub.models.GPT2Backbone(50, 2, 2, 8, 16, max_sequence_length=12)
        >>> added = peft.add(FineTuner.from_model(base), PromptTuning(num_tokens=3))
        >>> added.paths[0], added.weights  # 3 vectors · 8 features
        ('token_embedding', 24)

    References:
        Lester et al., 2021, section 2, https://arxiv.org/abs/2104.08691; Jia et al., 2022,
        equations 4 to 6, https://arxiv.org/abs/2203.12119
    """

    num_tokens: int = 20
    init_tokens: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        checks.whole(self.num_tokens, 1, 1_000_000, "num_tokens")
        object.__setattr__(self, "init_tokens", tuple(self.init_tokens))
        for token in self.init_tokens:
            checks.whole(token, 0, 2**31 - 1, "init_tokens")

    @property
    def acts_on(self) -> str:
        return "the token embedding of a text network, or the encoder of a ViT of KerasHub"

    def fits(self, layer: keras.Layer) -> bool:
        return isinstance(layer, keras.layers.Embedding) or is_picture_encoder(layer)

    def targets(self, model: Any, groups: Any) -> list[keras.Layer]:
        """The encoder of a ViT, or the layers on the way of the tokens, their embedding first."""
        pictures = [layer for layer in flat_layers(model) if is_picture_encoder(layer)]
        if pictures:
            return pictures[:1]
        embeddings = token_embeddings(model)
        if len(embeddings) != 1:
            raise ValueError(
                f"PromptTuning needs {NEEDS}. {model.name!r} has {len(embeddings)} layers "
                f"{TOKEN_EMBEDDING!r}. Say which embedding by `where`, or take LoRA."
            )
        return path_of_tokens(model, embeddings[0])

    def among(self, model: Any, chosen: Sequence[keras.Layer]) -> list[keras.Layer]:
        """As `targets`, from the token embedding of `chosen`, or its first embedding, on."""
        ids = {id(layer) for layer in chosen}
        embeddings = [one for one in chosen if isinstance(one, keras.layers.Embedding)]
        embeddings.sort(key=lambda one: one.name != TOKEN_EMBEDDING)
        pictures = [one for one in flat_layers(model) if is_picture_encoder(one)]
        inside = [one for one in pictures if any(id(leaf) in ids for leaf in leaf_layers(one))]
        if inside:
            return inside[:1]
        return path_of_tokens(model, embeddings[0]) if embeddings else []

    def adapter(self, layer: keras.Layer, path: str, *, name: str = "prompt") -> Adapter:
        if is_picture_encoder(layer):
            return PicturePrompt(layer, self, name=name)
        return Prompt(layer, self, name=name)

    def adapters(self, places: Sequence[tuple[keras.Layer, str]], *, name: str) -> list[Adapter]:
        """The first has the vectors; the others know that they are there."""
        made = []
        for i, (layer, path) in enumerate(places):
            with scopes_of(path):
                if i == 0:
                    made.append(self.adapter(layer, path, name=name))
                elif is_position_embedding(layer):
                    made.append(Positions(layer, self, name=name))
                elif isinstance(layer, keras.layers.Embedding):
                    made.append(Segments(layer, self, name=name))
                else:
                    made.append(Block(layer, self, i == len(places) - 1, name=name))
        return made


class _PartOfPrompt(Adapter):
    """What acts on one layer so that the sequence can be longer than the text.

    Two prompts at once would each take the other's places for the text's.
    """

    is_additive: ClassVar[bool] = False

    @property
    def length(self) -> int:
        """How many vectors there are."""
        return self.beside.method.num_tokens

    def before(self, vectors: Any, sequence: Any) -> Any:
        """`sequence`, `(batch, length, ...)`, with `vectors`, `(num_tokens, ...)`, in front."""
        vectors = ops.broadcast_to(vectors[None], (ops.shape(sequence)[0], *vectors.shape))
        return ops.concatenate([vectors, sequence], axis=1)


class Prompt(_PartOfPrompt):
    """The vectors, before what a token embedding gives. Read backwards, it is left alone.

    Args:
        layer: Built embedding.
        method: `PromptTuning`.
        name: String.
    """

    def __init__(self, layer: keras.Layer, method: PromptTuning, *, name: str) -> None:
        super().__init__(layer, method, name=name)
        count, width = layer.input_dim, layer.output_dim
        over = [token for token in method.init_tokens if token >= count]
        if over:
            raise ValueError(
                f"`init_tokens` must be below {count}, the length of {layer.name!r}. Received: "
                f"{over}"
            )
        self.vectors = self.add_weight(
            shape=(method.num_tokens, width), initializer=_rows_of(layer, method), name="vectors"
        )

    def around(self, call: Callable[..., Any], inputs: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = call(inputs, *args, **kwargs)
        if kwargs.get("reverse") or any(args):
            return outputs
        return self.before(self.cast(self.vectors, outputs), outputs)


def _rows_of(layer, method):
    """An initializer that gives the embeddings of `init_tokens`, or of tokens that it draws."""

    def rows(shape, dtype=None):
        known = method.init_tokens
        if known:
            ids = [known[i % len(known)] for i in range(shape[0])]
        else:
            ids = keras.random.randint((shape[0],), 0, layer.input_dim)
        # A call of the layer would give what the adapters on it make of them.
        return ops.cast(ops.take(kernel_of(layer), ids, axis=0), dtype)

    return rows


class Positions(_PartOfPrompt):
    """Refuses a text that does not fit the learnt positions behind the vectors."""

    def __init__(self, layer: keras.Layer, method: PromptTuning, *, name: str) -> None:
        super().__init__(layer, method, name=name)
        if method.num_tokens >= layer.sequence_length:
            raise ValueError(
                f"`num_tokens` must be below {layer.sequence_length}, the positions that "
                f"{layer.name!r} has learnt, to leave room for a text. Received: "
                f"num_tokens={method.num_tokens}"
            )

    def around(self, call: Callable[..., Any], inputs: Any, *args: Any, **kwargs: Any) -> Any:
        length, has = inputs.shape[1], self.beside.layer.sequence_length
        if length is not None and length > has:
            raise ValueError(
                f"{self.length} vectors of a prompt and a text of {length - self.length} tokens "
                f"are {length} places, and {self.beside.layer.name!r} has learnt {has} positions. "
                f"Shorten texts to {has - self.length} tokens, or take fewer `num_tokens`."
            )
        return call(inputs, *args, **kwargs)


class Segments(_PartOfPrompt):
    """Puts the vectors into segment 0."""

    def around(self, call: Callable[..., Any], inputs: Any, *args: Any, **kwargs: Any) -> Any:
        inputs = ops.convert_to_tensor(inputs)
        first = ops.zeros((self.length,), inputs.dtype)
        return call(self.before(first, inputs), *args, **kwargs)


class Block(_PartOfPrompt):
    """Has the masks of a block reach over the vectors, and the last one take them off again.

    Args:
        layer: Built composite layer.
        method: `PromptTuning`.
        is_last: Boolean.
        name: String.
    """

    def __init__(
        self, layer: keras.Layer, method: PromptTuning, is_last: bool, *, name: str
    ) -> None:
        super().__init__(layer, method, name=name)
        self.is_last = is_last

    def around(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        layer = self.beside.layer
        given = inspect.signature(type(layer).call).bind(layer, *args, **kwargs)
        for name, value in given.arguments.items():
            if "cache" in name and value is not None:
                raise ValueError(
                    f"{layer.name!r} was called with a cache, in which the places of the prompt "
                    f"{self.name!r} are not: a prompt cannot be used for generation with a cache. "
                    "Generate without one, or take PrefixTuning."
                )
            if value is not None and name in (*KEY_MASKS, *PAIR_MASKS):
                axes = (1,) if name in KEY_MASKS else (1, 2)
                given.arguments[name] = self._wider(value, axes)
        outputs = call(*given.args[1:], **given.kwargs)
        return self._without(outputs) if self.is_last else outputs

    def _wider(self, mask, axes):
        mask = ops.convert_to_tensor(mask)
        for axis in axes:
            shape = list(ops.shape(mask))
            shape[axis] = self.length
            mask = ops.concatenate([ops.ones(shape, mask.dtype), mask], axis=axis)
        return mask

    def _without(self, outputs):
        if isinstance(outputs, tuple):  # and scores of attention, which are left whole
            return (self._without(outputs[0]), *outputs[1:])
        return masked_as(outputs, outputs[:, self.length :])


class PicturePrompt(_PartOfPrompt):
    """The vectors before the patches, taken off behind the encoder; places have no order there."""

    def __init__(self, layer: keras.Layer, method: PromptTuning, *, name: str) -> None:
        super().__init__(layer, method, name=name)
        if method.init_tokens:
            raise ValueError(
                f"`init_tokens` are tokens of a text, and {layer.name!r} reads patches. Received: "
                f"init_tokens={method.init_tokens}"
            )
        width = layer.hidden_dim
        bound = math.sqrt(3 / width)
        uniform = keras.initializers.RandomUniform(-bound, bound)
        self.vectors = self.add_weight(
            shape=(method.num_tokens, width), initializer=uniform, name="vectors"
        )

    def around(self, call: Callable[..., Any], inputs: Any, *args: Any, **kwargs: Any) -> Any:
        longer = self.before(self.cast(self.vectors, inputs), inputs)
        return call(longer, *args, **kwargs)[:, self.length :]
