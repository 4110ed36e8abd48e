"""The way of a sequence through a network, from its embedding to the last block that reads it."""

import inspect
from typing import Any

import keras

from kerastl import _keras
from kerastl._base import checks
from kerastl.graph.index import GraphIndex

KEY_MASKS = ("padding_mask", "decoder_padding_mask")  # (batch, keys)
PAIR_MASKS = ("attention_mask", "decoder_attention_mask")  # (batch, queries, keys)
NEEDS = (
    "a network in which a token embedding is followed by embeddings that are added, "
    "normalization, dropout and transformer blocks that take a padding mask, each called once, as "
    "BERT-, GPT-2- and Llama-like ones of KerasHub are; or a ViT of KerasHub"
)


def is_picture_encoder(layer: Any) -> bool:
    """Whether `layer` is the whole encoder of KerasHub's ViT, behind patches and positions."""
    return type(layer).__name__ == "ViTEncoder"


def is_position_embedding(layer: Any) -> bool:
    """Whether `layer` gives the position of each place, of which it has learnt so many."""
    return hasattr(layer, "position_embeddings") and hasattr(layer, "sequence_length")


def token_embeddings(model: keras.Model) -> list[keras.Layer]:
    """The embeddings in `model`, at any depth, that are called `token_embedding`."""
    within = [one for layer in model.layers for one in _keras.with_sublayers(layer)]
    found = [
        one
        for one in within
        if isinstance(one, keras.layers.Embedding) and one.name == "token_embedding"
    ]
    return list({id(one): one for one in found}.values())


def path_of_tokens(model: keras.Model, embedding: keras.Layer) -> list[keras.Layer]:
    """The layers that must know that what `embedding` gives is longer than the text.

    Args:
        model: Flat functional model.
        embedding: Embedding in its graph or in a layer of it.

    Returns:
        List of `embedding` first, then position embeddings, other embeddings that are added to it,
        and the blocks, of which the last comes last.

    Raises:
        ValueError: If the sequence goes another way than `NEEDS` says, with where it leaves it.
    """
    index = GraphIndex(model)
    start = _start(index, embedding)
    last = _last_block(index, start)
    longer = {id(tensor) for tensor in start.outputs}
    found = [embedding, *_positions(start.operation)]
    for node in index.nodes:
        if node is start or not any(id(tensor) in longer for tensor in node.input_tensors):
            continue
        if is_block(node.operation):
            _check_block(index, node, longer)
            found.append(node.operation)
        else:
            found += _beside(index, node, longer)
        if node is not last:
            longer.update(map(id, node.outputs))
    if any(id(tensor) in longer for tensor in model.outputs):
        raise _leaves(model, "an output of the model comes before the last block")
    found.append(found.pop(found.index(last.operation)))
    return found


def _start(index, embedding):
    calls = [
        node
        for node in index.nodes
        if any(embedding is one for one in _within(node.operation))
        and not node.arguments.kwargs.get("reverse")
    ]
    if len(calls) != 1 or getattr(embedding, "mask_zero", False):
        mask = "makes a mask of its own (`mask_zero`)"
        why = mask if len(calls) == 1 else f"is called {len(calls)} times"
        raise _leaves(index.model, f"{embedding.name!r} {why}")
    return calls[0]


def _within(operation):
    return _keras.with_sublayers(operation) if isinstance(operation, keras.Layer) else []


def _last_block(index, start):
    behind, blocks = {id(tensor) for tensor in start.outputs}, []
    for node in index.nodes:
        if any(id(tensor) in behind for tensor in node.input_tensors):
            behind.update(map(id, node.outputs))
            blocks += [node] if is_block(node.operation) else []
    if not blocks:
        raise _leaves(index.model, f"no block behind {start.operation.name!r} takes a padding mask")
    return blocks[-1]


def is_block(operation: Any) -> bool:
    """Whether `operation` is a composite layer whose call takes a padding mask."""
    if not isinstance(operation, keras.Layer) or not _keras.sublayers(operation):
        return False
    return any(name in KEY_MASKS for name in inspect.signature(type(operation).call).parameters)


def _check_block(index, node, longer):
    """Refuse a block that is called again, or reads more than a sequence and its masks."""
    block = node.operation
    if len(index.calls[id(block)]) > 1:
        times = len(index.calls[id(block)])
        raise _leaves(
            index.model, f"{block.name!r} is called {times} times, and none of them is its last"
        )
    given = inspect.signature(type(block).call).bind(
        block, *node.arguments.args, **node.arguments.kwargs
    )
    others = [
        name
        for name, value in list(given.arguments.items())[2:]
        if isinstance(value, keras.KerasTensor) and name not in (*KEY_MASKS, *PAIR_MASKS)
    ]
    if others or any(id(tensor) in longer for tensor in node.input_tensors[1:]):
        reads = checks.listed(others) or "the sequence in another place"
        raise _leaves(index.model, f"{block.name!r} also reads {reads}")


def _beside(index, node, longer):
    """The layers beside the sequence at a node between embedding and blocks, or a refusal."""
    operation = node.operation
    others = [tensor for tensor in node.input_tensors if id(tensor) not in longer]
    if isinstance(operation, keras.layers.Add):
        makers = [index.makers.get(id(tensor)) for tensor in others]
        if all(
            maker is not None
            and isinstance(maker.operation, keras.layers.Embedding)
            and index.sole_reader(maker) is node
            and len(index.calls[id(maker.operation)]) == 1
            for maker in makers
        ):
            return [maker.operation for maker in makers]
    elif not others and is_position_embedding(operation):
        return [operation]
    elif not others and _is_by_place(operation):
        return []
    raise _leaves(index.model, f"{operation.name!r} ({type(operation).__name__}) reads it")


def _is_by_place(operation):
    """Whether `operation` computes each place of a sequence by itself."""
    name = type(operation).__name__
    kinds = (keras.layers.Dropout, keras.layers.Dense, keras.layers.Activation)
    arithmetic = name in ("Add", "Multiply", "Subtract", "Divide", "TrueDivide")
    return isinstance(operation, kinds) or name.endswith(("Norm", "Normalization")) or arithmetic


def _positions(layer):
    return [one for one in _keras.with_sublayers(layer) if is_position_embedding(one)]


def _leaves(model, why):
    return ValueError(f"PromptTuning needs {NEEDS}. In {model.name!r} {why}.")
