"""Heads of language modelling over a network, and what is hidden of texts for an encoder's."""

from typing import Any

import keras

from kerastl import _keras
from kerastl.backbones import hub
from kerastl.backbones.tokens import Tokens
from kerastl.data.texts.masking import POSITIONS, Masking


def masking_of(tokens: Tokens) -> Masking:
    """What `tokens` have for what is hidden.

    Args:
        tokens: `Tokens` of an encoder.

    Raises:
        ValueError: If they have no id for it, as those of causal models have none.

    Example:
        >>> import keras_hub
        >>> words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat"]
        >>> masking_of(Tokens(keras_hub.models.BertTokenizer(words))).mask
        4
    """
    mask = getattr(tokens.tokenizer, "mask_token_id", None)
    if mask is None or tokens.causal:
        raise ValueError(
            "Pretraining by hidden pieces needs an encoder whose vocabulary has an id that stands "
            "for what is hidden, such as [MASK]. Received: "
            f"{type(tokens.tokenizer).__name__}, which has none"
        )
    around = (*tokens.start, *tokens.between, *tokens.end, tokens.pad, mask)
    special = {*around, *(() if tokens.unknown is None else (tokens.unknown,))}
    return Masking(int(mask), tuple(sorted(special)), tokens.vocabulary_size)


def masked_lm(model: keras.Model, sequence: keras.KerasTensor) -> keras.Model:
    """A model that says which ids stand at `mask_positions`, as logits over the vocabulary.

    The layers are those of the encoder, not copies; the head is new, and ends in the encoder's
    embedding, turned round (KerasHub's `MaskedLMHead`).

    Args:
        model: `keras.Model` in which the encoder lies, with a layer `token_embedding` at any depth.
        sequence: Keras tensor of it, `(batch, length, width)`: what it says of each id.

    Returns:
        A functional `keras.Model`; its output has the shape `(batch, places, vocabulary)`.

    Raises:
        ValueError: If there is no such embedding that can be turned round, of that width.
    """
    embedding = _reversible(model)
    layers = hub.import_keras_hub().layers
    positions = keras.Input((None,), dtype="int32", name=POSITIONS)
    head = layers.MaskedLMHead(
        token_embedding=embedding, intermediate_activation="gelu", name="masked_lm_head"
    )
    said = head(sequence, mask_positions=positions)
    inputs: Any = model.input
    return keras.Model({**inputs, POSITIONS: positions}, said, name=model.name)


def next_token_lm(model: keras.Model, sequence: keras.KerasTensor) -> keras.Model:
    """A model that says which id comes next at each place, as logits over the vocabulary.

    Its head is that of the causal language model that the network was: the embedding, turned round,
    or what an untied network has beside it. Nothing of it is new.

    Args:
        model: `keras.Model` in which a causal network lies, with a layer `token_embedding`.
        sequence: Keras tensor of it, `(batch, length, width)`: what it says of each id.

    Returns:
        A functional `keras.Model` with outputs `(batch, length, vocabulary)`.

    Raises:
        ValueError: If there is no such embedding that can be turned round.
    """
    turned: Any = _reversible(model)
    return keras.Model(model.input, turned(sequence, reverse=True), name=model.name)


def _reversible(model):
    """The embedding of the network in `model`, which its head turns round."""
    embedding = _embedding_of(model)
    if not isinstance(embedding, keras.layers.ReversibleEmbedding):
        raise ValueError(
            "To go on with pretraining needs a network of KerasHub with a layer "
            f"`token_embedding` that can be turned round. Received: {model.name!r}, "
            f"which has {type(embedding).__name__ if embedding is not None else 'none'}"
        )
    return embedding


def _embedding_of(model):
    named = [one for one in _keras.with_sublayers(model) if one.name == "token_embedding"]
    return named[0] if named else None
