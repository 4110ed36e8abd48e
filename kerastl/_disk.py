"""Large arrays: whether they fit in memory, and folders on disk that appear whole or not at all."""

import contextlib
import math
import os
import shutil

import numpy as np


def fits_in_memory(num_bytes):
    """Whether `num_bytes` may be held in memory: an eighth of it, at least 1 GiB.

    An eighth, because splitting copies the pixels once and training needs its own share.

    Example:
        >>> fits_in_memory(10 ** 6), fits_in_memory(10 ** 15)
        (True, False)
    """
    return num_bytes <= max(_physical_memory() // 8, 2**30)


@contextlib.contextmanager
def appearing(folder):
    """An empty folder to fill, which becomes `folder` if nothing goes wrong meanwhile.

    If another process has made `folder` in the meantime, that one stays.

    Args:
        folder: `pathlib.Path` that does not exist.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        _publish(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def allocate(path, shape, dtype, what):
    """A new `.npy` file of zeros, mapped into memory, with its room on disk made sure of.

    Args:
        path: `pathlib.Path` of the file.
        shape: Tuple of ints.
        dtype: NumPy dtype.
        what: Name of the contents, for the message.

    Raises:
        OSError: If the disk has no room for it.
    """
    needed = math.prod(shape) * np.dtype(dtype).itemsize
    free = shutil.disk_usage(path.parent).free
    # Writing past the end of a full disk through a memory map kills the process (SIGBUS).
    if needed > free:
        raise OSError(
            f"{path.parent.parent} needs {mib(needed)} for {what} and its disk has {mib(free)} "
            "free. Make room, take a smaller image size or another folder."
        )
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate") and needed:
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def mib(num_bytes):
    """`num_bytes` for a person.

    Example:
        >>> mib(3 * 2 ** 20)
        '3 MiB'
    """
    return f"{num_bytes / 2**20:,.0f} MiB"


def _publish(partial, folder):
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another run was faster, with the same contents
            raise


def _physical_memory():
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0  # not told on this system: the 1 GiB floor stands
