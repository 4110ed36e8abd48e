"""Class names beside a model file: `labels.txt`, one a line, in the order of the outputs."""

import os
from collections.abc import Sequence

from kerastl._base.checks import is_one_line
from kerastl._base.types import PathLike

FILE_NAME = "labels.txt"


def checked(labels: Sequence[str], num_outputs: int) -> tuple[str, ...]:
    """`labels` as a tuple of one-line strings, as many as the model has outputs.

    Raises:
        ValueError: If their number or a label does not fit.
    """
    labels = tuple(labels)
    if len(labels) != num_outputs:
        raise ValueError(
            f"`labels` must name each of the model's {num_outputs} outputs. "
            f"Received: {len(labels)} labels."
        )
    for label in labels:
        if not is_one_line(label):
            raise ValueError(f"Each label must be one line of text. Received: {label!r}")
    return labels


def text(labels: Sequence[str]) -> str:
    """The contents of the file."""
    return "".join(f"{label}\n" for label in labels)


def lines(text: str) -> tuple[str, ...]:
    """The labels in the contents of a file: what stands between line feeds, and nothing else.

    `str.splitlines` also divides at characters that other writers leave in a name.

    Example:
        >>> lines("red\\r\\nvery\\u2028blue\\n")
        ('red', 'very\\u2028blue')
    """
    found = text.removeprefix("\ufeff").split("\n")
    return tuple(line.removesuffix("\r") for line in (found if found[-1] else found[:-1]))


def written(labels: Sequence[str], folder: PathLike) -> str:
    """Write `labels` to `folder`; returns the file's path."""
    path = os.path.join(folder, FILE_NAME)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text(labels))
    return path


def beside(path: PathLike) -> tuple[str, ...] | None:
    """The labels in the folder of the file `path`, or None where there are none."""
    path = os.path.join(os.path.dirname(os.path.abspath(path)), FILE_NAME)
    if not os.path.isfile(path):
        return None
    with open(path, encoding="utf-8", newline="") as file:
        return lines(file.read())
