"""Decoded pictures: in memory when they fit, in a folder on disk when asked or needed."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np

from kerastl import _disk
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
