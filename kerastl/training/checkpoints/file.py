"""One checkpoint as one file: a line that says what it is and its hash, then a zip archive.

The archive holds `state.json` and one `.npy` member for each array, uncompressed, so that any zip
program and NumPy can look into it. The hash is over the whole archive: a file that was cut short
or altered anywhere is refused.
"""

import hashlib
import json
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from kerastl._base.types import PathLike

VERSION = 3
MAGIC = b"kerastl checkpoint "
HASH_LENGTH = hashlib.sha256().digest_size * 2


def write(path: PathLike, state: Any) -> None:
    """Write `state` to `path`.

    Args:
        path: Path of the file; an earlier one is overwritten in place, so write it within
            `files.replacing`, as `CheckpointFolder` does.
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


def read(path: PathLike) -> Any:
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


ARRAY = "__array__"  # {ARRAY: position in the list of arrays, "dtype": name, "scalar": bool}


def encode(state: Any) -> tuple[Any, list[np.ndarray]]:
    """`state` as JSON values, and the list of the arrays in it.

    Args:
        state: Dicts with string keys, lists, tuples (which come back as lists), None, booleans,
            ints, floats, strings, NumPy arrays and NumPy scalars, nested as you like.

    Returns:
        JSON-able value and list of arrays.

    Raises:
        TypeError: For anything else; nothing is pickled.

    Example:
        >>> encode({"epoch": 3, "weights": [np.zeros(2)]})[0]
        {'epoch': 3, 'weights': [{'__array__': 0, 'dtype': 'float64', 'scalar': False}]}
    """
    arrays = []
    return _encode(state, arrays), arrays


def _encode(value, arrays):
    if value is None or isinstance(value, (bool, int, float, str)):
        # A float64 scalar of NumPy is a float too, and as exact.
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype != object:
        array = np.asarray(value)
        said = {ARRAY: len(arrays), "dtype": array.dtype.name}
        arrays.append(_standard(array))
        return {**said, "scalar": isinstance(value, np.generic)}
    if isinstance(value, (list, tuple)):
        return [_encode(item, arrays) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _encode(item, arrays) for key, item in value.items()}
    raise TypeError(
        "A checkpoint holds dicts with string keys, lists, numbers, strings, None and NumPy "
        f"arrays. Received: {value!r} (of type {type(value).__module__}."
        f"{type(value).__qualname__}). A callback's `get_state` must give such values."
    )


def decode(value: Any, arrays: Sequence[np.ndarray]) -> Any:
    """The state that `encode` made JSON values and `arrays` of."""
    if isinstance(value, list):
        return [decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if ARRAY not in value:
        return {key: decode(item, arrays) for key, item in value.items()}
    array = arrays[value[ARRAY]]
    if array.dtype.name != value["dtype"]:
        array = array.view(np.dtype(value["dtype"]))
    return array[()] if value["scalar"] else array


def _standard(array):
    """`array` in a type that `.npy` knows: bfloat16 and its kin as unsigned ints of their bits."""
    if array.dtype.kind != "V":
        return array
    return array.view(f"u{array.dtype.itemsize}")


class CheckpointError(ValueError):
    """A checkpoint is damaged, or belongs to another training."""
