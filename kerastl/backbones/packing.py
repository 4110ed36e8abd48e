"""Several documents in one row, each read as if it stood alone: masks and positions by document."""

import inspect
from typing import Any

import keras

from kerastl import _keras
from kerastl._base.checks import listed
from kerastl.graph.flatten import inline

# Blocks that take a mask and know positions by their distance alone (rotary embeddings; of Bloom
# and Falcon a slope over the distance): two tokens of one document are as far apart in a row as in
# their document, so that the mask is enough. Those of GPT-2 and OPT know no positions at all: these
# are added to the embeddings. Phi-3's rotation is another in rows above a length, so it is missing.
_BLOCKS = (
    "BloomDecoder",
    "FalconTransformerDecoder",
    "GPTNeoXDecoder",
    "LlamaTransformerDecoder",
    "MistralTransformerDecoder",
    "Qwen3TransformerDecoder",
    "QwenTransformerDecoder",
    "TransformerDecoder",
)
_POSITIONS = ("PositionEmbedding", "TokenAndPositionEmbedding")


def with_documents(model: keras.Model) -> keras.Model:
    """`model` with an input `"documents"` more: attention within documents, positions anew in each.

    It shares every layer and weight of `model`. A row may then hold many documents one after the
    other, and each of them gives what it gives in a row of its own.

    Args:
        model: Flat causal language model of `load_causal`, of `"token_ids"` and `"padding_mask"`.

    Returns:
        Functional `keras.Model` of `"token_ids"`, `"padding_mask"` and `"documents"`, each int32
        `(batch, length)`; the last is the number of the document that a token belongs to, 1, 2,
        ..., and 0 where there is none.

    Raises:
        ValueError: If the blocks of `model` take no mask, or are of a family whose positions are
            not known to begin anew.
    """
    _check_blocks(model)
    documents = keras.Input((None,), dtype="int32", name="documents")
    mask = DocumentMask(name="document_mask")(documents)
    positions = DocumentPositions(name="document_positions")(documents)

    def call(node, args, kwargs, trail):
        name = type(node.operation).__name__
        if name in _BLOCKS:
            kwargs = {**kwargs, "decoder_attention_mask": mask}
        elif name in _POSITIONS:
            kwargs = {**kwargs, "positions": positions}
        return node.operation(*args, **kwargs)

    outputs = inline(model, model.inputs, call)
    inputs: Any = model.input
    return keras.Model({**inputs, "documents": documents}, outputs, name=model.name)


def _check_blocks(model):
    attending = [layer for layer in model.layers if _attends(layer)]
    others = [layer for layer in attending if type(layer).__name__ not in _BLOCKS]
    if attending and not others:
        return
    found = sorted({type(layer).__name__ for layer in others})
    takes_none = [layer for layer in others if "decoder_attention_mask" not in _arguments(layer)]
    reason = "take no mask of one's own" if takes_none else "are not known to begin positions anew"
    raise ValueError(
        "`packed=True` needs blocks to which it can be said which tokens see one another, as those "
        f"of GPT-2, Llama, Mistral, Qwen and GPT-NeoX. Received: {model.name!r}, whose blocks "
        f"({listed(found)}) {reason}. Put one document in each row instead."
    )


def _attends(layer):
    return any("attention" in inner.name for inner in _keras.with_sublayers(layer))


def _arguments(layer):
    return inspect.signature(layer.call).parameters


@keras.saving.register_keras_serializable(package="kerastl")
class DocumentMask(keras.layers.Layer):
    """Which tokens belong to one document: the mask of block-diagonal attention.

    That a token sees none after itself is up to the layer that takes the mask.

    Input shape:
        `(batch, length)`, int: the number of the document of each token; 0 for none.

    Output shape:
        `(batch, length, length)`, bool: whether the second token is of the document of the first.

    Example:
        >>> import numpy as np
        >>> DocumentMask()(np.array([[1, 1, 2]])).numpy().astype(int)
        array([[[1, 1, 0],
                [1, 1, 0],
                [0, 0, 1]]])
    """

    def call(self, documents: Any) -> Any:
        rows = keras.ops.expand_dims(documents, 2)
        return keras.ops.equal(rows, keras.ops.expand_dims(documents, 1))

    def compute_output_spec(self, documents: Any) -> keras.KerasTensor:
        return keras.KerasTensor((*documents.shape, documents.shape[-1]), dtype="bool")


@keras.saving.register_keras_serializable(package="kerastl")
class DocumentPositions(keras.layers.Layer):
    """The place of each token in its own document: how many tokens of it stand before.

    Input shape:
        `(batch, length)`, int: the number of the document of each token; 0 for none.

    Output shape:
        `(batch, length)`, int32, from 0.

    Example:
        >>> import numpy as np
        >>> DocumentPositions()(np.array([[1, 1, 1, 2, 2, 0, 0]])).numpy()
        array([[0, 1, 2, 0, 1, 0, 1]], dtype=int32)
    """

    def call(self, documents: Any) -> Any:
        place = keras.ops.arange(keras.ops.shape(documents)[1], dtype="int32")
        before = keras.ops.expand_dims(place, 1) > place
        same = keras.ops.expand_dims(documents, 2) == keras.ops.expand_dims(documents, 1)
        both = keras.ops.logical_and(same, before)
        return keras.ops.sum(keras.ops.cast(both, "int32"), axis=2)

    def compute_output_spec(self, documents: Any) -> keras.KerasTensor:
        return keras.KerasTensor(documents.shape, dtype="int32")
