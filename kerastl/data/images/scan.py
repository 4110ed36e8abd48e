"""Which picture files a data folder holds, of which class, for which purpose."""

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from kerastl._base.checks import closest, listed
from kerastl._base.types import PathLike

Kind: TypeAlias = Literal["class", "labels", "value"]

JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")
EXTENSIONS = (*JPEG, ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff")

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}

# What operating systems and archivers leave behind, beside hidden files.
LITTER = {"__macosx", "thumbs.db", "desktop.ini"}

LAYOUT = (
    "Lay the pictures out as one folder a class, {root}/<class>/*.jpg, "
    "or as {root}/train/<class>/*.jpg with val/ or test/ beside train/."
)


@dataclass(frozen=True)
class ScannedImages:
    """What `scan_images` or `scan_table` found.

    Attributes:
        path: The folder, or the file of the table.
        class_names: Names of the classes, sorted; of the labels; or of the number.
        splits: Dict from `"all"`, or from `"train"` and `"val"` and/or `"test"`, to a tuple of
            `(path, target)`. A target is an index into `class_names`, a tuple of such indices with
            `kind="labels"`, or a float with `kind="value"`.
        ignored: Files left alone because of their extension.
        notices: Lines for the user about what was found.
        kind: `"class"`, `"labels"` (any number of them a picture) or `"value"` (a number).
    """

    path: Path
    class_names: tuple[str, ...]
    splits: dict[str, tuple[tuple[Path, Any], ...]]
    ignored: tuple[Path, ...] = ()
    notices: tuple[str, ...] = ()
    kind: Kind = "class"


def scan_images(path: PathLike) -> ScannedImages:
    """Find the classes and files of a folder of pictures, without opening any.

    Two layouts are known: `path/<class>/*` and `path/train/<class>/*` with `val/` (or
    `valid/`, `validation/`) and/or `test/` beside `train/`. Folders inside a class folder
    belong to the class. Hidden files and what operating systems leave behind are passed over.
    Classes and files come sorted by name, whatever the file system's order.

    Args:
        path: The folder.

    Returns:
        A `ScannedImages`.

    Raises:
        FileNotFoundError: If there is no such folder.
        NotADirectoryError: If `path` is a file.
        ValueError: If the folder is empty, holds no class folders or only one, or if `val/` or
            `test/` has a class that `train/` lacks.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("rose/a.jpg", "daisy/b.png", "daisy/c.jpg"):
        ...         file = pathlib.Path(root, name)
        ...         file.parent.mkdir(exist_ok=True)
        ...         file.touch()
        ...     folder = scan_images(root)
        >>> folder.class_names, [label for _, label in folder.splits["all"]]
        (('daisy', 'rose'), [0, 0, 1])
    """
    root = _checked_root(path)
    parts = _split_folders(root)
    found, ignored, notices = {}, [], []
    for split, folder in parts.items():
        found[split] = _classes(folder, ignored, notices)
    first = next(iter(parts))
    class_names = tuple(sorted(found[first]))
    _check_classes(parts[first], class_names)
    _check_agreement(parts, found, class_names)
    splits = {split: _labelled(classes, class_names) for split, classes in found.items()}
    notices += _missing_notices(found, class_names) + _ignored_notices(ignored)
    return ScannedImages(root, class_names, splits, tuple(ignored), tuple(notices))


def walk_images(folder: Path, ignored: list[Path]) -> list[Path]:
    """Sorted picture files below `folder`; others are appended to the list `ignored`."""
    pictures = []
    for parent, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not is_litter(name))
        paths = [Path(parent, name) for name in files if not is_litter(name)]
        pictures += [path for path in paths if path.suffix.lower() in EXTENSIONS]
        ignored += sorted(path for path in paths if path.suffix.lower() not in EXTENSIONS)
    return sorted(pictures, key=lambda path: path.as_posix())


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name is hidden or left behind by a system."""
    return name.startswith(".") or name.lower() in LITTER


def _raise(error):
    raise error


def _checked_root(path):
    root = Path(path)
    if not root.exists():
        beside = [p.name for p in root.parent.iterdir()] if root.parent.is_dir() else []
        near = f" Closest: {closest(root.name, beside, 2)}." if beside else ""
        raise FileNotFoundError(f"There is no folder {root}.{near}")
    if not root.is_dir():
        raise NotADirectoryError(
            f"{root} is a file, and a folder of pictures is needed. {LAYOUT.format(root='FOLDER')}"
        )
    if not any(not is_litter(entry.name) for entry in root.iterdir()):
        raise ValueError(f"{root} is empty. {LAYOUT.format(root=root)}")
    return root


def _subfolders(folder):
    return sorted(p for p in folder.iterdir() if p.is_dir() and not is_litter(p.name))


def _split_folders(root):
    """Dict from purpose to folder: train/, val/ and test/, or `all` for the root itself."""
    parts = {}
    for split, names in SPLIT_FOLDERS.items():
        matches = [p for p in _subfolders(root) if p.name.lower() in names]
        if len(matches) > 1:
            raise ValueError(
                f"{root} has {listed(p.name for p in matches)}, which all mean {split!r}. Keep one."
            )
        if matches:
            parts[split] = matches[0]
    if not parts:
        return {"all": root}
    if "train" not in parts:
        raise ValueError(
            f"{root} has {listed(p.name + '/' for p in parts.values())} but no train/. "
            f"{LAYOUT.format(root=root)}"
        )
    return {"all": parts["train"]} if len(parts) == 1 else parts


def _classes(folder, ignored, notices):
    """Dict from class name to its sorted files, for one folder of class folders."""
    classes, empty = {}, []
    for sub in _subfolders(folder):
        # One name may be spelt in two ways in Unicode; archives from macOS use the other.
        name = unicodedata.normalize("NFC", sub.name)
        files = walk_images(sub, ignored)
        if files:
            classes[name] = files
        else:
            empty.append(sub.name + "/")
    if empty:
        names = listed(empty, 5)
        notices.append(f"{folder} has folders without pictures, which were left out: {names}.")
    notices += _loose_notices(folder, classes)
    return classes


def _loose_notices(folder, classes):
    loose = [p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in EXTENSIONS]
    loose = sorted(p.name for p in loose if not is_litter(p.name))
    if not loose:
        return []
    if classes:
        return [
            f"{folder} has {len(loose)} pictures outside any class folder, which were left out: "
            f"{listed(loose, 3)}."
        ]
    raise ValueError(
        f"{folder} holds {len(loose)} pictures but no class folders, so nothing says what they "
        f"show. {LAYOUT.format(root=folder)}"
    )


def _check_classes(folder, class_names):
    if not class_names:
        raise ValueError(f"{folder} holds no pictures. {LAYOUT.format(root=folder)}")
    if len(class_names) > 1:
        return
    inside = _subfolders(folder / class_names[0]) if (folder / class_names[0]).is_dir() else []
    hint = f" If the classes are inside it, pass {folder / class_names[0]}." if inside else ""
    raise ValueError(
        f"At least two classes are needed, and {folder} has one: {class_names[0]}.{hint} "
        f"{LAYOUT.format(root=folder)}"
    )


def _check_agreement(parts, found, class_names):
    for split, classes in found.items():
        unknown = sorted(set(classes) - set(class_names))
        if unknown:
            near = closest(unknown[0], class_names, 1)
            raise ValueError(
                f"{parts[split]} has classes that train/ lacks: {listed(unknown)}. Classes of "
                f"train/: {listed(class_names)}. Closest to {unknown[0]!r}: {near}. "
                "Rename the folders so that they agree, or remove them."
            )


def _labelled(classes, class_names):
    return tuple(
        (path, label) for label, name in enumerate(class_names) for path in classes.get(name, ())
    )


def _missing_notices(found, class_names):
    notices = []
    for split, classes in found.items():
        missing = [name for name in class_names if name not in classes]
        if missing:
            notices.append(f"{split}/ has no pictures of {listed(missing)}.")
    return notices


def _ignored_notices(ignored):
    if not ignored:
        return []
    return [
        f"{len(ignored)} files are not pictures by their extension and were left out: "
        f"{listed([path.name for path in ignored], 5)}."
    ]
