"""Holding a folder for one process, however that process ends."""

import contextlib
import os

try:
    import fcntl
except ImportError:  # Windows has no such locks; two runs at one folder are then not told apart
    fcntl = None


@contextlib.contextmanager
def held(folder):
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
