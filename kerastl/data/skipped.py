"""Files that could not be read: listed, written down, or a reason to stop."""

import csv
import os
from pathlib import Path

from kerastl._checks import listed


def write_skipped(path, skipped):
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
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["path", "reason"])
            writer.writerows((str(name), reason) for name, reason in skipped)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def skipped_notice(skipped, total):
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


def strict_refusal(skipped, total):
    """The message of a run that stops at unreadable files, naming them."""
    names = listed([path for path, _ in skipped], 10)
    return (
        f"{_first(skipped)} {len(skipped):,} of {total:,} files cannot be read: {names}. "
        "Mend or remove them, or leave --strict (strict=True) out to skip them."
    )


def _first(skipped):
    path, reason = skipped[0]
    return f"{path} is not a readable image ({reason})."
