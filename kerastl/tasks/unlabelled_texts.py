"""Texts without labels, of which an encoder learns before it learns of labels."""

from typing import Any

import keras
import numpy as np

from kerastl import _keras, backbones
from kerastl._base.types import PathLike
from kerastl.data import read_texts
from kerastl.data.texts.masking import MaskedPasses
from kerastl.data.texts.passes import TokenRows
from kerastl.tasks.protocols import TaskData, Unlabelled

FEWEST = 20  # texts
HELD_OUT, MOST_HELD_OUT = 0.05, 1000  # to measure on: a share, and how many at most
PERCENTILE = 99  # of the lengths of the texts; longer ones are cut


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


def unlabelled_texts(
    texts: list[str], settings: Any, *, model: keras.Model, data: TaskData
) -> Unlabelled:
    """What an encoder learns of texts without labels: pieces of them that are hidden.

    Args:
        texts: List of strings, as `read_unlabelled` gives.
        settings: `TuneSettings`, which say where they lie.
        model: `FineTuner` over the encoder.
        data: `TaskData` of the texts with labels.

    References:
        Howard & Ruder, 2018 (ULMFiT), section 3.2, https://arxiv.org/abs/1801.06146; Gururangan et
        al., 2020, https://arxiv.org/abs/2004.10964
    """
    prepare: Any = data.prepare
    rows = _rows(prepare.tokens, texts, backbones.max_length(model))
    order = np.random.default_rng(settings.seed).permutation(len(rows.ids))
    held = min(MOST_HELD_OUT, max(1, round(HELD_OUT * len(order))))
    given: dict[str, Any] = {"batch_size": settings.batch_size, "seed": settings.seed}
    masking = backbones.masking_of(prepare.tokens)
    test: Any = data.test
    shown = {text.strip() for parts in test.parts for text in parts}
    return Unlabelled(
        backbones.masked_lm(model, _said_of_each(model)),
        MaskedPasses(rows, np.sort(order[held:]), masking, **given),
        MaskedPasses(rows, np.sort(order[:held]), masking, **given),
        "pieces that were hidden",
        len(shown.intersection(text.strip() for text in texts)),
    )


def _rows(tokens, texts, longest):
    ids = [one for one in tokens.ids(texts) if len(one)]
    around = len(tokens.start) + len(tokens.end)
    lengths = [len(one) + around for one in ids]
    length = int(np.percentile(lengths, PERCENTILE, method="higher"))
    return TokenRows(ids, None, tokens.pack, tokens.inputs, around, min(length, longest or length))


def _said_of_each(model):
    """What the encoder in `model` says of each token: the last that has an axis of them."""
    found = [
        node.outputs[0]
        for node in _keras.graph_nodes(model)
        if isinstance(node.operation, keras.layers.Layer) and len(node.outputs[0].shape) == 3
    ]
    if not found:
        raise ValueError(
            "`unlabelled` (--unlabelled) needs an encoder that says something of each token. "
            f"Received: {model.name!r}, of which no layer does"
        )
    return found[-1]
