"""Which picture files a data folder holds, of which class, for which purpose."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kerastl._base.checks import closest, is_one_line, listed, near_path, one_spelling
from kerastl._base.files import may_be_read
from kerastl._base.types import PathLike
from kerastl.data.split import check_tested
from kerastl.data.targets import Kind

JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")
EXTENSIONS = (*JPEG, ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff")

# Pictures and films by their ending, of kinds that are not read here.
UNREAD = (
    *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".svg", ".svgz", ".ico", ".icns", ".psd"),
    *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".xcf"),
    *(".tga", ".pbm", ".pgm", ".ppm", ".pnm", ".exr", ".hdr", ".eps", ".dcm", ".nii", ".npy"),
    *(".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v"),
)
# How files of pictures begin, whatever they are called.
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"II*\x00", b"MM\x00*")
_LOOKED_INTO = 20  # files of a folder at most

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}

_PURPOSES = {"train": "to train on", "val": "to validate on", "test": "to test on"}

# What operating systems and archivers leave behind, beside hidden files.
LITTER = {"__macosx", "thumbs.db", "desktop.ini"}

# What every run folder of kerastl holds, and no class folder: one file and one of two others.
_RUN = "metrics.json", ("config.json", "comparison.md")

LAYOUT = (
    "Lay the pictures out as one folder a class, {root}/<class>/*.jpg, "
    "or as {root}/train/<class>/*.jpg with val/ or test/ beside train/."
)

_TEXTS = "Texts stand in a .csv, .tsv or .jsonl table with the columns text and label."


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


@dataclass
class PassedOver:
    """What walks left alone, for notices.

    Attributes:
        others: Files that are no pictures by their extension.
        no_files: What is no file: pipes, sockets, devices.
        links: Links to folders inside a class folder, which are not followed.
        runs: Run folders and caches of kerastl.
    """

    others: list[Path] = field(default_factory=list)
    no_files: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)
    runs: list[Path] = field(default_factory=list)

    def notices(self) -> list[str]:
        """A line for each kind that there is."""
        said = (
            (self.others, "files are not pictures by their extension and were left out"),
            (
                self.no_files,
                "entries are no files but pipes, sockets or devices, and were left out",
            ),
            (self.links, "folders inside class folders are links, which were not followed"),
            (self.runs, "folders are runs or caches of kerastl and were left out"),
        )
        return [
            f"{len(paths)} {what}: {listed([path.name for path in paths], 5)}."
            for paths, what in said
            if paths
        ]


def scan_images(path: PathLike, *, least: int = 2) -> ScannedImages:
    """Find the classes and files of a folder of pictures, without decoding any.

    Two layouts are known: `path/<class>/*` and `path/train/<class>/*` with `val/` (or
    `valid/`, `validation/`) and/or `test/` beside `train/`. Folders inside a class folder
    belong to the class. Hidden files, what operating systems leave behind, run folders of kerastl
    and what is no file are passed over. Two spellings of one name in Unicode are one class.
    Classes and files come sorted by name, whatever the file system's order.

    Args:
        path: The folder.
        least: Int > 0, classes that must be there: one is enough to measure a model on, and then
            no part need have all of them.

    Returns:
        A `ScannedImages`.

    Raises:
        FileNotFoundError: If there is no such folder.
        NotADirectoryError: If `path` is a file.
        ValueError: If the folder is empty, holds no class folders or fewer than `least`; if all
            pictures of one are of a kind that is not read, or its name cannot stand on a line of
            its own; if a class has the name of a purpose; if `val/` or `test/` has a class that
            `train/` lacks; or if the part to test on lacks one that it has.

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
    passed, notices = PassedOver(), []
    parts = _split_folders(root, notices)
    found = {split: _classes(folder, passed, notices) for split, folder in parts.items()}
    first = next(iter(parts))
    class_names = tuple(sorted(found[first]))
    _check_classes(parts[first], class_names, least)
    _check_agreement(parts, found, class_names)
    if least > 1:
        check_tested(found, {split: str(folder) for split, folder in parts.items()}, "picture")
    splits = {split: _labelled(classes, class_names) for split, classes in found.items()}
    notices += _missing_notices(found, class_names) + passed.notices()
    return ScannedImages(root, class_names, splits, tuple(passed.others), tuple(notices))


def walk_images(folder: Path, passed: PassedOver) -> list[Path]:
    """Sorted picture files below `folder`; what else there is is added to `passed`."""
    pictures = []
    for parent, folders, files in os.walk(folder, onerror=_raise):
        inside = [Path(parent, name) for name in sorted(folders) if not is_litter(name)]
        passed.runs += [path for path in inside if is_run(path)]
        passed.links += [path for path in inside if path.is_symlink()]
        folders[:] = [path.name for path in inside if not is_run(path)]
        paths = [Path(parent, name) for name in sorted(files) if not is_litter(name)]
        for path in paths:
            known = path.suffix.lower() in EXTENSIONS
            kind = pictures if known else passed.others
            (kind if may_be_read(path) else passed.no_files).append(path)
    return sorted(pictures, key=lambda path: path.as_posix())


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name is hidden or left behind by a system."""
    return name.startswith(".") or name.lower() in LITTER


def is_run(folder: Path) -> bool:
    """Whether `folder` is a run folder of kerastl, or a cache of decoded pictures."""
    mark, others = _RUN
    if (folder / mark).is_file():
        return any((folder / name).is_file() for name in others)
    return folder.name.startswith("images-") and (folder / "pixels.npy").is_file()


def _raise(error):
    raise error


def _checked_root(path):
    root = Path(path)
    if not root.exists():
        raise FileNotFoundError(f"There is no folder {root}.{near_path(root, folders=True)}")
    if not root.is_dir():
        raise NotADirectoryError(
            f"{root} is a file, and a folder of pictures is needed. {LAYOUT.format(root='FOLDER')}"
        )
    if not any(not is_litter(entry.name) for entry in root.iterdir()):
        raise ValueError(f"{root} is empty. {LAYOUT.format(root=root)}")
    return root


def _subfolders(folder):
    return sorted(p for p in _folders(folder) if not is_run(p))


def _folders(folder):
    return [p for p in folder.iterdir() if p.is_dir() and not is_litter(p.name)]


def _pictures_in(folder):
    return walk_images(folder, PassedOver())


def _split_folders(root, notices):
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
    beside = [p for p in _subfolders(root) if p not in parts.values() and _pictures_in(p)]
    _refuse_class_of_purpose(root, parts, beside)
    if "train" not in parts:
        raise ValueError(
            f"{root} has {listed(p.name + '/' for p in parts.values())} but no train/. "
            f"{LAYOUT.format(root=root)}"
        )
    if beside:
        names = listed([f"{p.name}/" for p in beside], 5)
        notices.append(f"{root} has folders beside train/ that were left out: {names}.")
    return {"all": parts["train"]} if len(parts) == 1 else parts


def _refuse_class_of_purpose(root, parts, beside):
    """A class may be called train or test, but then nothing tells it from the purpose."""
    flat = [p for p in parts.values() if not any(map(_pictures_in, _subfolders(p)))]
    flat = [p for p in flat if _pictures_in(p)]
    if not flat and not (beside and "val" not in parts and "test" not in parts):
        return
    folder = (flat or list(parts.values()))[0]
    count = len(_pictures_in(folder))
    has = f"{count} pictures but no class folders" if flat else "folders of pictures"
    others = f", and beside it lie {listed([f'{p.name}/' for p in beside], 5)}" if beside else ""
    purpose = next(split for split, p in parts.items() if p == folder)
    raise ValueError(
        f"A folder called {folder.name} is taken for the pictures {_PURPOSES[purpose]}, in one "
        f"folder a class. {folder} holds {has}{others}. If {folder.name!r} is a class, "
        f"rename its folder, to {folder.name + '_class'!r} say; else put class folders into it "
        f"and move away what is none of the data. {LAYOUT.format(root=root)}"
    )


def _classes(folder, passed, notices):
    """Dict from class name to its sorted files, for one folder of class folders."""
    classes, spelt, empty = {}, {}, []
    passed.runs += sorted(p for p in _folders(folder) if is_run(p))
    for sub in _subfolders(folder):
        num_others, num_runs = len(passed.others), len(passed.runs)
        files = walk_images(sub, passed)
        if files:
            name = one_spelling(sub.name)
            check_name(name, f"The folder {str(sub)!r}")
            classes[name] = sorted([*classes.get(name, ()), *files], key=Path.as_posix)
            spelt.setdefault(name, []).append(sub)
            continue
        _refuse_unread(sub, passed.others[num_others:])
        if len(passed.runs) == num_runs:
            empty.append(sub.name + "/")
    for name, folders in spelt.items():
        if len(folders) > 1:
            notices.append(
                f"{folder} has {len(folders)} folders called {name}, in different spellings of "
                "Unicode; they were taken for one class."
            )
    if empty:
        names = listed(empty, 5)
        notices.append(f"{folder} has folders without pictures, which were left out: {names}.")
    notices += _loose_notices(folder, classes)
    return classes


def check_name(name: str, what: str) -> None:
    """Refuse the name of a class that `labels.txt` could not hold.

    Args:
        name: Of the class.
        what: Where it stands, the beginning of the message.

    Raises:
        ValueError: If it is empty, has a line break or another control character, or is no UTF-8.
    """
    if not is_one_line(name):
        raise ValueError(
            f"{what} must have a name of one line of text, as labels.txt and device files hold one "
            f"class a line. Received: {name!r}. Rename it."
        )


def _refuse_unread(folder, files):
    """A folder without readable pictures is no class unless it holds pictures of other kinds."""
    known = [path for path in files if path.suffix.lower() in UNREAD]
    nameless = [] if known else [path for path in files[:_LOOKED_INTO] if _begins_as_picture(path)]
    if not known and not nameless:
        return
    kinds = sorted({path.suffix.lower() or "without an ending" for path in known or nameless})
    raise ValueError(
        f"Class {folder.name!r} must have pictures of a kind that is read: "
        f"{listed(EXTENSIONS, 20)}. Received: {len(files)} files in {folder}, {listed(kinds)}. "
        f"{'Save them as JPEG or PNG' if known else 'Give them the ending of their kind'}, or "
        "remove the folder."
    )


def _begins_as_picture(path):
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return False
    boxed = head[4:8] == b"ftyp"  # HEIC, AVIF and films
    return boxed or head.startswith(_BEGINNINGS) or head[8:] == b"WEBP"


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


def _check_classes(folder, class_names, least):
    if not class_names:
        if is_run(folder):
            raise ValueError(f"{folder} is a run of kerastl, and data are needed. {_TEXTS}")
        raise ValueError(f"{folder} holds no pictures. {LAYOUT.format(root=folder)} {_TEXTS}")
    if len(class_names) >= least:
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
