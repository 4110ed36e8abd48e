"""Files and folders that appear at their path whole, or not at all."""

import contextlib
import errno
import os
import tempfile


def checked(path, suffix):
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
def work_folder(path):
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


def full_disk(error):
    """The OSError that a native library reported in words of its own, or None."""
    if "No space left on device" in str(error):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return None


def replaced(made, path):
    """Put the file or folder `made` at `path`, in place of what is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        # A folder cannot be renamed onto a full one; between the two renames there is none.
        os.rename(path, f"{made}.old")  # in the work folder, so it goes with that
        os.rename(made, path)
    else:
        os.replace(made, path)
