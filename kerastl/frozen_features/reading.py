"""Reads stored features back in the batches of any pass."""

import functools

import numpy as np
import tensorflow as tf

from kerastl.frozen_features.part import packed


class Reading:
    """One reader of features: a dataset made once, which gives the pass that was last asked for.

    Making a dataset takes longer than reading a small one. Which rows make a batch is therefore
    looked up in Python while it is read.

    Args:
        passes: `Passes` over the data.
        specs: `Features` of `tf.TensorSpec`, as the network computes them.
    """

    def __init__(self, passes, specs):
        self._passes, self._specs = passes, specs
        self._order = self._store = None

    def of(self, number, store):
        """Dataset of `(Features, *targets)`: the batches of pass `number`, features from `store`.

        What was asked for before must have been read.
        """
        with tf.device("CPU"):  # where tf.data computes it
            self._order = self._passes.order(number).numpy()
        self._store = store
        return self._dataset

    @functools.cached_property
    def _dataset(self):
        dtypes = [tf.as_dtype(array.dtype) for array in self._store.rows(slice(0, 0))]

        @tf.autograph.experimental.do_not_convert
        def batch(step):
            rows, *flat = tf.numpy_function(self._batch, [step], [tf.int64, *dtypes])
            rows = tf.ensure_shape(rows, (None,))
            return (packed(flat, self._specs), *self._passes.targets(rows))

        steps = tf.data.Dataset.range(self._passes.num_batches)
        return self._passes.counted(steps.map(batch).prefetch(2))

    def _batch(self, step):
        size = self._passes.batch_size
        rows = self._order[np.int64(step) * size :][:size]
        return [rows, *self._store.rows(rows)]
