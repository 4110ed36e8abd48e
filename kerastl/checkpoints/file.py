"""One checkpoint as one file: a line that says what it is and its hash, then a zip archive.

The archive holds `state.json` and one `.npy` member for each array, uncompressed, so that any zip
program and NumPy can look into it. The hash is over the whole archive: a file that was cut short
or altered anywhere is refused.
"""

import hashlib
import json
import os
import zipfile

import numpy as np

from kerastl.checkpoints.encoding import decode, encode
from kerastl.checkpoints.errors import CheckpointError

VERSION = 1
MAGIC = b"kerastl checkpoint "
HASH_LENGTH = hashlib.sha256().digest_size * 2


def write(path, state):
    """Write `state` to `path` and make sure that it is on the disk.

    Args:
        path: Path of the file; an earlier one is overwritten in place, so write beside it and
            rename, as `CheckpointFolder` does.
        state: What `encode` takes.
    """
    said, arrays = encode(state)
    with open(path, "w+b") as file:
        file.write(_first_line("0" * HASH_LENGTH))
        start = file.tell()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for i, array in enumerate(arrays):
                with archive.open(f"arrays/{i}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
            archive.writestr("state.json", json.dumps(said))
        file.seek(start)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        file.write(_first_line(digest))
        file.flush()
        os.fsync(file.fileno())


def read(path):
    """The state in the file `path`.

    Returns:
        What was given to `write`, tuples as lists.

    Raises:
        CheckpointError: If the file is no checkpoint, of another version, cut short or altered.
        OSError: If it cannot be read at all.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(f"{folder}/a.ktl", {"epoch": 3, "weights": np.arange(3)})
        ...     read(f"{folder}/a.ktl")
        {'epoch': 3, 'weights': array([0, 1, 2])}
    """
    with open(path, "rb") as opened:
        _check(path, opened)
        with zipfile.ZipFile(opened) as archive:
            count = sum(name.startswith("arrays/") for name in archive.namelist())
            arrays = [_array(archive, i) for i in range(count)]
            return decode(json.loads(archive.read("state.json")), arrays)


def _check(path, opened):
    """Raise unless the rest of the file has the hash that its first line tells."""
    line = opened.readline(len(_first_line("")) + HASH_LENGTH)
    if not (line.startswith(MAGIC) or MAGIC.startswith(line)):
        raise CheckpointError(f"{path} is not a checkpoint of kerastl.")
    version = line[len(MAGIC) :].partition(b" ")[0]
    if version.isdigit() and int(version) != VERSION:
        raise CheckpointError(
            f"{path} is a checkpoint of format {int(version)}, and this kerastl reads format "
            f"{VERSION}. Go on with the kerastl that wrote it."
        )
    if line != _first_line(hashlib.file_digest(opened, "sha256").hexdigest()):
        raise CheckpointError(
            f"{path} is damaged: it was cut short or altered since it was written."
        )


def _first_line(digest):
    return MAGIC + f"{VERSION} {digest}\n".encode()


def _array(archive, i):
    with archive.open(f"arrays/{i}.npy") as member:
        return np.lib.format.read_array(member, allow_pickle=False)
