"""Passes over token ids of texts: batches of like length, so that padding is hardly computed."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kerastl._base.types import TensorLike
from kerastl.data.passes import Passes, hash_of_arrays

STEP = 8  # lengths of batches are multiples of it, so that few shapes are compiled
POOL = 32  # batches at most whose rows are drawn together and put in the order of their lengths
POOLS = 4  # pools a pass at least, so that a row is not in the same company in each


@dataclasses.dataclass(frozen=True, eq=False)
class TokenRows:
    """Texts as ids, and how they become the inputs of a network.

    Attributes:
        ids: Sequence of int32 arrays, the ids of each text.
        second: The same for the second text of each pair, or None.
        pack: Function from some of `ids`, a length, and some of `second` as `second`, to a dict of
            int32 arrays `(len(ids), length)`, such as `backbones.Tokens.pack`.
        inputs: Tuple of the names in that dict.
        around: Int, how many ids `pack` puts around those of an example.
        longest: Int, positions of an example at most; what is longer is cut.
        fixed: Boolean, whether every batch is padded to `longest`.
    """

    ids: Sequence[np.ndarray]
    second: Sequence[np.ndarray] | None
    pack: Callable[..., dict[str, np.ndarray]]
    inputs: tuple[str, ...]
    around: int
    longest: int
    fixed: bool = False

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """int64 array, positions of each example."""
        of_each = np.array([len(one) for one in self.ids], np.int64)
        if self.second is not None:
            of_each += np.array([len(one) for one in self.second], np.int64)
        return np.minimum(of_each + self.around, self.longest)

    def width(self, rows: np.ndarray) -> int:
        """To how many positions a batch of these rows is padded."""
        if self.fixed:
            return self.longest
        return padded_width(self.lengths, rows, self.longest)

    def padded(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Dict of int32 arrays `(len(rows), width)`."""
        second = None if self.second is None else [self.second[row] for row in rows]
        return self.pack([self.ids[row] for row in rows], self.width(rows), second=second)

    def arrays(self, rows: np.ndarray) -> list[np.ndarray]:
        """All that some rows are, for a fingerprint."""
        parts = [part for part in (self.ids, self.second) if part is not None]
        return [part[row] for part in parts for row in rows]


def padded_width(lengths: np.ndarray, rows: np.ndarray, longest: int) -> int:
    """To how many positions a batch of some rows is padded: a multiple of `STEP`, or `longest`.

    Example:
        >>> padded_width(np.array([3, 11, 40]), np.array([0, 1]), 37)
        16
    """
    most = int(lengths[rows].max(initial=1))
    return min(STEP * math.ceil(most / STEP), longest)


class TokenPasses(Passes):
    """Passes over texts as token ids, padded to the longest of each batch.

    Of a shuffled pass rows are drawn at random, some hundreds at a time are put in the order of
    their lengths and cut into batches, and the batches come in a random order: which rows make a
    batch is a function of `seed` and the number of the pass alone.

    Args:
        texts: `TokenRows` or `LineRows`, of which some are read.
        index: int64 array of the rows of `texts`.
        targets: Array with a row for each of `index`; or None where `texts` have a target and a
            weight at each position, `padded_targets`.
        batch_size: Int > 0.
        seed: Int to shuffle by, or None to keep the order.
        bucketed: Boolean; False makes batches of texts of any lengths.
    """

    def __init__(
        self,
        texts: Any,
        index: np.ndarray,
        targets: np.ndarray | None,
        *,
        batch_size: int,
        seed: int | None = None,
        bucketed: bool = True,
    ) -> None:
        super().__init__(len(index), batch_size, seed)
        self.texts, self.index = texts, np.asarray(index, np.int64)
        self._labels: Any = None if targets is None else np.asarray(targets)
        self._bucketed = bucketed
        self.rows_of = texts, self.index

    @property
    def longest(self) -> int:
        return self.texts.width(self.index)

    def width(self, rows: np.ndarray) -> int:
        return self.texts.width(self.index[rows])

    @functools.cached_property
    def computing_order(self) -> np.ndarray:
        return np.argsort(self.texts.lengths[self.index], kind="stable")

    def order(self, number: TensorLike) -> tf.Tensor:
        drawn = super().order(number)
        if self.seed is None or not self._bucketed:
            return drawn
        lengths = tf.constant(self.texts.lengths[self.index])
        batches = min(POOL, max(1, self.num_batches // POOLS))
        pool = tf.range(self.num_examples, dtype=tf.int64) // (batches * self.batch_size)
        by_length = pool * (tf.reduce_max(lengths) + 1) + tf.gather(lengths, drawn)
        ordered = tf.gather(drawn, tf.argsort(by_length, stable=True))
        num_full = self.num_examples // self.batch_size
        batches = tf.reshape(ordered[: num_full * self.batch_size], [num_full, self.batch_size])
        random: Any = tf.random  # `experimental` is added to it when it is imported
        key = self._key(number) + tf.constant([0, 2**32], tf.int64)
        places = random.experimental.stateless_shuffle(tf.range(num_full), key, alg="philox")
        shuffled = tf.reshape(tf.gather(batches, places), [-1])
        return tf.concat([shuffled, ordered[num_full * self.batch_size :]], axis=0)

    def inputs(self, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        names = self.texts.inputs

        def padded(rows):
            read = self.texts.padded(self.index[rows])
            return [read[name] for name in names]

        arrays = tf.numpy_function(padded, [rows], [tf.int32] * len(names))
        return {
            name: tf.ensure_shape(array, (None, None))
            for name, array in zip(names, arrays, strict=True)
        }

    def targets(self, rows: tf.Tensor) -> tuple[tf.Tensor, ...]:
        if self._labels is None:
            read = tf.numpy_function(
                lambda rows: self.texts.padded_targets(self.index[rows]),
                [rows],
                [tf.int32, tf.float32],
            )
            return tuple(tf.ensure_shape(part, (None, None)) for part in read)
        read = tf.numpy_function(lambda rows: self._labels[rows], [rows], self._labels.dtype)
        return (tf.ensure_shape(read, (None, *self._labels.shape[1:])),)

    def fingerprint(self) -> str:
        labels = [] if self._labels is None else [self._labels]
        arrays = self.texts.arrays(self.index)
        return hash_of_arrays([*arrays, *labels, np.array([self.texts.longest])])
