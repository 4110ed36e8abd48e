"""A folder of pictures, read, checked and divided: what training starts from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerastl._base.checks import in_range, listed, one_of
from kerastl._base.files import fits_in_memory
from kerastl._base.types import ImageSize, OnProgress, PathLike
from kerastl.data.images.checks import duplicate_notices, skipped_notice, strict_refusal
from kerastl.data.images.decode import RESIZES, Resize, as_size
from kerastl.data.images.read import decode_files
from kerastl.data.images.scan import Kind, ScannedImages, scan_images
from kerastl.data.rows import Rows
from kerastl.data.split import TEST_SHARE, VAL_SHARE, check_seed, stratified_split
from kerastl.data.targets import targets_of


@dataclass(frozen=True, eq=False)
class Split:
    """Pictures for one purpose.

    Attributes:
        images: uint8 of shape `(n, height, width, 3)`: an array, or `Rows` of one on disk.
        labels: int64 array of shape `(n,)`, indices into the class names; or float32 of shape
            `(n, labels)`, 1 where a picture has a label; or of shape `(n, 1)`, numbers.
        paths: Tuple of the `n` files.
    """

    images: np.ndarray | Rows
    labels: np.ndarray
    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class ImageData:
    """What `load_image_folder` returns.

    Attributes:
        class_names: Names of the classes; a label is an index into them.
        train: `Split` to fit on.
        val: `Split` for validation curves or choices; empty with `val_share=0`.
        test: `Split` to report on, seen by nothing before.
        skipped: Tuple of `(path, reason)` of the files that could not be read.
        notices: Lines for the user: skipped files, duplicates, how the data were divided.
        image_size: `(height, width)` of every picture.
        resize: How pictures were brought to that size.
        kind: What `labels` are, as in `ScannedImages`.
    """

    class_names: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    skipped: tuple[tuple[str, str], ...]
    notices: tuple[str, ...]
    image_size: tuple[int, int]
    resize: Resize
    kind: Kind = "class"


def load_image_folder(
    path: PathLike,
    *,
    image_size: ImageSize,
    seed: int = 0,
    strict: bool = False,
    val_share: float = VAL_SHARE,
    resize: Resize = "stretch",
    cache_dir: PathLike | None = None,
    progress: OnProgress | None = None,
) -> "ImageData":
    """Read a folder of pictures for training: find, verify, decode and divide them.

    Every file is opened and fully decoded once, up front, in threads; those that cannot be read
    are skipped and listed. How the rest is divided depends on the folders:

    | given | train | val | test |
    | --- | --- | --- | --- |
    | class folders only, or only `train/` | 70 % | 15 % | 15 % |
    | `train/`, `test/` | 85 % of `train/` | 15 % of `train/` | `test/` |
    | `train/`, `val/` | 85 % of `train/` | 15 % of `train/` | `val/` |
    | `train/`, `val/`, `test/` | `train/` | `val/` | `test/` |

    In the third case `val/` becomes the held-out test and a notice says so: a number measured
    on pictures that chose the model would be too good to report.

    Args:
        path: The folder; see `scan_images` for its layouts.
        image_size: `(height, width)`, or one int for a square.
        seed: Non-negative int that decides the split.
        strict: Whether to stop at unreadable files instead of skipping them.
        val_share: Float in [0, 0.5], the share of the training pictures held back for
            validation where there is no `val/`, 0.15 in the table. 0 trains on all of them.
        resize: `"stretch"`, `"crop"` or `"pad"`; see `load_image`.
        cache_dir: Folder to keep decoded pictures in between runs, needed when they do not fit
            in memory. None keeps them in memory.
        progress: Called as `progress(done, total)` while files are decoded.

    Returns:
        An `ImageData`.

    Raises:
        FileNotFoundError: If there is no such folder.
        NotADirectoryError: If `path` is a file.
        ValueError: If the layout is none of the above, a class has too few readable pictures,
            or, with `strict`, a file cannot be read.

    Example:
        >>> import pathlib, tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for grey in range(20):
        ...         name = "dark" if grey < 10 else "light"
        ...         pathlib.Path(root, name).mkdir(exist_ok=True)
        ...         Image.new("L", (12, 9), 10 * grey).save(f"{root}/{name}/{grey:02}.png")
        ...     data = load_image_folder(root, image_size=8)
        >>> data.class_names, len(data.train), len(data.val), len(data.test)
        (('dark', 'light'), 14, 2, 4)
        >>> data.train.images.shape, data.train.images.dtype
        ((14, 8, 8, 3), dtype('uint8'))
    """
    _check_settings(image_size, resize, seed, val_share)  # before the folder is walked
    return read_scanned(
        scan_images(path),
        image_size=image_size,
        seed=seed,
        strict=strict,
        val_share=val_share,
        resize=resize,
        cache_dir=cache_dir,
        progress=progress,
    )


def read_scanned(
    found: ScannedImages,
    *,
    image_size: ImageSize,
    seed: int = 0,
    strict: bool = False,
    val_share: float = VAL_SHARE,
    resize: Resize = "stretch",
    cache_dir: PathLike | None = None,
    progress: OnProgress | None = None,
) -> "ImageData":
    """Read and divide the pictures that were found, as `load_image_folder` does.

    Pictures of classes are divided class by class, others all together.

    Args:
        found: `ScannedImages`.
        image_size: As in `load_image_folder`, and so are the others.

    Returns:
        An `ImageData`.
    """
    image_size = _check_settings(image_size, resize, seed, val_share)
    items = [(split, *item) for split, part in found.splits.items() for item in part]
    files = [file for _, file, _ in items]
    pixels, records = decode_files(
        files, image_size=image_size, resize=resize, cache_dir=cache_dir, progress=progress
    )
    reasons = [record["reason"] for record in records]
    skipped = [(str(f), reason) for f, reason in zip(files, reasons, strict=True) if reason]
    if skipped and strict:
        raise ValueError(strict_refusal(skipped, len(files)))
    targets = targets_of(found, [target for _, _, target in items])
    kept = _readable(found, items, reasons)
    strata, names = _strata(found, targets)
    if found.kind == "class":
        check_counts(found, targets, kept, items, reasons)
    else:
        _check_any(found, kept)
    index, notices = divide(kept, strata, names, seed, val_share)
    notices = [
        *([skipped_notice(skipped, len(files))] if skipped else []),
        *found.notices,
        *notices,
        *duplicate_notices(index, strata, records, files),
        *_untaught_notices(found, targets[index["train"]]),
    ]
    train, val, test = (
        _part(index[name], pixels, targets, files) for name in ("train", "val", "test")
    )
    return ImageData(
        found.class_names,
        train,
        val,
        test,
        tuple(skipped),
        tuple(notices),
        image_size,
        resize,
        found.kind,
    )


def _check_settings(image_size, resize, seed, val_share):
    """The size as a pair, if nothing is wrong with any of them."""
    one_of(resize, RESIZES, "resize")
    check_seed(seed)
    in_range(val_share, 0, 0.5, "val_share", "a share")
    return as_size(image_size)


def _readable(found, items, reasons):
    """Dict from purpose to the rows of its pictures that could be read."""
    return {
        split: np.array([i for i, it in enumerate(items) if it[0] == split and not reasons[i]], int)
        for split in found.splits
    }


def _strata(found, targets):
    """What is divided by itself: an int for each picture, and the names these count through."""
    if found.kind == "class":
        return targets, found.class_names
    return np.zeros(len(targets), np.int64), ("all",)


def _untaught_notices(found, targets):
    """A notice of labels that no picture to train on has."""
    if found.kind != "labels":
        return []
    columns = zip(found.class_names, targets.T, strict=True)
    never = [name for name, column in columns if not column.any()]
    return [f"No picture to train on has the label {listed(never)}."] if never else []


def _check_any(found, kept):
    """Without classes, there must be readable pictures to train on and to test on."""
    for split, rows in kept.items():
        needed = 2 if split == "all" else 1
        if len(rows) < needed:
            part = "" if split == "all" else f" for {split}"
            raise ValueError(
                f"{found.path} must name at least {needed} readable pictures{part}. "
                f"Received: {len(rows)}"
            )


def _part(rows, pixels, labels, files):
    in_memory = fits_in_memory(pixels.nbytes)
    images = pixels[rows] if in_memory else Rows(pixels, rows)
    images = np.asarray(images) if in_memory else images
    return Split(images, labels[rows], tuple(files[row] for row in rows))


def check_counts(
    folder: ScannedImages,
    labels: np.ndarray,
    kept: Mapping[str, np.ndarray],
    items: Sequence[tuple[str, Path, int]],
    reasons: Sequence[str | None],
) -> None:
    """Every class needs readable pictures to train on and, unless given, one to test on."""
    split = next(iter(kept))
    needed = 2 if split == "all" else 1
    counts = np.bincount(labels[kept[split]], minlength=len(folder.class_names))
    for label, name in enumerate(folder.class_names):
        if counts[label] >= needed:
            continue
        bad = [
            f"{file.name} ({reason})"
            for (part, file, own), reason in zip(items, reasons, strict=True)
            if part == split and own == label and reason
        ]
        why = f" Skipped: {listed(bad, 5)}." if bad else ""
        raise ValueError(
            f"Class {name!r} of {folder.path} must have at least {needed} readable pictures"
            f"{' to be divided into training and test' if needed > 1 else _of(folder, split)}. "
            f"Received: {counts[label]}.{why} Add pictures or remove the class."
        )
    for name, rows in kept.items():
        if not len(rows):
            raise ValueError(
                f"{folder.path} has no readable picture{_of(folder, name)}. Add some, or remove "
                f"the {'folder' if folder.path.is_dir() else 'lines'}."
            )


def _of(found, split):
    """Where the pictures of `split` are said to be, in a folder's words or a table's."""
    return f" in {split}/" if found.path.is_dir() else f" on lines whose split is {split}"


def divide(
    kept: Mapping[str, np.ndarray],
    labels: np.ndarray,
    class_names: Sequence[str],
    seed: int,
    val_share: float = VAL_SHARE,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Dict of row indices for train, val and test, and what to tell the user about them."""
    if "all" in kept:
        shares = (val_share, TEST_SHARE)
        index, notice = _drawn(kept["all"], labels, class_names, seed, shares), []
        if val_share and len(index["val"]) < len(class_names):
            notice = ["Some classes have too few pictures for a place in the validation part."]
        return index, notice
    if len(kept) == 3:
        return dict(kept), []
    index = _drawn(kept["train"], labels, class_names, seed, (val_share, 0))
    held_out = "test" if "test" in kept else "val"
    chosen = f"{len(index['val'])} of the {len(kept['train'])} pictures of train/"
    notice = f"{held_out}/ is kept for the final evaluation" + (
        f"; {chosen} are held back for validation." if val_share else "."
    )
    return index | {"test": kept[held_out]}, [notice]


def _drawn(rows, labels, class_names, seed, shares):
    val_share, test_share = shares
    parts = stratified_split(
        labels[rows], class_names, seed=seed, val_share=val_share, test_share=test_share
    )
    return {name: rows[part] for name, part in zip(("train", "val", "test"), parts, strict=True)}
