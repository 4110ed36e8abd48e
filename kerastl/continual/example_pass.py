"""Sums over examples of what the gradient of each one alone gives, in chunks that fit in memory."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl._base.types import OnProgress

MEMORY = 2**29  # bytes for the gradients of a chunk
MOST = 256  # examples of a chunk, whose activations are held too
# In float16 what flows backwards is small, as under a loss scale; a power of two changes no bit.
HALF_SCALE = 1024.0


class ExamplePass:
    """The examples of some data, run through a model in inference mode, each with its gradient.

    The square of a gradient of a batch is not the sum of the squares of its examples' (at 32 of
    them it is a few percent of it), so the gradient is taken of each example, vectorised over as
    many as fit into `memory`.

    Args:
        model: Built `keras.Model`.
        variables: The `keras.Variable`s of it to take gradients by, frozen or not.
        scalar: Called as `scalar(outputs, *row)` for one example without its batch axis.
        power: 1 or 2, that of the absolute gradient that is summed.
        memory: Int > 0, bytes for the gradients of one chunk; activations come on top.
    """

    def __init__(
        self,
        model: keras.Model,
        variables: Sequence[keras.Variable],
        *,
        scalar: Callable[..., Any],
        power: int,
        memory: int = MEMORY,
    ) -> None:
        self._model, self._variables = model, list(variables)
        self._scalar, self._power = scalar, power
        size = sum(np.prod(v.shape) * np.dtype(v.dtype).itemsize for v in self._variables)
        # A gradient, and what is made of it before it is summed.
        self.chunk = int(min(MOST, max(1, memory // max(1, 2 * size))))
        policies = {getattr(layer, "compute_dtype", None) for layer in model.layers}
        self._scale = HALF_SCALE if "float16" in policies else 1.0
        # The shapes of a last chunk differ, and are traced once for all.
        traced = {"autograph": False, "reduce_retracing": True}
        self.outputs = tf.function(lambda x: model(x, training=False), **traced)
        self._sums = tf.function(self._sums_of, **traced)

    def sums(self, x: Any, rows: tuple[Any, ...] = (), factors: Any = None) -> list[np.ndarray]:
        """`sum_n factor_n * |d scalar_n / dw|^power` over the examples of a chunk.

        Args:
            x: Structure of arrays, at most `chunk` examples along the first axis.
            rows: Arrays with what `scalar` needs of each example.
            factors: Array of a number for each example, or None for 1.

        Returns:
            List of float64 arrays, one of the shape of each variable.
        """
        factors = np.ones(len(tf.nest.flatten(x)[0])) if factors is None else factors
        values = [tf.convert_to_tensor(variable) for variable in self._variables]
        told = self._sums(x, rows, tf.convert_to_tensor(factors), values)
        found = [one.numpy().astype("float64") for one in told]
        if not all(np.isfinite(one).all() for one in found):
            raise ValueError(
                "Gradients by example must be finite. Received: some that are not. Look for "
                "examples or weights that are not finite, or run the pass in float32."
            )
        return found

    def _sums_of(self, x, rows, factors, values):
        def of_one(example):
            one, row = example
            one = tf.nest.map_structure(lambda part: part[None], one)
            with tf.GradientTape() as tape:
                tape.watch(values)
                pairs = list(zip(self._variables, values, strict=True))
                with keras.StatelessScope(state_mapping=pairs):
                    outputs = self._model(one, training=False)
                outputs = tf.nest.map_structure(lambda part: part[0], outputs)
                scaled = self._scale * self._scalar(outputs, *row)
            gradients = tape.gradient(
                scaled, values, unconnected_gradients=tf.UnconnectedGradients.ZERO
            )
            return [tf.abs(tf.convert_to_tensor(g)) / self._scale for g in gradients]

        with _not_told_of_loops():
            each = tf.vectorized_map(of_one, (x, rows))
        powers = each if self._power == 1 else [g**2 for g in each]
        return [tf.tensordot(tf.cast(factors, g.dtype), g, axes=1) for g in powers]


@contextlib.contextmanager
def _not_told_of_loops():
    """TensorFlow 2.21 warns of each convolution that it takes the filters' gradients of in a loop.

    The loop is in the graph, and takes the time that so many gradients take.
    """
    logger = tf.get_logger()

    def others(record):
        return "uses a while_loop" not in record.getMessage()

    logger.addFilter(others)
    try:
        yield
    finally:
        logger.removeFilter(others)


def chunks(
    x: Any, y: Any, size: int, progress: OnProgress | None = None
) -> Iterator[tuple[Any, Any]]:
    """Pairs `(x, y)` of at most `size` examples, in their order; `y` is None where there is none.

    Args:
        x: Structure of arrays with examples along the first axis; or an iterable of batches, each
            `x` or `(x, y)`. A dataset of kerastl is read in the order of its rows, not augmented.
        y: Array of labels beside arrays in `x`, or None.
        size: Int > 0.
        progress: Called as `progress(done, total)` with numbers of examples, once `total` is
            known: the batches of a dataset all count as large as the first.
    """
    batches, total = _batches(x, y)
    done = 0
    for x_batch, y_batch in batches:
        x_batch = tf.nest.map_structure(np.asarray, x_batch)
        length = len(tf.nest.flatten(x_batch)[0])
        total = length * -total if total is not None and total < 0 else total
        for start in range(0, length, size):
            part = slice(start, start + size)
            yield (
                tf.nest.map_structure(lambda array, part=part: array[part], x_batch),
                None if y_batch is None else np.asarray(y_batch)[part],
            )
            done += min(size, length - start)
            if progress is not None and total is not None:
                progress(min(done, total), total)
    if not done:
        raise ValueError("There must be at least one example. Received: none")
    if progress is not None and total is not None and done < total:
        progress(total, total)


def _batches(x, y):
    """Iterable of `(x, y)`, and how many examples it has; of unknown size, minus its batches."""
    if isinstance(x, tuple):
        raise ValueError(
            "`x` must be an array, a dict of them, or an iterable of batches. Received: a tuple. "
            "Give inputs and labels as two arguments, and several inputs by name."
        )
    passes = getattr(x, "repeatable", None)
    if passes is not None:
        _refuse_labels(y, "a dataset")
        return _in_order(passes), passes.num_examples
    if isinstance(x, tf.data.Dataset) or (hasattr(x, "__iter__") and not _is_arrays(x)):
        _refuse_labels(y, "batches")
        count = len(x) if hasattr(x, "__len__") and not _is_endless(x) else None
        return map(_unpacked, x), None if count is None else -count
    arrays = tf.nest.map_structure(np.asarray, keras.tree.lists_to_tuples(x))
    lengths = {len(array) for array in [*tf.nest.flatten(arrays), *([] if y is None else [y])]}
    if len(lengths) != 1:
        raise ValueError(
            "All arrays must hold the same number of examples along their first axis. "
            f"Received: lengths {sorted(lengths)}"
        )
    return [(arrays, y)], lengths.pop()


def _is_endless(x):
    if not isinstance(x, tf.data.Dataset):
        return False
    count = int(x.cardinality())
    if count == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "A pass over examples needs a dataset that ends. Received: one that repeats without "
            "end. Use `dataset.take(...)`."
        )
    return count == tf.data.UNKNOWN_CARDINALITY


def _is_arrays(x):
    """Whether `x` is an array, or arrays by name: a list or generator is one of batches."""
    return isinstance(x, dict) or hasattr(x, "shape")


def _in_order(passes):
    targets_of = tf.function(passes.targets, autograph=False)  # which are made inside tf.data
    for number, x in zip(itertools.count(), passes.in_order()):
        start = number * passes.batch_size
        length = len(tf.nest.flatten(x)[0])
        targets = targets_of(tf.range(start, start + length, dtype=tf.int64))
        yield x, targets[0] if targets else None


def _unpacked(batch):
    x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
    if weight is not None:
        raise ValueError(
            "Every example counts alike in an importance. Received: batches with sample weights. "
            "Leave them out: `dataset.map(lambda x, y, weight: (x, y))`."
        )
    return x, y


def _refuse_labels(y, what):
    if y is not None:
        raise ValueError(
            f"Labels come with {what}, as `(x, y)`. Received: `y` beside it. Leave it out."
        )
