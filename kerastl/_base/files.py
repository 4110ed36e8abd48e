"""Files and folders that appear whole or not at all, and large arrays: whether there is room.

One policy for all that is written: beside its place first, brought onto the disk (`fsync`), then
renamed into its place, and the name brought onto the disk too. So a kill or a power cut leaves what
was there before or what was to be there, and nothing in between.
"""

import contextlib
import errno
import math
import os
import pathlib
import shutil
import stat
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from kerastl._base.types import PathLike

try:
    import fcntl
except ImportError:  # Windows has no such locks; two runs at one folder are then not told apart
    fcntl = None


@contextlib.contextmanager
def replacing(
    path: PathLike, *, partial: pathlib.Path | None = None, keep: PathLike | None = None
) -> Iterator[pathlib.Path]:
    """A path to write to, whose file takes the place of `path` if nothing goes wrong meanwhile.

    Args:
        path: Path of the file, in a folder that exists; what is there may stay or go.
        partial: Path beside it to write to, for a place where one process at a time writes: what
            a killed one left there is then written over. By default a hidden name of this
            process, with the suffix of `path`, by which some writers choose a format.
        keep: Path to which the file at `path` moves, just before the new one takes its place.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(f"{folder}/a.txt") as partial:
        ...         length = partial.write_text("whole")
        ...     os.listdir(folder)
        ['a.txt']
    """
    path = pathlib.Path(path)
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}") if partial is None else partial
    try:
        yield partial
        replaced(partial, path, keep=keep)
    finally:
        partial.unlink(missing_ok=True)


def write(path: PathLike, content: str | bytes) -> None:
    """Write `content`, bytes or text for UTF-8, to the file `path`: wholly or not at all."""
    with replacing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def replaced(made: PathLike, path: PathLike, *, keep: PathLike | None = None) -> None:
    """Put the file or folder `made` at `path`, in place of what is there.

    Args:
        made: Path on the same disk, beside `path` or in a `work_folder` of it.
        path: Path to put it at.
        keep: Path to which a file at `path` moves, or None to drop it.
    """
    sync(made)
    if keep is not None and os.path.exists(path):
        os.replace(path, keep)
    if os.path.isdir(path) and not os.path.islink(path):
        # A folder cannot be renamed onto a full one; between the two renames there is none.
        earlier = f"{os.fspath(made)}.old"
        os.rename(path, earlier)
        os.rename(made, path)
        shutil.rmtree(earlier)
    else:
        os.replace(made, path)
    _sync_one(os.path.dirname(os.path.abspath(path)))


def sync(path: PathLike) -> None:
    """Bring a file, or a folder with all in it, onto the disk."""
    if not os.path.isdir(path):
        _sync_one(path)
        return
    for folder, _, names in os.walk(path):
        for name in names:
            _sync_one(os.path.join(folder, name))
        _sync_one(folder)


def _sync_one(path):
    is_folder, is_windows = os.path.isdir(path), os.name == "nt"
    if is_folder and is_windows:
        return  # it opens no folders
    handle = os.open(path, os.O_RDWR if is_windows else os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network disks cannot do this for folders, and keep names by themselves.
        if not is_folder or error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


@contextlib.contextmanager
def appearing(folder: pathlib.Path) -> Iterator[pathlib.Path]:
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
        sync(partial)
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another run was faster, with the same contents
                raise
        _sync_one(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def checked(path: PathLike, suffix: str) -> str:
    """`path` as a string that ends in `suffix`, in a folder that exists.

    Raises:
        ValueError: If it ends otherwise.
        FileNotFoundError: If its folder does not exist.
    """
    path = os.fspath(path)
    if not path.endswith(suffix):
        raise ValueError(f"`path` must end in {suffix}. Received: path={path!r}")
    if not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        raise FileNotFoundError(f"The folder of `path` must exist. Received: path={path!r}")
    return path


@contextlib.contextmanager
def work_folder(path: PathLike) -> Iterator[str]:
    """An empty folder beside `path`, gone afterwards; errors of the disk speak of `path`.

    Beside the goal, so that the last step is a rename and cannot stop half-way.
    """
    folder = os.path.dirname(os.path.abspath(path))
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as work:
            yield work
    except OSError as error:
        if error.errno is None:
            raise
        # The name that failed is a temporary one; the user knows this one.
        raise OSError(error.errno, os.strerror(error.errno), path) from error


def full_disk(error: BaseException) -> OSError | None:
    """The OSError that a native library reported in words of its own, or None."""
    if "No space left on device" in str(error):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return None


@contextlib.contextmanager
def held(folder: pathlib.Path) -> Iterator[None]:
    """Hold `folder` by a lock file beside it while this lasts; a kill lets go of it too.

    Raises:
        OSError: If another process holds it.
    """
    path = folder.with_name(f"{folder.name}.lock")
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise OSError(f"another process is at it and holds {path}") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def may_be_read(path: pathlib.Path) -> bool:
    """False for a pipe, a socket or a device, which would be waited for or never end."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return True  # a broken link, say: reading it gives the reason
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def fits_in_memory(num_bytes: int) -> bool:
    """Whether `num_bytes` may be held in memory: an eighth of it, at least 1 GiB.

    An eighth, because splitting copies the pixels once and training needs its own share.

    Example:
        >>> fits_in_memory(10 ** 6), fits_in_memory(10 ** 15)
        (True, False)
    """
    return num_bytes <= max(_physical_memory() // 8, 2**30)


def _physical_memory():
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0  # not told on this system: the 1 GiB floor stands


def allocate(path: pathlib.Path, shape: tuple[int, ...], dtype: Any, what: str) -> np.memmap:
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


def mib(num_bytes: int) -> str:
    """`num_bytes` for a person.

    Example:
        >>> mib(3 * 2 ** 20)
        '3 MiB'
    """
    return f"{num_bytes / 2**20:,.0f} MiB"
