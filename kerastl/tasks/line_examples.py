"""Rows of text to be predicted token by token, read by rows."""

from typing import Any

import numpy as np
import tensorflow as tf

from kerastl.data.passes import dataset_of
from kerastl.data.texts.line_rows import LineRows
from kerastl.data.texts.passes import TokenPasses
from kerastl.tasks.refusals import refuse_augment


class LineExamples:
    """Rows of ids whose next ones are predicted.

    Args:
        rows: `LineRows` of these, or of more.
        targets: Float array `(n, 2)`: of each row the tokens to be predicted, and their bytes.
        index: int64 array, which rows of `rows` these are; None for all.
    """

    def __init__(
        self, rows: LineRows, targets: np.ndarray, index: np.ndarray | None = None
    ) -> None:
        self.targets, self._rows = targets, rows
        self._index = np.arange(len(targets)) if index is None else index

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return self._rows.inputs

    @property
    def lengths(self) -> np.ndarray:
        """int64 array, ids of each row."""
        return self._rows.lengths[self._index]

    def inputs(self, rows: Any = slice(None)) -> dict[str, np.ndarray]:
        """Dict of int32 arrays, padded to the longest of these rows."""
        return self._rows.padded(self._index[rows])

    def padded(self, rows: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """`(inputs, targets, weights)` of these rows, `(len(rows), width)` each."""
        index = self._index[rows]
        return self._rows.padded(index), *self._rows.padded_targets(index)

    def sample(self, count: int, *, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """At most `count` rows drawn at random."""
        rows = np.sort(np.random.default_rng(seed).permutation(len(self))[:count])
        return self.inputs(rows), self.targets[rows]

    def at(self, rows: np.ndarray) -> "LineExamples":
        """Some rows, an int array, in its order."""
        rows = np.asarray(rows, np.int64)
        return LineExamples(self._rows, self.targets[rows], self._index[rows])

    def with_targets(self, targets: np.ndarray) -> "LineExamples":
        """The same rows with other counts of tokens and bytes."""
        return LineExamples(self._rows, targets, self._index)

    def prepared(self, prepare: Any, rows: np.ndarray) -> "LineExamples":
        """Some rows as they are: texts have no finer form."""
        return self.at(rows)

    def batches(
        self, batch_size: int, *, seed: int | None = None, augment: str = "none"
    ) -> tf.data.Dataset:
        """Dataset of `(inputs, targets, weights)`: by `seed` and of like length, or in order.

        Raises:
            ValueError: If `augment` is not `"none"`: texts are read as they are.
        """
        refuse_augment(augment)
        passes = TokenPasses(self._rows, self._index, None, batch_size=batch_size, seed=seed)
        return dataset_of(passes)
