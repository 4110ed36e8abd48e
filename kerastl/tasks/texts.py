"""Texts as examples: how they become ids, which network takes them, how they are divided."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kerastl import backbones
from kerastl._base import checks
from kerastl._base.types import OnProgress
from kerastl.data.images.scan import Kind
from kerastl.data.split import TEST_SHARE, stratified_split
from kerastl.data.texts.passes import Ragged, TokenRows
from kerastl.data.texts.table import (
    ENDINGS,
    ScannedTexts,
    find_text_tables,
    read_texts,
    scan_texts,
)
from kerastl.tasks.classification import Classification
from kerastl.tasks.multi_label import MultiLabel
from kerastl.tasks.protocols import Finer, HeldOut, Objective, TaskData
from kerastl.tasks.regression import Regression
from kerastl.tasks.text_examples import TextExamples

NOUN = "texts"
FOLDER = "tokenizer"  # of a run, with the files of what makes ids of texts
PERCENTILE = 99  # of the lengths of texts to train on; longer ones are cut
SHARE_UNKNOWN = 0.01  # of ids, from which on a notice says so
AT_ONCE = 2000  # texts that are made ids at a time
OBJECTIVES: dict[Kind, Objective] = {
    "class": Classification(),
    "labels": MultiLabel(),
    "value": Regression(),
}


@dataclasses.dataclass(frozen=True)
class PrepareTexts:
    """Texts, or pairs of texts, to ids.

    Args:
        tokens: `backbones.Tokens`.
        length: Int > 0, ids of a text at most, those around it included.
        num_parts: 1 for texts, 2 for pairs.
    """

    tokens: Any
    length: int
    num_parts: int = 1
    kind = "texts"
    noun = NOUN

    @property
    def gives(self) -> str:
        return f"ids below {self.tokens.vocabulary_size:,}"

    def rows(
        self, parts: Sequence[tuple[str, ...]], progress: OnProgress | None = None
    ) -> TokenRows:
        """`TokenRows` of texts, each a tuple of `num_parts` strings."""
        ids = [self._ids(parts, i, progress) for i in range(self.num_parts)]
        return self.packed(ids)

    def packed(self, ids: Sequence[Sequence[np.ndarray]]) -> TokenRows:
        """`TokenRows` of the ids of texts, a list for each of the `num_parts`."""
        packed = [self.tokens.packed(row, self.length) for row in zip(*ids, strict=True)]
        columns = {name: Ragged.of([row[name] for row in packed]) for name in self.tokens.inputs}
        return TokenRows(columns, self.tokens.pads)

    def _ids(self, parts, place, progress):
        ids = []
        for start in range(0, len(parts), AT_ONCE):
            ids += self.tokens.ids([part[place] for part in parts[start : start + AT_ONCE]])
            if progress:
                progress(len(ids), len(parts))
        return ids

    def __call__(self, raw: Any) -> dict[str, np.ndarray]:
        """Dict of int32 arrays for texts, padded to the longest of them."""
        rows = self.rows([tuple(parts) for parts in raw])
        return rows.padded(np.arange(len(rows.lengths)))
