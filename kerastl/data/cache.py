"""Decoded pictures: in memory when they fit, in a folder on disk when asked or needed."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np

from kerastl.data.reading import read_images

# Part of every fingerprint: raise it when `load_image` comes to give other pixels.
DECODER = 1


def decode_files(files, *, image_size, resize="stretch", cache_dir=None, progress=None):
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


def fits_in_memory(num_bytes):
    """Whether `num_bytes` of pixels may be held in memory: an eighth of it, at least 1 GiB.

    An eighth, because splitting copies the pixels once and training needs its own share.

    Example:
        >>> fits_in_memory(10 ** 6), fits_in_memory(10 ** 15)
        (True, False)
    """
    return num_bytes <= max(_physical_memory() // 8, 2**30)


def fingerprint(files, image_size, resize):
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
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        pixels = _allocate(partial / "pixels.npy", shape)
        records = read_images(files, pixels, resize=resize, progress=progress)
        pixels.flush()
        (partial / "records.json").write_text(json.dumps(records))
        _publish(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _allocate(path, shape):
    needed = int(np.prod(shape))
    free = shutil.disk_usage(path.parent).free
    # Writing past the end of a full disk through a memory map kills the process (SIGBUS).
    if needed > free:
        raise OSError(
            f"{path.parent.parent} needs {_mib(needed)} for decoded pictures and its disk has "
            f"{_mib(free)} free. Make room, take a smaller image size or another folder."
        )
    pixels = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    if hasattr(os, "posix_fallocate") and needed:
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return pixels


def _publish(partial, folder):
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another run was faster, with the same pixels
            raise


def _check_memory(shape):
    needed = int(np.prod(shape))
    if not fits_in_memory(needed):
        raise ValueError(
            f"{shape[0]:,} pictures of {shape[1]}×{shape[2]} need {_mib(needed)} of memory, more "
            "than an eighth of this machine's. Give `cache_dir` (a folder on disk for decoded "
            "pictures) or a smaller `image_size`."
        )


def _physical_memory():
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0  # not told on this system: the 1 GiB floor stands


def _mib(num_bytes):
    return f"{num_bytes / 2**20:,.0f} MiB"
