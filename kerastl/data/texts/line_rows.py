"""Texts as rows of ids in which each is to be predicted from those before it."""

import bisect
import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from kerastl.data.texts.passes import padded_width


@dataclasses.dataclass(frozen=True, eq=False)
class LinePiece:
    """Ids of one document, or of a part of one that fits into a row.

    Attributes:
        ids: int32 array `(n,)`.
        targets: int32 array `(n,)`, the id after each.
        weights: float32 array `(n,)`, 1 where that is to be learnt, else 0.
        num_bytes: Float, bytes of text that the learnt ones stand for.
    """

    ids: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    num_bytes: float


def cut_running(ids: np.ndarray, *, length: int, num_bytes: int) -> list[LinePiece]:
    """Running text as pieces of `length` ids, in which each id but the first is predicted once.

    Args:
        ids: int32 array `(n,)`, what stands around the text included.
        length: Int > 0.
        num_bytes: Int, bytes of the text: each piece gets as large a part of them as of the ids.

    Example:
        >>> pieces = cut_running(np.arange(6), length=3, num_bytes=10)
        >>> [(piece.ids.tolist(), piece.targets.tolist()) for piece in pieces]
        [([0, 1, 2], [1, 2, 3]), ([3, 4], [4, 5])]
    """
    pieces = []
    for begin in range(0, len(ids) - 1, length):
        targets = ids[begin + 1 : begin + 1 + length]
        weights = np.ones(len(targets), np.float32)
        share = num_bytes * len(targets) / (len(ids) - 1)
        pieces.append(LinePiece(ids[begin : begin + len(targets)], targets, weights, share))
    return pieces


def cut_exchange(
    parts: Sequence[tuple[np.ndarray, int]],
    *,
    start: Sequence[int],
    end: Sequence[int],
    length: int,
) -> tuple[LinePiece | None, bool]:
    """What is to be answered and the answer in one row, cut from the left where it is too long.

    The last part and the end are always whole. Before them an answer stays whole or goes, and with
    it what stands before; of a prompt that is too long its end stays.

    Args:
        parts: Sequence of `(ids, bytes)`; bytes are 0 for what is not learnt. The last is learnt.
        start: Ids before the first part, at least one.
        end: Ids after the last, which are learnt.
        length: Int > 0, ids of a row at most.

    Returns:
        `LinePiece`, or None where the last part alone does not fit; and whether something was cut.

    Example:
        >>> parts = [(np.array([5, 6, 7]), 0), (np.array([8, 9]), 2)]
        >>> piece, cut = cut_exchange(parts, start=(1,), end=(2,), length=5)
        >>> piece.ids.tolist(), piece.targets.tolist(), piece.weights.tolist(), cut
        ([1, 6, 7, 8, 9], [6, 7, 8, 9, 2], [0.0, 0.0, 1.0, 1.0, 1.0], True)
    """
    room = length + 1 - len(start) - len(end) - len(parts[-1][0])
    if room < 0:
        return None, True
    kept, is_cut = [parts[-1]], False
    for ids, num_bytes in reversed(parts[:-1]):
        if len(ids) > room:
            is_cut = True
            if room and not num_bytes:
                kept.append((ids[len(ids) - room :], 0))
            break
        kept.append((ids, num_bytes))
        room -= len(ids)
    kept = [(np.array(start), 0), *reversed(kept), (np.array(end), 1)]
    whole = np.concatenate([ids for ids, _ in kept]).astype(np.int32)
    learnt = np.concatenate([np.full(len(ids), n > 0, np.float32) for ids, n in kept])
    num_bytes = float(sum(n for _, n in kept[:-1]))
    return LinePiece(whole[:-1], whole[1:], learnt[1:], num_bytes), is_cut


def packed_rows(lengths: Iterable[int], length: int) -> list[list[int]]:
    """Which pieces share a row, so that rows are full: best fit, longest first.

    Args:
        lengths: Ints in [1, length], of the pieces.
        length: Int > 0, of a row.

    Returns:
        List of lists of numbers of pieces, the same for the same lengths.

    Example:
        >>> packed_rows([3, 5, 2, 4], 7)
        [[1, 2], [3, 0]]

    References:
        Johnson et al., 1974, https://doi.org/10.1137/0203025
    """
    lengths = np.array(list(lengths))
    rows: list[list[int]] = []
    by_room: dict[int, list[int]] = {}
    rooms: list[int] = []  # the keys of `by_room`, in order
    for piece in np.argsort(-lengths, kind="stable"):
        size = int(lengths[piece])
        place = bisect.bisect_left(rooms, size)
        if place == len(rooms):
            row, room = len(rows), length
            rows.append([])
        else:
            room = rooms[place]
            row = by_room[room].pop(0)
            if not by_room[room]:
                del by_room[room], rooms[place]
        rows[row].append(int(piece))
        if left := room - size:
            if left not in by_room:
                bisect.insort(rooms, left)
            by_room.setdefault(left, []).append(row)
    return rows


@dataclasses.dataclass(frozen=True, eq=False)
class LineRows:
    """Rows of ids, what is to be predicted at each, and what it counts.

    Attributes:
        ids: Sequence of int32 arrays, one a row.
        targets: Sequence of int32 arrays as long.
        weights: Sequence of float32 arrays as long.
        documents: Sequence of int32 arrays as long, the number of the document that each id is of;
            or None for a network that is not told.
        pad: Int, the id that fills up.
        longest: Int, ids of a row at most.
    """

    ids: Sequence[np.ndarray]
    targets: Sequence[np.ndarray]
    weights: Sequence[np.ndarray]
    documents: Sequence[np.ndarray] | None
    pad: int
    longest: int

    @classmethod
    def of(
        cls, rows: Sequence[Sequence[LinePiece]], *, pad: int, longest: int, documents: bool
    ) -> "LineRows":
        """Rows of one or more pieces each, one after the other."""
        numbers = [
            np.repeat(np.arange(1, len(row) + 1, dtype=np.int32), [len(p.ids) for p in row])
            for row in rows
        ]

        def joined(name):
            return [np.concatenate([getattr(piece, name) for piece in row]) for row in rows]

        parts = joined("ids"), joined("targets"), joined("weights")
        return cls(*parts, numbers if documents else None, pad, longest)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of what `padded` gives."""
        return "token_ids", "padding_mask", *(() if self.documents is None else ("documents",))

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """int64 array, ids of each row."""
        return np.array([len(one) for one in self.ids], np.int64)

    def width(self, rows: np.ndarray) -> int:
        """To how many ids a batch of these rows is padded."""
        return padded_width(self.lengths, rows, self.longest)

    def padded(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Dict of int32 arrays `(len(rows), width)`, the inputs of a network."""
        ids = self._filled(self.ids, rows, self.pad)
        arrays = {"token_ids": ids, "padding_mask": np.zeros_like(ids)}
        for place, length in enumerate(self.lengths[rows]):
            arrays["padding_mask"][place, :length] = 1
        if self.documents is not None:
            arrays["documents"] = self._filled(self.documents, rows, 0)
        return arrays

    def padded_targets(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`(targets, weights)`, int32 and float32 `(len(rows), width)`; 0 where there is none."""
        return self._filled(self.targets, rows, 0), self._filled(self.weights, rows, 0)

    def _filled(self, parts, rows, value) -> Any:
        dtype = parts[0].dtype if len(parts) else np.int32
        whole = np.full((len(rows), self.width(rows)), value, dtype)
        for place, row in enumerate(rows):
            whole[place, : len(parts[row])] = parts[row]
        return whole

    def arrays(self, rows: np.ndarray) -> list[np.ndarray]:
        """All that some rows are, for a fingerprint."""
        parts = [self.ids, self.targets, self.weights, self.documents or ()]
        return [part[row] for part in parts if part for row in rows]
