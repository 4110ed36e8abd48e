"""Files of text opened: their characters, and the objects of a `.jsonl`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kerastl._base.types import PathLike
from kerastl.data.images.scan import SPLIT_FOLDERS

# What the parts of a data set are called, of texts a validation part `dev`, too.
SPLITS = {**SPLIT_FOLDERS, "val": (*SPLIT_FOLDERS["val"], "dev")}


def existing(path: PathLike) -> Path:
    """`path` as a `Path`.

    Raises:
        FileNotFoundError: If there is nothing.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder {path}.")
    return path


def decoded(path: Path) -> str:
    """The characters of the file at `path`, UTF-8 with or without a byte order mark.

    Raises:
        ValueError: If it has another encoding, or is no text; the message says in which line.
    """
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if content[:2] in (b"\xff\xfe", b"\xfe\xff") or content.count(0) > len(content) // 4:
            raise ValueError(
                f"{path} must be UTF-8 text. Received: UTF-16, or a file that is no text. Save it "
                "as UTF-8."
            ) from error
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path} must be UTF-8 text. Received: {error} (line {line}). If it is Latin-1 or "
            "Windows-1252, save it as UTF-8."
        ) from error
    if "\0" in text:
        raise ValueError(f"{path} must be text. Received: a file with null characters in it")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def objects(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """`(line number, dict)` of each line of a `.jsonl` that is not empty.

    Raises:
        ValueError: If a line is no JSON object; the message says which.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            said = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"Line {number} of {path} must be a JSON object. Received: {line[:60]!r} ({error})"
            ) from error
        if not isinstance(said, dict):
            raise ValueError(
                f"Line {number} of {path} must be a JSON object. Received: {line[:60]!r}"
            )
        yield number, said
