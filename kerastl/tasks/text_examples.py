"""Texts as a network takes them, read by rows."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kerastl.data.passes import dataset_of
from kerastl.data.texts.passes import TokenPasses, TokenRows
from kerastl.tasks.refusals import refuse_augment


class TextExamples:
    """Texts as ids, with their targets.

    Args:
        parts: Sequence of the texts, each a tuple of one string, or of the two of a pair.
        rows: `TokenRows` of them, or of more texts.
        targets: int64 array of class indices, or float32 array of shape `(n, k)`.
        num_classes: Int for one-hot targets in `batches`, or None for targets as they are.
        index: int64 array, which rows of `rows` these are; None for all.
    """

    def __init__(
        self,
        parts: Sequence[tuple[str, ...]],
        rows: TokenRows,
        targets: np.ndarray,
        num_classes: int | None = None,
        index: np.ndarray | None = None,
    ) -> None:
        self.parts, self.targets = parts, targets
        self._rows, self._num_classes = rows, num_classes
        self._index = np.arange(len(parts)) if index is None else index

    @property
    def rows(self) -> TokenRows:
        """`TokenRows` of these texts alone."""
        ids: Any = self._rows.ids
        second: Any = self._rows.second
        return dataclasses.replace(
            self._rows,
            ids=[ids[row] for row in self._index],
            second=None if second is None else [second[row] for row in self._index],
        )

    def __len__(self) -> int:
        return len(self.targets)

    def inputs(self, rows: Any = slice(None)) -> dict[str, np.ndarray]:
        """Dict of int32 arrays, padded to the longest of these rows."""
        return self._rows.padded(self._index[rows])

    def sample(self, count: int, *, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """At most `count` texts drawn at random: what is measured on them needs no more."""
        rows = np.sort(np.random.default_rng(seed).permutation(len(self))[:count])
        return self.inputs(rows), self.targets[rows]

    def at(self, rows: np.ndarray) -> "TextExamples":
        """The texts of some rows, an int array, in its order."""
        rows = np.asarray(rows, np.int64)
        parts = [self.parts[row] for row in rows]
        index = self._index[rows]
        return TextExamples(parts, self._rows, self.targets[rows], self._num_classes, index)

    def with_targets(self, targets: np.ndarray) -> "TextExamples":
        """The same texts with other targets."""
        return TextExamples(self.parts, self._rows, targets, self._num_classes, self._index)

    def prepared(self, prepare: Any, rows: np.ndarray) -> "TextExamples":
        """The texts of some rows as another `PrepareTexts` gives them."""
        parts = [self.parts[row] for row in rows]
        return TextExamples(
            parts, prepare.rows(parts), self.targets[np.asarray(rows)], self._num_classes
        )

    def with_further(self, raw: Sequence[Any], prepare: Any) -> tuple["TextExamples", list[int]]:
        """These texts and further ones behind them, and which of those `raw` have ids.

        Targets of further ones are zeros: give them others.
        """
        parts = [tuple(part) for part in raw]
        kept = [i for i, ids in enumerate(prepare.rows(parts).ids) if len(ids)]
        parts = [*self.parts, *(parts[i] for i in kept)]
        none = np.zeros((len(kept), *self.targets.shape[1:]), self.targets.dtype)
        targets = np.concatenate([self.targets, none])
        return TextExamples(parts, prepare.rows(parts), targets), kept

    def for_device(self, prepare: Any) -> "TextExamples":
        """The same texts as the `PrepareTexts` of a device file gives them."""
        known = self._rows
        rows = prepare.of_ids([known.ids] if known.second is None else [known.ids, known.second])
        return TextExamples(self.parts, rows, self.targets, self._num_classes, self._index)

    def batches(
        self, batch_size: int, *, seed: int | None = None, augment: str = "none"
    ) -> tf.data.Dataset:
        """Dataset of `(inputs, targets)`: by `seed` in batches of like length, or in order.

        Raises:
            ValueError: If `augment` is not `"none"`: texts are read as they are.
        """
        refuse_augment(augment)
        targets = self.targets
        if self._num_classes is not None:
            targets = np.eye(self._num_classes, dtype=np.float32)[targets]
        return dataset_of(
            TokenPasses(self._rows, self._index, targets, batch_size=batch_size, seed=seed)
        )
