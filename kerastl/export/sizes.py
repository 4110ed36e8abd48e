"""How large a file is, and how large it would be if its zeros cost nothing."""

import dataclasses
import io
import pathlib
import zipfile
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from kerastl._base.text_table import markdown
from kerastl._base.types import PathLike
from kerastl.export import flatbuffer

CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class FileSize:
    """Sizes of one file.

    Attributes:
        name: String.
        dense: Int, bytes of the file as it is. This is what a device loads.
        gzip: Int, bytes after gzip, as a download has them.
        sparse: Int, bytes if each array were stored as one bit a number and the numbers that are
            not zero, where that is shorter. An estimate: no runtime of LiteRT reads such a file
            without being asked to. None for a format whose arrays cannot be read.
        zeros: Float in [0, 1], share of zeros in all arrays, or None.
    """

    name: str
    dense: int
    gzip: int
    sparse: int | None
    zeros: float | None


@dataclasses.dataclass(frozen=True)
class SizeTable:
    """Sizes of several files, the first of which is what others are compared with.

    Attributes:
        rows: Tuple of `FileSize`.
    """

    rows: tuple[FileSize, ...]

    def __getitem__(self, name: str) -> FileSize:
        """The `FileSize` called `name`."""
        return {row.name: row for row in self.rows}[name]

    def __str__(self) -> str:
        first = self.rows[0].dense
        cells = [
            (
                row.name,
                *(_size_and_share(size, first) for size in (row.dense, row.gzip, row.sparse)),
                "" if row.zeros is None else f"{row.zeros:.3f}",
            )
            for row in self.rows
        ]
        return markdown(("file", "bytes", "gzip", "sparse", "zeros"), cells)


def file_sizes(files: Mapping[str, PathLike] | Sequence[PathLike]) -> SizeTable:
    """Measure files as they are, gzipped, and with their zeros left out.

    Zeros do not make a file smaller by themselves: a pruned network is as large as it was until
    something compresses it. This table shows both.

    Args:
        files: Dict from name to path, or list of paths, of one file or more: `.tflite`, `.keras`,
            `.weights.h5`, or any other, whose arrays are then not read.

    Returns:
        `SizeTable`; `print` shows it, with shares of the bytes of the first file.

    Raises:
        FileNotFoundError: If a path is no file.
        ValueError: If there is no path, or a file is not what its name says.

    Example:
        >>> import tempfile
        >>> import keras
        >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(
        ...     64, kernel_initializer="zeros")])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(f"{folder}/model.keras")
        ...     size = file_sizes({"zeros": f"{folder}/model.keras"})["zeros"]
        >>> size.zeros, size.dense > 64 * 64 * 4, size.gzip < size.dense / 2
        (1.0, True, True)
    """
    named = files if isinstance(files, dict) else {pathlib.Path(f).name: f for f in files}
    if not named:
        raise ValueError(f"`files` must name at least one file. Received: files={files!r}")
    for path in named.values():
        if not pathlib.Path(path).is_file():
            raise FileNotFoundError(f"`files` must be paths of files. Received: {str(path)!r}")
    return SizeTable(tuple(_measure(name, pathlib.Path(path)) for name, path in named.items()))


def _measure(name, path):
    dense, gzipped = path.stat().st_size, _gzip_size(path)
    reader = next((read for end, read in READERS.items() if path.name.endswith(end)), None)
    if reader is None:
        return FileSize(name, dense, gzipped, None, None)
    saved = zeros = count = 0
    for array in reader(path):
        nonzero = int(np.count_nonzero(array))
        sparse = nonzero * array.itemsize + -(-array.size // 8)
        saved += max(0, array.nbytes - sparse)
        zeros, count = zeros + array.size - nonzero, count + array.size
    return FileSize(name, dense, gzipped, dense - saved, zeros / max(1, count))


def _gzip_size(path):
    packer, size = zlib.compressobj(level=6, wbits=31), 0  # 31: with the header of gzip
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            size += len(packer.compress(chunk))
    return size + len(packer.flush())


def _arrays_of_h5(path_or_file):
    import h5py

    found = []
    with h5py.File(path_or_file, "r") as file:
        file.visititems(lambda _, item: found.append(item[()]) if _is_array(item) else None)
    return found


def _is_array(item):
    return getattr(item, "dtype", None) is not None and item.dtype.kind in "fiub" and item.ndim > 0


def _arrays_of_keras(path):
    try:
        with zipfile.ZipFile(path) as file:
            return _arrays_of_h5(io.BytesIO(file.read("model.weights.h5")))
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{path} is not a .keras file of a model: {error}") from error


def _arrays_of_tflite(path):
    content = path.read_bytes()
    if not flatbuffer.is_litert(content):
        raise ValueError(f"{path} is not a LiteRT file: bytes 4 to 8 are {content[4:8]!r}")
    return flatbuffer.constants(content)


def _size_and_share(size, of):
    return "" if size is None else f"{size:,} ({size / of:.1%})"


READERS = {".tflite": _arrays_of_tflite, ".keras": _arrays_of_keras, ".h5": _arrays_of_h5}
