"""Many picture files at once: each opened and fully decoded, in threads, exactly once."""

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from kerastl._base import files as _disk
from kerastl._base.checks import near_path, one_of
from kerastl._base.types import ImageSize, OnProgress, PathLike
from kerastl.data.images.decode import (
    RESIZES,
    ImageError,
    Resize,
    as_size,
    decode_image,
    encoded,
    pillow_quiet,
)
from kerastl.data.images.scan import PassedOver, walk_images

# Pillow lets other threads run while it decodes; more threads only hide slow disks.
THREADS = min(16, 2 * (os.cpu_count() or 1))


def read_images(
    files: Sequence[PathLike],
    pixels: np.ndarray,
    *,
    resize: Resize = "stretch",
    progress: OnProgress | None = None,
) -> list[dict[str, str | None]]:
    """Decode picture files into the rows of an array, noting those that cannot be read.

    Args:
        files: List of paths.
        pixels: uint8 array of shape `(len(files), height, width, 3)`, written to. The row of
            an unreadable file is left as it was.
        resize: As in `load_image`.
        progress: Called as `progress(done, total)` after every file, in this thread.

    Returns:
        List with one dict a file: `digest` (SHA-256 of the content) and `reason` (why it could
        not be read); one of them is None.

    Example:
        >>> import numpy as np
        >>> read_images(["missing.jpg"], np.zeros((1, 8, 8, 3), "uint8"))
        [{'digest': None, 'reason': 'No such file or directory'}]
    """
    image_size = pixels.shape[1:3]

    def read(row):
        return _read(files[row], pixels[row], image_size, resize)

    records = []
    with pillow_quiet():
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix="decode")
        try:
            for record in pool.map(read, range(len(files))):
                records.append(record)
                if progress is not None:
                    progress(len(records), len(files))
        finally:
            # An interrupted run must not first decode all that is left.
            pool.shutdown(wait=True, cancel_futures=True)
    return records


def _read(file, row, image_size, resize):
    try:
        data = encoded(file)
    except OSError as error:
        return {"digest": None, "reason": error.strerror or str(error)}
    except ImageError as error:
        return {"digest": None, "reason": error.reason}
    try:
        row[...] = decode_image(data, image_size, resize)
    except ImageError as error:
        return {"digest": None, "reason": error.reason}
    return {"digest": hashlib.sha256(data).hexdigest(), "reason": None}


# Part of every fingerprint: raise it when `load_image` comes to give other pixels.
DECODER = 1


def decode_files(
    files: Sequence[PathLike],
    *,
    image_size: tuple[int, int],
    resize: Resize = "stretch",
    cache_dir: PathLike | None = None,
    progress: OnProgress | None = None,
) -> tuple[np.ndarray, list[dict[str, str | None]]]:
    """Decode picture files once, and not again while neither they nor the sizes change.

    With `cache_dir` the pixels are kept there under a fingerprint of every file's path, size and
    time of change, `image_size` and `resize`; a later call with the same files only opens them.

    Args:
        files: List of paths.
        image_size: `(height, width)`.
        resize: As in `load_image`.
        cache_dir: Folder for decoded pictures, or None to hold them in memory.
        progress: Called as `progress(done, total)`.

    Returns:
        `(pixels, records)`: a uint8 array of shape `(len(files), height, width, 3)`, a read-only
        `np.memmap` with `cache_dir`; and the list that `read_images` returns.

    Raises:
        ValueError: If the pixels do not fit in memory and there is no `cache_dir`.
        OSError: If `cache_dir` cannot be written or its disk is full.

    Example:
        >>> pixels, records = decode_files(["missing.jpg"], image_size=(8, 8))
        >>> pixels.shape, records[0]["reason"]
        ((1, 8, 8, 3), 'No such file or directory')
    """
    shape = (len(files), *image_size, 3)
    if cache_dir is None:
        _check_memory(shape)
        pixels = np.zeros(shape, np.uint8)
        return pixels, read_images(files, pixels, resize=resize, progress=progress)
    folder = Path(cache_dir) / f"images-{fingerprint(files, image_size, resize)}"
    if not folder.is_dir():
        _fill(folder, files, shape, resize, progress)
    records = json.loads((folder / "records.json").read_text())
    return np.load(folder / "pixels.npy", mmap_mode="r"), records


def fingerprint(files: Sequence[PathLike], image_size: tuple[int, int], resize: Resize) -> str:
    """A short hex name for these files, as they are now, decoded in this way."""
    digest = hashlib.sha256(json.dumps([DECODER, list(image_size), resize]).encode())
    for file in files:
        try:
            stat = Path(file).stat()
            state = [stat.st_size, stat.st_mtime_ns]
        except OSError:
            state = None  # unreadable: a broken link, say; reading it gives the reason
        digest.update(json.dumps([os.path.abspath(file), state]).encode())
    return digest.hexdigest()[:24]


def _fill(folder, files, shape, resize, progress):
    """Decode into a folder beside `folder`, then rename it: there is never half a cache."""
    with _disk.appearing(folder) as partial:
        pixels = _disk.allocate(partial / "pixels.npy", shape, np.uint8, "decoded pictures")
        records = read_images(files, pixels, resize=resize, progress=progress)
        pixels.flush()
        (partial / "records.json").write_text(json.dumps(records))


def _check_memory(shape):
    needed = int(np.prod(shape))
    if not _disk.fits_in_memory(needed):
        raise ValueError(
            f"{shape[0]:,} pictures of {shape[1]}×{shape[2]} need {_disk.mib(needed)} of memory, "
            "more than an eighth of this machine's. Give `cache_dir` (a folder on disk for decoded "
            "pictures) or a smaller `image_size`."
        )


def find_images(paths: str | Path | Iterable[PathLike]) -> list[Path]:
    """The picture files that `paths` stand for: files as given, folders searched through.

    Args:
        paths: One path or an iterable of paths of files and folders.

    Returns:
        List of paths; the files of a folder come sorted.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If a folder holds no pictures.

    Example:
        >>> find_images("no/such/file.jpg")
        Traceback (most recent call last):
        FileNotFoundError: There is no file or folder no/such/file.jpg.
    """
    paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
    if not paths:
        raise ValueError("`paths` must name at least one picture. Received: paths=[]")
    files = []
    for path in map(Path, paths):
        files += _in_folder(path) if path.is_dir() else [_existing(path)]
    return files


def load_image_paths(
    paths: str | Path | Iterable[PathLike],
    *,
    image_size: ImageSize,
    resize: Resize = "stretch",
    progress: OnProgress | None = None,
) -> tuple[np.ndarray, list[Path]]:
    """Read pictures for prediction, exactly as `load_image_folder` reads them for training.

    Args:
        paths: One path or an iterable of paths of files and folders.
        image_size: `(height, width)`, or one int for a square.
        resize: `"stretch"`, `"crop"` or `"pad"`; see `load_image`.
        progress: Called as `progress(done, total)`.

    Returns:
        `(images, files)`: a uint8 array of shape `(n, height, width, 3)` and the list of paths.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If a folder holds no pictures or a file is not a readable image.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (9, 9), "red").save(f"{folder}/a.png")
        ...     images, files = load_image_paths(folder, image_size=(4, 6))
        >>> images.shape, files[0].name
        ((1, 4, 6, 3), 'a.png')
    """
    one_of(resize, RESIZES, "resize")
    files = find_images(paths)
    images = np.zeros((len(files), *as_size(image_size), 3), np.uint8)
    records = read_images(files, images, resize=resize, progress=progress)
    for file, record in zip(files, records, strict=True):
        if record["reason"]:
            raise ImageError(record["reason"], file)
    return images, files


def _in_folder(folder):
    passed = PassedOver()
    files = walk_images(folder, passed)
    for line in PassedOver(no_files=passed.no_files).notices():
        warnings.warn(f"{folder}: {line}", stacklevel=3)
    if not files:
        raise ValueError(f"{folder} holds no pictures. Name picture files or a folder of them.")
    return files


def _existing(path):
    if path.exists():
        return path
    raise FileNotFoundError(f"There is no file or folder {path}.{near_path(path)}")
