"""Texts without labels, of which a network learns before it learns of labels."""

import math
from typing import Any

import keras
import numpy as np

from kerastl import _keras, backbones
from kerastl._base.types import PathLike
from kerastl.data import read_texts
from kerastl.data.texts.lines import Document
from kerastl.data.texts.masking import MaskedPasses
from kerastl.data.texts.passes import TokenRows
from kerastl.tasks.prepare_lines import PrepareLines
from kerastl.tasks.protocols import TaskData, Unlabelled

FEWEST = 20  # texts
HELD_OUT, MOST_HELD_OUT = 0.05, 1000  # to measure on: a share, and how many at most
LONGEST = 512  # ids of a row of a causal network, which may take rows of any length
PERCENTILE = 99  # of the lengths of the texts; longer ones are cut into several rows


def read_unlabelled(path: PathLike) -> list[str]:
    """The texts in a file, each once: lines of a `.txt`, or the column `text` of a table.

    Raises:
        FileNotFoundError: If there is no file.
        ValueError: If it holds no texts, or too few.
    """
    texts = list(dict.fromkeys(text for (text,) in read_texts(path)))
    if len(texts) < FEWEST:
        raise ValueError(
            f"`unlabelled` (--unlabelled) needs at least {FEWEST} texts that differ. "
            f"Received: {path}, which holds {len(texts)}"
        )
    return texts


def ids_to_learn(texts: list[str], tokens: backbones.Tokens) -> list[np.ndarray]:
    """The ids of `texts`, each an int32 array; an empty one where nothing of it can be learnt.

    Raises:
        ValueError: If `tokens` of an encoder have nothing that stands for what is hidden, or know
            too few texts.
    """
    special = set() if tokens.causal else set(backbones.masking_of(tokens).special)
    ids = [one if set(one.tolist()) - special else one[:0] for one in tokens.ids(texts)]
    known = sum(len(one) > 0 for one in ids)
    if known < FEWEST:
        raise ValueError(
            f"`unlabelled` (--unlabelled) needs at least {FEWEST} texts of which the vocabulary "
            f"knows something. Received: {known} of {len(texts)} that differ"
        )
    return ids


def unlabelled_texts(
    texts: list[str],
    settings: Any,
    *,
    ids: list[np.ndarray],
    model: keras.Model,
    data: TaskData,
) -> Unlabelled:
    """What a network learns of texts without labels: pieces of them that are hidden.

    A causal language model learns the next piece of each.

    A text that is too long for the network becomes several rows; all are learnt from, or all held
    out.

    Args:
        texts: List of strings, as `read_unlabelled` gives.
        settings: `TuneSettings`, which say where they lie.
        ids: Their ids, as `ids_to_learn` gives.
        model: `FineTuner` over the network.
        data: `TaskData` of the texts with labels.

    References:
        Howard & Ruder, 2018 (ULMFiT), section 3.2, https://arxiv.org/abs/1801.06146; Gururangan et
        al., 2020, https://arxiv.org/abs/2004.10964
    """
    prepare: Any = data.prepare
    known = [row for row, one in enumerate(ids) if len(one)]
    order = np.random.default_rng(settings.seed).permutation(len(known))
    held = min(MOST_HELD_OUT, max(1, round(HELD_OUT * len(order))))
    is_causal = prepare.tokens.causal
    passes, text_of = (_next_pieces if is_causal else _hidden_pieces)(
        prepare.tokens, [ids[row] for row in known], settings, backbones.max_length(model)
    )
    is_held, sequence = np.isin(text_of, order[:held]), _said_of_each(model)
    test: Any = data.test
    shown = {text.strip() for parts in test.parts for text in parts}
    return Unlabelled(
        (backbones.next_token_lm if is_causal else backbones.masked_lm)(model, sequence),
        passes(np.flatnonzero(~is_held)),
        passes(np.flatnonzero(is_held)),
        "the next pieces" if is_causal else "pieces that were hidden",
        has_new_head=not is_causal,
        num_examples=len(order) - held,
        num_held_out=held,
        num_left_out=len(ids) - len(known),
        num_shown=len(shown.intersection(text.strip() for text in texts)),
    )


def _next_pieces(tokens, ids, settings, longest):
    """A function from rows to `Passes` over their next pieces, and of which text each row is."""
    prepare = PrepareLines(tokens, min(longest or LONGEST, LONGEST))
    names = [str(number) for number in range(len(ids))]
    pieces = [
        prepare.pieces([Document(((name, True),), name)], {name: one})[0]
        for name, one in zip(names, ids, strict=True)
    ]
    examples = prepare.examples([piece for of_text in pieces for piece in of_text])

    def passes(rows):
        drawn: Any = examples.at(rows).batches(settings.batch_size, seed=settings.seed)
        return drawn.repeatable

    return passes, _text_of(pieces)


def _hidden_pieces(tokens, ids, settings, longest):
    """As `_next_pieces`, of pieces that are hidden."""
    rows, text_of = _rows(tokens, ids, longest)
    given: dict[str, Any] = {"batch_size": settings.batch_size, "seed": settings.seed}
    masking = backbones.masking_of(tokens)
    return lambda drawn: MaskedPasses(rows, drawn, masking, **given), text_of


def _text_of(parts):
    """Of which text each row is."""
    return np.repeat(np.arange(len(parts)), [len(of_text) for of_text in parts])


def _rows(tokens, ids, longest):
    """`TokenRows`, and of which text each row is: long texts in parts of like length."""
    around = len(tokens.start) + len(tokens.end)
    lengths = [len(one) + around for one in ids]
    length = int(np.percentile(lengths, PERCENTILE, method="higher"))
    length = min(length, longest or length)
    parts = [np.array_split(one, math.ceil(len(one) / (length - around))) for one in ids]
    rows = [part for of_text in parts for part in of_text]
    return TokenRows(rows, None, tokens.pack, tokens.inputs, around, length), _text_of(parts)


def _said_of_each(model):
    """What the encoder in `model` says of each token: the last that has an axis of them."""
    found = [
        node.outputs[0]
        for node in _keras.graph_nodes(model)
        if isinstance(node.operation, keras.layers.Layer) and len(node.outputs[0].shape) == 3
    ]
    if not found:
        raise ValueError(
            "`unlabelled` (--unlabelled) needs a network that says something of each token. "
            f"Received: {model.name!r}, of which no layer does"
        )
    return found[-1]
