"""What a language model learns from: running text, and what is to be said in answer to what.

A `.txt` is one text. In a `.jsonl` each line is an exchange: a prompt and a response, or messages.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kerastl._base.checks import closest, listed
from kerastl._base.types import PathLike
from kerastl.data.images.scan import LITTER
from kerastl.data.texts.reading import SPLITS, decoded, existing, objects

RESPONSES = ("response", "completion")  # columns of what is learnt, beside `prompt`
MESSAGES = "messages"
ROLES = ("system", "user", "assistant", "tool")
LEARNT = "assistant"  # whose messages are learnt

_COLUMNS = "prompt and response (or completion), or messages"

Kind = Literal["text", "response"]


@dataclass(frozen=True)
class Document:
    """A text that hangs together.

    Attributes:
        parts: Tuple of `(text, learnt)`: its pieces in order, and whether their tokens are to be
            predicted. Each piece is read by itself.
        place: Where it stands, such as `"pairs.jsonl, line 3"`.
        ends: Bool, whether it ends where its last part does, and was not cut there.
    """

    parts: tuple[tuple[str, bool], ...]
    place: str
    ends: bool = True


@dataclass(frozen=True)
class ScannedLines:
    """What `scan_lines` found.

    Attributes:
        path: The file, or the folder of files.
        kind: `"text"`, running text; or `"response"`, where a part of each document is learnt.
        splits: Dict from `"all"`, or from `"train"` and `"val"` and/or `"test"`, to a tuple of
            `Document`.
        skipped: Tuple of `(place, reason)` of what is left out.
    """

    path: Path
    kind: Kind
    splits: dict[str, tuple[Document, ...]]
    skipped: tuple[tuple[str, str], ...] = ()


def find_lines(path: PathLike) -> dict[str, list[Path]] | None:
    """Dict from `"all"`, or from `"train"` and others, to the files of `path` to learn to write.

    None where there are none: a folder with other folders, tables or pictures in it, or a `.jsonl`
    of labels.

    Raises:
        ValueError: If files for training and for testing stand beside others.
    """
    path = Path(path)
    if path.is_file():
        return {"all": [path]} if _is_ours(path) else None
    if not path.is_dir():
        return None
    inside = _inside(path)
    names = {name: split for split, known in SPLITS.items() for name in known}
    if inside and all(item.is_dir() and item.name.lower() in names for item in inside):
        found = {names[item.name.lower()]: _inside(item) for item in inside}
        files = [file for each in found.values() for file in each]
    else:
        found, files = _by_name(path, inside, names), inside
    ours = bool(files) and all(file.is_file() and _is_ours(file) for file in files)
    return found if ours else None


def _inside(folder):
    """What lies in `folder`, without what systems leave behind."""
    items = sorted(folder.iterdir())
    return [i for i in items if not i.name.startswith(".") and i.name.lower() not in LITTER]


def _by_name(folder, files, names):
    """The files of a folder by what they are for, if their names say so; else all of them."""
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault(names.get(file.stem.lower(), "all"), []).append(file)
    if "train" not in found or len(found) == 1 or set(found) == {"train", "all"}:
        return {"all": files}
    if "all" in found and all(map(_is_ours, files)):
        raise ValueError(
            f"{folder} has files to train and to test on, and others: "
            f"{listed(file.name for file in found['all'])}. Put them elsewhere."
        )
    return found


def _is_ours(file):
    """Whether `file` holds running text, or a `.jsonl` whose first line is an exchange."""
    ending = file.suffix.lower()
    if ending != ".jsonl" or not file.is_file():
        return ending == ".txt"
    try:
        first = next(objects(file, decoded(file)), (0, {}))[1]
    except ValueError:
        return False  # who reads tables tells what is wrong
    return bool({"prompt", *RESPONSES, MESSAGES} & set(_keys(first)))


def _other(path):
    """What `path` is, which holds nothing to learn to write."""
    if path.is_dir():
        return "a folder with other files, or none"
    if path.suffix.lower() != ".jsonl":
        return f"a file that ends in {path.suffix!r}"
    first = next(objects(path, decoded(path)), None)
    return "an empty file" if first is None else listed(first[1] or ["nothing"])


def scan_lines(path: PathLike) -> ScannedLines:
    """Read running text, or exchanges of which the answers are to be learnt.

    One `.txt` in UTF-8, or a folder of them, each a text of its own; or a `.jsonl`, each line with
    `prompt` and `response` (or `completion`), or with `messages`, a list of `{"role", "content"}`.
    A folder may have a file, or a folder of them, called `train`, and others called `val` (`valid`,
    `validation`, `dev`) or `test`.

    Of a prompt and its response the text is both as they are, and the response is learnt. Messages
    become lines, `user: ...` and `assistant: ...`; what the assistant says is learnt.

    Args:
        path: The file or the folder.

    Returns:
        `ScannedLines`.

    Raises:
        FileNotFoundError: If there is nothing.
        ValueError: If files are of two kinds, empty or no text, or a line is no exchange; the
            message says which.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     file = pathlib.Path(root, "sums.jsonl")
        ...     _ = file.write_text('{"prompt": "1 + 1 =", "response": " 2"}')
        ...     found = scan_lines(file)
        >>> found.kind, found.splits["all"][0].parts
        ('response', (('1 + 1 =', False), (' 2', True)))
    """
    path = existing(path)
    files = find_lines(path)
    if not files:
        raise ValueError(
            f"{path} must be a .txt file or a folder of them, or a .jsonl with {_COLUMNS}. "
            f"Received: {_other(path)}"
        )
    endings = {file.suffix.lower() for each in files.values() for file in each}
    if len(endings) > 1:
        raise ValueError(
            f"The files of {path} must be all .txt or all .jsonl. Received: both. A .txt is "
            "running text, and a .jsonl says what is to be answered to what."
        )
    skipped, splits = [], {}
    read = _exchanges if endings == {".jsonl"} else _text
    for split in ("all", "train", "val", "test"):
        found = [one for file in files.get(split, ()) for one in read(file, skipped)]
        if split in files and not found:
            raise ValueError(
                f"{path} must hold something to learn{'' if split == 'all' else f' in {split}'}. "
                f"Received: nothing but {listed([f'{p} ({why})' for p, why in skipped], 3)}"
            )
        if found:
            splits[split] = tuple(found)
    kind: Kind = "response" if endings == {".jsonl"} else "text"
    return ScannedLines(path, kind, splits, tuple(skipped))


def _text(file, skipped):
    """The `Document` of a file of running text."""
    text = decoded(file)
    if text.strip():
        return [Document(((text, True),), file.name)]
    skipped.append((file.name, "no text"))
    return []


def _exchanges(file, skipped):
    """The `Document` of each line of a `.jsonl` that has something to learn."""
    found = []
    for number, said in objects(file, decoded(file)):
        row = {str(key).strip().lower(): value for key, value in said.items()}
        place = f"{file.name}, line {number}"
        parts = _of_messages(row, place) if MESSAGES in row else _of_pair(row, place)
        while parts and not parts[-1][1]:
            parts = parts[:-1]  # nobody answers to what comes last
        if any(text.strip() for text, learnt in parts if learnt):
            # A prompt without a word stays: what answers it is an exchange and no running text.
            kept = tuple((text, learnt) for text, learnt in parts if text or not learnt)
            found.append(Document(kept, place))
        else:
            skipped.append((place, "no response"))
    return found


def _of_pair(row, place):
    name = next((name for name in RESPONSES if name in row), None)
    if "prompt" not in row or name is None:
        missing = ["prompt"] * ("prompt" not in row) + ["response"] * (name is None)
        others = [key for key in row if key not in ("prompt", *RESPONSES)]
        near = f". Closest to {missing[0]}: {closest(missing[0], others, 1)}" if others else ""
        raise ValueError(
            f"{place} must have {_COLUMNS}. Received: {listed(row or ['nothing'])}. "
            f"Missing: {listed(missing)}{near}."
        )
    return [(_string(row["prompt"], place), False), (_string(row[name], place), True)]


def _of_messages(row, place):
    """The pieces of a conversation: who speaks, and what they say, each with the end of its line.

    Where nobody says what a network's own marks of roles are, a line begins with the role and a
    colon. The space behind it belongs to what is said: so byte pairs are cut between words.
    """
    said = row[MESSAGES]
    if not isinstance(said, list) or not said or not all(isinstance(one, dict) for one in said):
        raise ValueError(
            f"The messages of {place} must be a list of objects with role and content. "
            f"Received: {str(said)[:60]}"
        )
    parts = []
    for one in said:
        role = one.get("role")
        if role not in ROLES:
            raise ValueError(
                f"Each message of {place} must have a role, one of {listed(ROLES)}. "
                f"Received: role={role!r}"
            )
        content = _string(one.get("content"), place)
        parts += [(f"{role}:", False), (f" {content}\n", role == LEARNT and bool(content.strip()))]
    pieces = itertools.groupby(parts, key=lambda part: part[1])
    return [("".join(text for text, _ in piece), learnt) for learnt, piece in pieces]


def _string(said, place):
    if said is None or isinstance(said, str):
        return said or ""
    raise ValueError(f"{place} must have strings to read. Received: {str(said)[:60]!r}")


def _keys(said: Any) -> Sequence[str]:
    return [str(key).strip().lower() for key in said]
