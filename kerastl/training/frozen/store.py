"""Computed features by rows: in memory, or in a folder of memory-mapped files."""

import functools
import json
import math
import pathlib
import shutil
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kerastl._base import checks, files
from kerastl._base.types import CacheDtype, OnProgress
from kerastl.data.passes import Passes
from kerastl.training.frozen.part import packed

FORMAT = "kerastl frozen features 1"
DTYPES = ("float32", "float16")


def stored_dtype(computed: str, dtype: CacheDtype) -> np.dtype:
    """The NumPy dtype in which values of the dtype `computed` are kept.

    Args:
        computed: Name of a dtype, as a network computes.
        dtype: `"float32"` to keep what is computed exactly, `"float16"` to keep half precision of
            floats.

    Example:
        >>> stored_dtype("float32", "float16").name, stored_dtype("bfloat16", "float32").name
        ('float16', 'float32')
    """
    checks.one_of(dtype, DTYPES, "dtype")
    if computed == "bfloat16" or (computed.startswith("float") and dtype == "float16"):
        return np.dtype(dtype)
    return np.dtype(computed)


class Store:
    """Arrays with examples along their first axis.

    Args:
        arrays: List of arrays or read-only memory maps.
        folder: `pathlib.Path` of their files, or None for memory.
    """

    def __init__(self, arrays: Sequence[np.ndarray], folder: pathlib.Path | None = None) -> None:
        self.arrays, self.folder = arrays, folder

    @property
    def num_bytes(self) -> int:
        return num_bytes([(array.shape, array.dtype) for array in self.arrays])

    def rows(self, index: Any) -> list[np.ndarray]:
        """List of the rows `index` of each array."""
        return [np.asarray(array[index]) for array in self.arrays]


def make_store(
    layouts: Sequence[tuple[tuple[int, ...], np.dtype]],
    fill: Callable[[list[np.ndarray]], object],
    *,
    folder: pathlib.Path | None = None,
) -> Store:
    """A `Store` filled by `fill`, or opened if `folder` holds it already.

    A folder appears whole or not at all. One of another size than it should have is made again
    with a warning.

    Args:
        layouts: List of `(shape, dtype)`, one for each array.
        fill: Called with the list of empty arrays if there is something to compute.
        folder: `pathlib.Path` named after everything that the features depend on, or None for
            memory.

    Raises:
        ValueError: If `folder` was not made by this function.
        OSError: If the disk has no room.
    """
    if folder is None:
        arrays = [np.empty(shape, dtype) for shape, dtype in layouts]
        fill(arrays)
        return Store(arrays)
    if folder.exists() and (damage := _damage(folder, layouts)):
        warnings.warn(f"{folder} is damaged ({damage}) and is computed again.", stacklevel=2)
        shutil.rmtree(folder)
    if not folder.exists():
        _fill_folder(folder, layouts, fill)
    return Store([np.load(path, mmap_mode="r") for path in _files(folder, layouts)], folder)


def num_bytes(layouts: Sequence[tuple[tuple[int, ...], np.dtype]]) -> int:
    """Bytes that arrays of `layouts`, a list of `(shape, dtype)`, take.

    Example:
        >>> num_bytes([((10, 3), np.dtype("float32"))])
        120
    """
    return sum(math.prod(shape) * dtype.itemsize for shape, dtype in layouts)


def _fill_folder(folder, layouts, fill):
    with files.appearing(folder) as partial:
        arrays = [
            files.allocate(path, shape, dtype, "frozen features")
            for path, (shape, dtype) in zip(_files(partial, layouts), layouts, strict=True)
        ]
        fill(arrays)
        for array in arrays:
            array.flush()
        header = {"format": FORMAT, "arrays": _header(layouts)}
        (partial / "header.json").write_text(json.dumps(header))


def _damage(folder, layouts):
    """What is wrong with a folder of ours, or None; raises if it is not ours."""
    try:
        header = json.loads((folder / "header.json").read_text())
    except (OSError, ValueError):
        header = None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError(
            f"{folder} must be a folder of frozen features made by this version of kerastl, and "
            "has no such header.json. Remove it, or give another `cache_dir`."
        )
    if header.get("arrays") != _header(layouts):
        return "its header tells of other arrays"
    for path, (shape, dtype) in zip(_files(folder, layouts), layouts, strict=True):
        if not path.is_file():
            return f"{path.name} is missing"
        try:
            array = np.load(path, mmap_mode="r")
        except (ValueError, OSError, EOFError) as error:
            return f"{path.name}: {error}"
        if (array.shape, array.dtype) != (shape, dtype):
            return f"{path.name} holds {array.shape} of {array.dtype}"
        if path.stat().st_size != array.offset + array.nbytes:
            return f"{path.name} is longer than it should be"
    return None


def _files(folder, layouts):
    return [folder / f"{i}.npy" for i in range(len(layouts))]


def _header(layouts):
    return [[list(shape), dtype.name] for shape, dtype in layouts]


def fill(
    arrays: Sequence[np.ndarray],
    batches: Iterable[Sequence[Any]],
    *,
    order: np.ndarray | None = None,
    progress: OnProgress | None = None,
) -> None:
    """Write `batches` into `arrays`, one after the other.

    Args:
        arrays: List of arrays with examples along their first axis.
        batches: Iterable of lists of arrays, the rows of one batch each; where one has fewer
            values along another axis than its array, zeros are behind them.
        order: int64 array, to which rows they belong, one after the other; None for that of rows.
        progress: Called as `progress(done, total)` with numbers of examples, or None.

    Raises:
        ValueError: If there are more or fewer rows than `arrays` have, or a number is too large
            for half precision.
    """
    done, total = 0, len(arrays[0])
    for batch in batches:
        end = done + len(batch[0])
        if end > total:
            break
        rows = slice(done, end) if order is None else order[done:end]
        for array, values in zip(arrays, batch, strict=True):
            array[rows] = _filled_up(_narrowed(values, array.dtype), array.shape[1:])
        done = end
        if progress:
            progress(done, total)
    if done != total or end != total:
        raise ValueError(
            f"The data must give {total} examples, as `num_examples` says. Received: {end}"
            f"{' or more' if end > total else ''}"
        )


def _filled_up(values, shape):
    """`values` with zeros behind them, so that its axes but the first have the sizes `shape`."""
    missing = [size - has for size, has in zip(shape, values.shape[1:], strict=True)]
    if not any(missing):
        return values
    return np.pad(values, [(0, 0), *((0, count) for count in missing)])


def _narrowed(values, dtype):
    if values.dtype == dtype or dtype != np.float16:
        return values
    with np.errstate(over="ignore"):
        narrow = values.astype(dtype)
    if np.isinf(narrow).any() and not np.isinf(values).any():
        raise ValueError(
            "Half precision holds numbers up to 65,504. Received: features up to "
            f"{np.abs(values).max():,.0f}. Use float32 for the frozen features."
        )
    return narrow


class Reading:
    """One reader of features: a dataset made once, which gives the pass that was last asked for.

    Making a dataset takes longer than reading a small one. Which rows make a batch is therefore
    looked up in Python while it is read.

    Args:
        passes: `Passes` over the data.
        specs: `Features` of `tf.TensorSpec`, as the network computes them.
        row_values: Dict of structures of arrays with a row for each example, or `()` for none.
    """

    def __init__(self, passes: Passes, specs: Any, row_values: Any = ()) -> None:
        self._passes, self._specs = passes, specs
        self._row_values, self._flat_row_values = row_values, tf.nest.flatten(row_values)
        self._order: Any = None
        self._store: Any = None

    def of(self, number: int, store: Store) -> tf.data.Dataset:
        """Dataset of `(Features, *targets)`: the batches of pass `number`, features from `store`.

        What was asked for before must have been read.
        """
        with tf.device("CPU"):  # where tf.data computes it
            self._order = self._passes.order(number).numpy()
        self._store = store
        return self._dataset

    @functools.cached_property
    def _dataset(self):
        arrays = [*self._store.rows(slice(0, 0)), *self._flat_row_values]
        dtypes = [tf.as_dtype(array.dtype) for array in arrays]

        @tf.autograph.experimental.do_not_convert
        def batch(step):
            rows, *flat = tf.numpy_function(self._batch, [step], [tf.int64, *dtypes])
            rows = tf.ensure_shape(rows, (None,))
            num_features = len(flat) - len(self._flat_row_values)
            features = packed(flat[:num_features], self._specs)
            features = features._replace(row_values=self._shaped(flat[num_features:]))
            return (features, *self._passes.targets(rows))

        steps = tf.data.Dataset.range(self._passes.num_batches)
        return self._passes.counted(steps.map(batch).prefetch(2))

    def _batch(self, step):
        size = self._passes.batch_size
        rows = self._order[np.int64(step) * size :][:size]
        features, width = self._store.rows(rows), self._passes.width(rows)
        if width is not None:
            specs = tf.nest.flatten(self._specs)
            features = [
                _cut(array, spec, width) for array, spec in zip(features, specs, strict=True)
            ]
        return [rows, *features, *(array[rows] for array in self._flat_row_values)]

    def _shaped(self, flat):
        """Row values of a batch in their structure, with the shapes that the arrays tell."""
        shaped = [
            tf.ensure_shape(part, (None, *array.shape[1:]))
            for part, array in zip(flat, self._flat_row_values, strict=True)
        ]
        return tf.nest.pack_sequence_as(self._row_values, shaped)


def _cut(array, spec, width):
    """`array` without what is behind `width` along each axis whose size `spec` leaves open."""
    return array[(slice(None), *(slice(width if n is None else None) for n in spec.shape[1:]))]
