"""Many picture files at once: each opened and fully decoded, in threads, exactly once."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kerastl.data.decode import ImageError, decode_image, pillow_quiet

# Pillow lets other threads run while it decodes; more threads only hide slow disks.
THREADS = min(16, 2 * (os.cpu_count() or 1))


def read_images(files, pixels, *, resize="stretch", progress=None):
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
        data = Path(file).read_bytes()
    except OSError as error:
        return {"digest": None, "reason": error.strerror or str(error)}
    try:
        row[...] = decode_image(data, image_size, resize)
    except ImageError as error:
        return {"digest": None, "reason": error.reason}
    return {"digest": hashlib.sha256(data).hexdigest(), "reason": None}
