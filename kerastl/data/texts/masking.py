"""Texts with some of their ids hidden, which a network learns to say: masked language modelling."""

import dataclasses
import functools
import math
from typing import Any

import numpy as np
import tensorflow as tf

from kerastl._base.types import TensorLike
from kerastl.data.texts.passes import TokenPasses, TokenRows

SHARE = 0.15  # of the ids of a text that are asked for
HIDDEN, OTHER = 0.8, 0.1  # of these, how many the network sees as [MASK], and as a random id
POSITIONS = "mask_positions"  # the input that says where ids are asked for


@dataclasses.dataclass(frozen=True, eq=False)
class Masking:
    """Which ids are hidden, and what the network sees in their place.

    Args:
        mask: Int, the id of `[MASK]`.
        special: Ints that are never asked for: what stands around texts and fills them up.
        vocabulary_size: Int, one more than the largest id.

    References:
        Devlin et al., 2019 (BERT), section 3.1 and appendix A.1, https://arxiv.org/abs/1810.04805
    """

    mask: int
    special: tuple[int, ...]
    vocabulary_size: int

    def __call__(
        self, ids: np.ndarray, padding_mask: np.ndarray, draws: list[np.random.Generator]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Hide some ids of each row.

        Args:
            ids: Int32 array `(rows, length)`.
            padding_mask: Array `(rows, length)`, nonzero where an id is real.
            draws: A generator for each row, by which it is drawn what is hidden.

        Returns:
            `(ids, positions, labels, weights)`: what the network sees; int32 arrays `(rows,
            places)` of where ids are asked for and which they are; and float32 ones, 1 for these
            and 0 for what fills up.
        """
        wanted = (padding_mask != 0) & ~np.isin(ids, self.special)
        asked = [self._of_row(*given) for given in zip(wanted, draws, strict=True)]
        places = max(1, *(len(where) for where, _ in asked))
        seen = np.array(ids, np.int32)
        positions = np.zeros((len(ids), places), np.int32)
        labels, weights = np.zeros_like(positions), np.zeros(positions.shape, np.float32)
        for row, (where, put) in enumerate(asked):
            here = row, slice(len(where))
            positions[here], labels[here], weights[here] = where, ids[row, where], 1
            seen[row, where] = np.where(put < 0, ids[row, where], put)
        return seen, positions, labels, weights

    def _of_row(self, wanted, draw):
        """`(places, what the network sees there)`; -1 is the id itself."""
        candidates = np.flatnonzero(wanted)
        count = math.ceil(SHARE * len(candidates))
        where = np.sort(draw.permutation(candidates)[:count])
        kind, other = draw.random(count), draw.choice(self._ordinary, count)
        return where, np.where(kind < HIDDEN, self.mask, np.where(kind < HIDDEN + OTHER, other, -1))

    @functools.cached_property
    def _ordinary(self):
        return np.setdiff1d(np.arange(self.vocabulary_size), self.special)


class MaskedPasses(TokenPasses):
    """Passes over texts of which some ids are asked for, others in each pass.

    What is hidden of a text is a function of `seed`, the number of the pass and the text's row
    alone. Inputs are those of the network and `mask_positions`; targets the ids there, with sample
    weights, 0 for places that fill up.

    Args:
        texts: `TokenRows`, of which some are read.
        index: int64 array of the rows of `texts`.
        masking: `Masking`.
        batch_size: Int > 0.
        seed: Int to shuffle and to hide by.
    """

    random = "what is hidden"
    changes_targets = True

    def __init__(
        self, texts: TokenRows, index: np.ndarray, masking: Masking, *, batch_size: int, seed: int
    ) -> None:
        super().__init__(texts, index, np.zeros(0), batch_size=batch_size, seed=seed)
        self._masking = masking

    def elements(self, number: TensorLike) -> tf.data.Dataset:
        read = tf.autograph.experimental.do_not_convert(
            lambda key, rows: self._masked(rows, tf.cast(number, tf.int64))
        )
        return self._keyed_rows(number, self.order(number)).map(read)

    def inputs(self, rows: tf.Tensor) -> Any:
        return self._masked(rows, tf.constant(0, tf.int64))[0]

    def targets(self, rows: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return self._masked(rows, tf.constant(0, tf.int64))[1:]

    def _masked(self, rows, number):
        names = (*self.texts.inputs, POSITIONS)

        def arrays_of(rows, number):
            read, labels, weights = self.hidden(rows, int(number))
            return [*(read[name] for name in names), labels, weights]

        dtypes = [*[tf.int32] * (len(names) + 1), tf.float32]
        arrays = [
            tf.ensure_shape(array, (None, None))
            for array in tf.numpy_function(arrays_of, [rows, number], dtypes)
        ]
        return dict(zip(names, arrays[:-2], strict=True)), arrays[-2], arrays[-1]

    def hidden(
        self, rows: np.ndarray, number: int
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """`(inputs, labels, weights)` of rows in pass `number`, as arrays."""
        rows = self.index[rows]
        read: dict[str, Any] = dict(self.texts.padded(rows))
        real = read.get("padding_mask", np.ones_like(read["token_ids"]))
        draws = [_draw(self.seed or 0, number, row) for row in rows]
        ids, positions, labels, weights = self._masking(read["token_ids"], real, draws)
        return {**read, "token_ids": ids, POSITIONS: positions}, labels, weights

    def fingerprint(self) -> str:
        return f"{super().fingerprint()} without {self._masking.mask} {self._masking.special}"


def _draw(seed, number, row):
    """The generator of a row in a pass: the last word of a counter is never reached by drawing."""
    return np.random.Generator(np.random.Philox(key=[seed, number], counter=[0, 0, 0, int(row)]))
