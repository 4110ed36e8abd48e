"""What terms say of each example, riding with the inputs of its batch."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from kerastl.data.passes import Passes
from kerastl.training.frozen import Features


class RowInputs(NamedTuple):
    """A batch of inputs, with what terms of the loss said of its examples.

    Attributes:
        inputs: The inputs of the model.
        row_values: Dict from the name of a term to its values by row.
    """

    inputs: Any
    row_values: dict[str, Any]


def without_rows(x: Any) -> tuple[Any, Any]:
    """What the model takes of `x`, and the values by row that ride with it, or `()` for none."""
    if isinstance(x, RowInputs):
        return x.inputs, x.row_values
    return x, x.row_values if isinstance(x, Features) else ()


class RowReading:
    """Reads `(RowInputs, *targets)` of passes: one dataset, which gives the pass asked for last.

    Making a dataset takes longer than reading a small one.

    Args:
        passes: `Passes`.
        row_values: Dict of structures of arrays with a row for each example of `passes`.
    """

    def __init__(self, passes: Passes, row_values: Mapping[str, Any]) -> None:
        self._passes, self._row_values = passes, row_values
        self._number = 0

    def of(self, number: int) -> tf.data.Dataset:
        """Dataset of the batches of pass `number`; what was asked for before must be read."""
        self._number = number
        return self._dataset

    @functools.cached_property
    def _dataset(self):
        passes = self._passes

        def number(zero):
            drawn = tf.numpy_function(lambda: np.int64(self._number), [], tf.int64)
            return tf.ensure_shape(drawn, ())

        @tf.autograph.experimental.do_not_convert
        def read(number):
            order = tf.data.Dataset.from_tensor_slices(passes.order(number))
            told = order.batch(passes.batch_size).map(self._told)
            return tf.data.Dataset.zip((told, passes.elements(number))).map(_joined)

        drawn = tf.data.Dataset.range(1).map(number).flat_map(read)
        return passes.counted(drawn.prefetch(2))

    @tf.autograph.experimental.do_not_convert
    def _told(self, rows):
        arrays = tf.nest.flatten(self._row_values)
        dtypes = [tf.as_dtype(array.dtype) for array in arrays]
        told = tf.numpy_function(lambda i: [array[i] for array in arrays], [rows], dtypes)
        shaped = [
            tf.ensure_shape(part, (None, *array.shape[1:]))
            for part, array in zip(told, arrays, strict=True)
        ]
        return tf.nest.pack_sequence_as(self._row_values, shaped)


@tf.autograph.experimental.do_not_convert
def _joined(told, element):
    x, *targets = element
    return (RowInputs(x, told), *targets)
