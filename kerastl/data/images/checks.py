"""Pictures that are there twice: across the splits they flatter the result."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from kerastl._base import files
from kerastl._base.checks import listed
from kerastl._base.types import PathLike


def duplicate_notices(
    index: Mapping[str, Sequence[int] | np.ndarray],
    labels: Sequence[int] | np.ndarray,
    records: Sequence[Mapping[str, str | None]],
    files: Sequence[str | Path],
) -> list[str]:
    """Lines about files of equal content in two splits or under two classes.

    Args:
        index: Dict from split name to row numbers.
        labels: Class index of every row.
        records: List with every row's `digest`.
        files: Path of every row.

    Returns:
        List of lines, empty when nothing is there twice.

    Example:
        >>> records = [{"digest": "x"}, {"digest": "x"}, {"digest": "y"}]
        >>> index = {"train": [0], "val": [2], "test": [1]}
        >>> print(duplicate_notices(index, [0, 0, 0], records, ["a.png", "b.png", "c.png"])[0])
        1 of the 1 test pictures is also in the training or validation part (b.png, same content \
as a.png), so the test result may be too good.
    """
    splits, classes = defaultdict(dict), defaultdict(dict)
    for split, rows in index.items():
        for row in rows:
            splits[records[row]["digest"]].setdefault(split, row)
            classes[records[row]["digest"]].setdefault(int(labels[row]), row)
    return _leaks(index, records, files, splits) + _conflicts(files, classes)


def _leaks(index, records, files, splits):
    seen = [row for row in index["test"] if set(splits[records[row]["digest"]]) != {"test"}]
    if not seen:
        return []
    others = splits[records[seen[0]]["digest"]]
    other = others.get("train", others.get("val"))
    is_are = "is" if len(seen) == 1 else "are"
    return [
        f"{len(seen)} of the {len(index['test'])} test pictures {is_are} also in the training or "
        f"validation part ({files[seen[0]]}, same content as {files[other]}), so the test result "
        "may be too good."
    ]


def _conflicts(files, classes):
    rows = [tuple(by_class.values()) for by_class in classes.values() if len(by_class) > 1]
    if not rows:
        return []
    return [
        f"{len(rows)} pictures are in two classes at once, such as {files[rows[0][0]]} and "
        f"{files[rows[0][1]]}."
    ]


def write_skipped(path: PathLike, skipped: Iterable[tuple[str, str]]) -> None:
    """Write `skipped.csv`, one line a file, with the columns `path` and `reason`.

    The file appears whole or not at all.

    Args:
        path: Path of the file to write.
        skipped: Iterable of `(path, reason)`.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "skipped.csv")
        ...     write_skipped(file, [("rose/img_12.jpg", "truncated JPEG")])
        ...     file.read_text().splitlines()
        ['path,reason', 'rose/img_12.jpg,truncated JPEG']
    """
    with (
        files.replacing(path) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "reason"])
        writer.writerows((str(name), reason) for name, reason in skipped)


def skipped_notice(skipped: Sequence[tuple[str, str]], total: int) -> str:
    """One line about the files that were skipped.

    Example:
        >>> print(skipped_notice([("a/b.jpg", "truncated JPEG")], 1240))
        a/b.jpg is not a readable image (truncated JPEG). 1 of 1,240 files was skipped; see \
skipped.csv. Pass --strict (strict=True) to stop instead.
    """
    was = "was" if len(skipped) == 1 else "were"
    return (
        f"{_first(skipped)} {len(skipped):,} of {total:,} files {was} skipped; see skipped.csv. "
        "Pass --strict (strict=True) to stop instead."
    )


def strict_refusal(skipped: Sequence[tuple[str, str]], total: int) -> str:
    """The message of a run that stops at unreadable files, naming them."""
    names = listed([path for path, _ in skipped], 10)
    return (
        f"{_first(skipped)} {len(skipped):,} of {total:,} files cannot be read: {names}. "
        "Mend or remove them, or leave --strict (strict=True) out to skip them."
    )


def _first(skipped):
    path, reason = skipped[0]
    return f"{path} is not a readable image ({reason})."
