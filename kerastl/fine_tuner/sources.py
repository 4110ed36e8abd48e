"""What `fit` is given, as passes that can be repeated, where that is possible."""

import numpy as np
import tensorflow as tf

from kerastl import _keras
from kerastl.passes import ArrayPasses


def passes_of(x, y=None, sample_weight=None, *, batch_size=None, shuffle=False):
    """`Passes` over training data as `fit` takes it, or None for data that only Keras can read.

    A dataset made by `kerastl.data.make_dataset` carries its passes; arrays in memory have passes
    by their rows, shuffled by the seed of `keras.utils.set_random_seed`. Of any other dataset or
    generator nobody knows whether its next pass will be the same.
    """
    carried = getattr(x, "repeatable", None)
    if carried is not None:
        return carried
    parts = [x] if y is None else [x, y] if sample_weight is None else [x, y, sample_weight]
    if x is None or not all(_is_array(leaf) for part in parts for leaf in tf.nest.flatten(part)):
        return None
    seed = _keras.random_seed() or 0
    return ArrayPasses(*parts, batch_size=batch_size or 32, seed=seed if shuffle else None)


def validation_passes_of(data, batch_size):
    """`Passes` over validation data as `fit` takes it, or None."""
    if isinstance(data, (tuple, list)):
        return passes_of(*data, batch_size=batch_size) if len(data) > 1 else None
    return passes_of(data, batch_size=batch_size)


def _is_array(leaf):
    is_array = isinstance(leaf, np.ndarray) or (tf.is_tensor(leaf) and hasattr(leaf, "numpy"))
    return is_array and leaf.ndim > 0
