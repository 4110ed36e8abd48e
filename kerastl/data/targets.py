"""What is said of examples, as one array."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

Kind: TypeAlias = Literal["class", "labels", "value"]


class Found(Protocol):
    """Data that were found, such as `data.ScannedImages` or `data.ScannedTexts`."""

    @property
    def kind(self) -> Kind: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...


def targets_of(found: Found, targets: Sequence[Any]) -> np.ndarray:
    """`targets` of `found` as one array.

    Args:
        found: What says of which kind they are.
        targets: Indices of classes, tuples of indices of labels, or numbers.

    Returns:
        int64 array `(n,)` of class indices; float32 array `(n, labels)` of 0 and 1; or float32
        array `(n, 1)`.
    """
    if found.kind == "class":
        return np.array(targets, np.int64)
    if found.kind == "value":
        return np.array(targets, np.float32).reshape(-1, 1)
    has = np.zeros((len(targets), len(found.class_names)), np.float32)
    for row, labels in enumerate(targets):
        has[row, list(labels)] = 1.0
    return has
