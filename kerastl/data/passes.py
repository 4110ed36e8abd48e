"""Passes over a training set: which rows make which batch, as a pure function of seed and pass."""

import abc
import functools
import hashlib
import itertools
import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl._base.types import TensorLike
from kerastl.data.rows import Rows

# Plain Python, to be traced as it stands: AutoGraph takes longer to read it than the data takes.
_as_is = tf.autograph.experimental.do_not_convert


class Passes(abc.ABC):
    """A training set of which any pass can be repeated exactly, whatever was read before.

    `tf.data.Dataset.shuffle` depends on how many iterators were made before, so that a run that
    stopped cannot go on as it would have. Here the order of a pass is a function of `seed`, the
    number of the pass and the position of the batch. A dataset carries its passes as its attribute
    `repeatable`.

    Args:
        num_examples: Int > 0.
        batch_size: Int > 0; the last batch of a pass may be smaller.
        seed: Int to shuffle by, or None to keep the order.

    Attributes:
        random: What makes the inputs of two passes differ besides their order, such as
            `"augmentation"`, or None.
        changes_targets: Boolean, whether that changes the targets too, in every pass anew.
        rows_of: `(array, index)`, of which rows of which array its inputs are made, each of its
            own; or None where nobody says.
        computing_order: int64 array, the order of the rows in which it is cheapest to compute
            something of each, or None for their own.
        longest: Int, how long the axes are at most whose length differs from batch to batch; None
            where none does.
    """

    random = None
    changes_targets = False
    rows_of: tuple[Any, np.ndarray] | None = None
    computing_order: Any = None
    longest: int | None = None

    def __init__(self, num_examples: int, batch_size: int, seed: int | None = None) -> None:
        self.num_examples = num_examples
        self.batch_size = batch_size
        self.seed = seed

    @functools.cached_property
    def input_spec(self) -> Any:
        """Structure of `tf.TensorSpec` of a batch of inputs."""
        return self.in_order().element_spec

    @property
    def batch_spec(self) -> tuple[Any, ...]:
        """`(x, *targets)` of a batch, not augmented, as structures of `tf.TensorSpec`."""
        rows = tf.TensorSpec([None], tf.int64)
        traced = tf.function(self.targets, autograph=False).get_concrete_function(rows)
        specs = tf.nest.map_structure(tf.TensorSpec.from_tensor, traced.structured_outputs)
        return (self.input_spec, *specs)

    @property
    def num_batches(self) -> int:
        """Batches a pass."""
        return math.ceil(self.num_examples / self.batch_size)

    @abc.abstractmethod
    def inputs(self, rows: tf.Tensor) -> Any:
        """The inputs of `rows`, an int64 vector; called inside tf.data."""

    @abc.abstractmethod
    def targets(self, rows: tf.Tensor) -> tuple[Any, ...]:
        """`(y,)`, `(y, sample_weight)` or `()` of `rows`; called inside tf.data."""

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Hash of inputs, targets and what is done to them, as hexadecimal digits."""

    def augment(self, element: tuple[Any, ...], key: tf.Tensor) -> tuple[Any, ...]:
        """`element`, `(x, *targets)`, changed at random by `key`; as it is unless overridden."""
        return element

    def places_in(self, other: "Passes") -> np.ndarray | None:
        """Int array of the rows of `other` that have the inputs of the rows of this, or None.

        Where random changes are made, it is the inputs without them.
        """
        if type(self) is not type(other) or self.rows_of is None or other.rows_of is None:
            return None
        (array, mine), (same, theirs) = self.rows_of, other.rows_of
        if array is not same:
            return None
        order = np.argsort(theirs, kind="stable")
        places = order[np.minimum(np.searchsorted(theirs[order], mine), len(order) - 1)]
        return places if np.array_equal(theirs[places], mine) else None

    def epoch(self, number: int) -> tf.data.Dataset:
        """Dataset of the batches `(x, *targets)` of pass `number`."""
        return self.counted(self.elements(number).prefetch(2))

    def elements(self, number: TensorLike) -> tf.data.Dataset:
        """`epoch`, where `number` may be a tensor."""
        batches = self._keyed_rows(number, self.order(number))
        read = batches.map(self._read)
        # One map at a time: the layers' seeds are set for a batch and then used by it.
        return read.map(lambda key, element: self.augment(element, key))

    def order(self, number: TensorLike) -> tf.Tensor:
        """The rows of pass `number` in their order, an int64 tensor; `number` may be a tensor."""
        if self.seed is None:
            return self._unshuffled
        key = self._key(number)
        random: Any = tf.random  # `experimental` is added to it when it is imported
        return random.experimental.stateless_shuffle(self._unshuffled, key, alg="philox")

    def in_order(self) -> tf.data.Dataset:
        """Dataset of the batches of inputs in the order of the rows, not augmented."""
        return self._in_order

    def in_computing_order(self) -> tf.data.Dataset:
        """Dataset of the batches of inputs in the `computing_order`, not augmented."""
        if self.computing_order is None:
            return self.in_order()
        read = _as_is(lambda key, rows: self.inputs(rows))
        order = tf.constant(self.computing_order, tf.int64)
        return self.counted(self._keyed_rows(0, order).map(read).prefetch(2))

    def width(self, rows: np.ndarray) -> int | None:
        """How long axes of differing length are in a batch of these rows; None without any."""
        return None

    @functools.cached_property
    def _in_order(self):
        read = _as_is(lambda key, rows: self.inputs(rows))
        return self.counted(self._keyed_rows(0, self._unshuffled).map(read).prefetch(2))

    def view(self, number: TensorLike) -> tf.data.Dataset:
        """Like `in_order`, augmented by the key of view `number`."""
        read = self._keyed_rows(number, self._unshuffled).map(self._read)
        return self.counted(read.map(lambda key, element: self.augment(element, key)[0]))

    def counted(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """`dataset` with its number of batches known, and untuned."""
        counted = dataset.apply(tf.data.experimental.assert_cardinality(self.num_batches))
        return untuned(counted)

    def _keyed_rows(self, number, order):
        """Dataset of (key, rows): which rows make a batch, and the key of its randomness."""
        key = self._key(number)
        batches = tf.data.Dataset.from_tensor_slices(order).batch(self.batch_size)
        keyed = _as_is(lambda step, rows: (tf.random.fold_in(key, step), rows))
        return batches.enumerate().map(keyed)

    @property
    def _unshuffled(self):
        return tf.range(self.num_examples, dtype=tf.int64)

    def _key(self, number):
        return tf.stack([tf.constant(self.seed or 0, tf.int64), tf.cast(number, tf.int64)])

    @_as_is
    def _read(self, key, rows):
        return key, (self.inputs(rows), *self.targets(rows))


def dataset_of(passes: Passes) -> tf.data.Dataset:
    """Dataset of `(inputs, *targets)` that gives another pass each time it is read.

    Its attribute `repeatable` holds `passes`, by which `FineTuner.fit` reads pass by pass.
    """
    numbers = itertools.count()  # not a tf.Variable: a distribution strategy would copy that

    def number(zero):
        if passes.seed is None:
            return zero
        drawn = tf.numpy_function(lambda: np.int64(next(numbers)), [], tf.int64)
        return tf.ensure_shape(drawn, ())

    drawn = tf.data.Dataset.range(1).map(number).flat_map(passes.elements)
    dataset: Any = passes.counted(drawn.prefetch(2))
    dataset.repeatable = passes
    return dataset


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """`dataset` without the tuner of tf.data, for which there is nothing to tune in a pass.

    An iterator that is done with waits for the tuner's thread to wake up, which sleeps longer and
    longer: a second after an epoch of a few seconds, up to a minute after a long one. Seen with
    TensorFlow 2.21; to be removed when deleting an iterator that was read for ten seconds takes no
    time.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


class ArrayPasses(Passes):
    """Passes over arrays, as `fit(x, y, sample_weight)` takes them.

    Args:
        x: Array with examples along its first axis, or a list, tuple or dict of them. Lists come
            as tuples, for tf.data would make one tensor of each.
        y: The same for targets, or None.
        sample_weight: The same for weights, or None. Needs `y`.
        batch_size: Int > 0.
        seed: As in `Passes`.

    Example:
        >>> passes = ArrayPasses(np.arange(5.0), np.arange(5) % 2, batch_size=2, seed=1)
        >>> first = [x.numpy().tolist() for x, y in passes.epoch(3)]
        >>> first == [x.numpy().tolist() for x, y in passes.epoch(3)], sorted(sum(first, []))
        (True, [0.0, 1.0, 2.0, 3.0, 4.0])
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        batch_size: int = 32,
        seed: int | None = None,
    ) -> None:
        given = (x,) if y is None else (x, y) if sample_weight is None else (x, y, sample_weight)
        given = keras.tree.lists_to_tuples(given)
        self._x, *self._targets = (tf.nest.map_structure(_standard, part) for part in given)
        lengths = {len(array) for array in tf.nest.flatten([self._x, self._targets])}
        if len(lengths) != 1:
            raise ValueError(
                "All arrays must hold the same number of examples along their first axis. "
                f"Received: lengths {sorted(lengths)}"
            )
        super().__init__(lengths.pop(), batch_size, seed)

    def inputs(self, rows: tf.Tensor) -> Any:
        return _gather(self._x, rows)

    def targets(self, rows: tf.Tensor) -> tuple[Any, ...]:
        return tuple(_gather(part, rows) for part in self._targets)

    def fingerprint(self) -> str:
        return hash_of_arrays(tf.nest.flatten([self._x, self._targets]))


def hash_of_arrays(arrays: Iterable[np.ndarray | Rows]) -> str:
    """Hash of shapes, types and contents, read in pieces, as hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(repr((tuple(array.shape), str(array.dtype))).encode())
        step = max(1, 2**24 // max(1, math.prod(array.shape[1:])))
        for start in range(0, len(array), step):
            digest.update(np.ascontiguousarray(array[start : start + step]).tobytes())
    return digest.hexdigest()


def _standard(array):
    """An array in the types that Keras gives a model: floats in its default width."""
    array = np.asarray(array)
    is_float = np.issubdtype(array.dtype, np.floating)
    return array.astype(keras.config.floatx(), copy=False) if is_float else array


def _gather(structure, rows):
    arrays = tf.nest.flatten(structure)
    read = tf.numpy_function(
        lambda index: [array[index] for array in arrays], [rows], [a.dtype for a in arrays]
    )
    shaped = [
        tf.ensure_shape(part, (None, *array.shape[1:]))
        for part, array in zip(read, arrays, strict=True)
    ]
    return tf.nest.pack_sequence_as(structure, shaped)
