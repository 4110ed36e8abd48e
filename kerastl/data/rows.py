"""Some rows of an array on disk, read only when they are asked for."""

from collections.abc import Sequence
from typing import Any

import numpy as np


class Rows:
    """A view of chosen rows of an array, for arrays that do not fit in memory.

    NumPy's own indexing with a list copies every row at once. This reads a row when it is
    indexed, sliced or listed, and everything only in `np.asarray(rows)`.

    Args:
        array: Array or `np.memmap`.
        index: Rows of `array` in their new order.

    Example:
        >>> rows = Rows(np.arange(10) ** 2, [5, 2, 3])
        >>> len(rows), int(rows[0]), rows[1:].tolist()
        (3, 25, [4, 9])
    """

    def __init__(self, array: np.ndarray, index: Sequence[int] | np.ndarray) -> None:
        self.array = array
        self.index = np.asarray(index, np.int64)
        self.shape = (len(self.index), *array.shape[1:])
        self.dtype = array.dtype
        self.ndim = array.ndim

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, where: Any) -> np.ndarray:
        return np.asarray(self.array[self.index[where]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)
