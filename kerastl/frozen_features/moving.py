"""Features at a frontier that has moved up, computed from those at the old one."""

import tensorflow as tf

from kerastl.frozen_features.part import packed


class Mover:
    """Carries the features of one set of data over from an old frontier to a higher one.

    Args:
        old: `CachedPasses` at the old frontier, in full precision.
        above: Layer from `Features` there to `Features` at the new one, as `Frontier.above` gives.
    """

    def __init__(self, old, above):
        self._old = old
        self._run = tf.function(lambda features: above(features, training=False), autograph=False)

    @property
    def held(self):
        """Bytes of old features in memory."""
        return self._old.held

    def batches(self, view):
        """Iterator of lists of arrays, one list a batch, or None if `view` was not there."""
        if view not in self._old.stores:
            return None
        store, passes = self._old.stores[view], self._old.passes
        starts = range(0, passes.num_examples, passes.batch_size)
        return (self._moved(store, slice(start, start + passes.batch_size)) for start in starts)

    def _moved(self, store, rows):
        features = packed(store.rows(rows), self._old.lower.specs)
        return [tensor.numpy() for tensor in tf.nest.flatten(self._run(features))]
