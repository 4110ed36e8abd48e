"""Statistics of batch normalizations, measured anew on the data at hand."""

import contextlib
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl import _keras
from kerastl.graph import inputs, leaf_layers


def adapt_batch_norm(model: keras.Model, data: Iterable[Any]) -> int:
    """Give the batch normalizations of a pretrained network the statistics of other data.

    A network that was trained on other pictures normalizes by their means and variances. One pass
    over the new data, without labels and without a training step, puts in their place those of
    the data at hand: `mean = Σ n_i mean_i / n`, `variance = Σ n_i (variance_i + mean_i²) / n -
    mean²` over batches of `n_i` examples. Every layer sees what comes out of layers that normalize
    by the batch, so batches should be as large as in training. All else runs in inference mode,
    and no other weight changes. `trainable` flags do not matter and stay.

    Args:
        model: Built `keras.Model`.
        data: Iterable of batches of inputs, such as a `tf.data.Dataset`, read once; for several
            inputs each is a dict by name or a list in order. An array, or a dict of them, is one
            batch.

    Returns:
        Int, how many batch normalizations got new statistics: 0 where `model` has none, which
        leaves `data` unread.

    Raises:
        ValueError: If `data` is empty, or a statistic is not finite.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.BatchNormalization()])
        >>> adapt_batch_norm(model, [np.float32([[1.0], [3.0]]), np.float32([[5.0], [7.0]])])
        1
        >>> norm = model.layers[0]
        >>> norm.moving_mean.numpy(), norm.moving_variance.numpy()
        (array([4.], dtype=float32), array([5.], dtype=float32))

    References:
        Li et al., 2016, section 3.2 (AdaBN), https://arxiv.org/abs/1603.04779
    """
    leaves = leaf_layers(model)
    norms = [leaf for leaf in leaves if isinstance(leaf, keras.layers.BatchNormalization)]
    if not norms:
        return 0
    others = [leaf for leaf in leaves if not isinstance(leaf, keras.layers.BatchNormalization)]
    held = [variable for norm in norms for variable in (norm.moving_mean, norm.moving_variance)]
    before = [variable.numpy() for variable in held]
    if getattr(model, "runs_own_graph", False):  # its `call` may have layers infer
        model = keras.Model(model.input, model.output)
    with _showing_batches(norms), _keras.inference_mode(others):
        run = tf.function(lambda batch: model(batch, training=True), autograph=False)
        try:
            found = _over_batches(norms, run, _fed(model, data))
        except BaseException:
            for variable, value in zip(held, before, strict=True):
                variable.assign(value)
            raise
    for norm, (mean, variance) in zip(norms, found, strict=True):
        norm.moving_mean.assign(mean)
        norm.moving_variance.assign(variance)
    return len(norms)


def _fed(model, data):
    """Batches in the structure of the model's inputs; as they come where it declares none."""
    if not getattr(model, "inputs", None):
        return data
    several = iter(data) if isinstance(data, list) else data
    structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    return (
        keras.tree.pack_sequence_as(structure, arrays)
        for arrays, _ in inputs.batches(model, several)
    )


def _over_batches(norms, run, data):
    """Pairs of mean and variance, one a batch normalization."""
    count, sums = 0, [[0.0, 0.0] for _ in norms]
    for batch in data:
        run(batch)
        size = len(tf.nest.flatten(batch)[0])
        count += size
        for norm, total in zip(norms, sums, strict=True):
            mean = norm.moving_mean.numpy().astype("float64")
            total[0] += size * mean
            total[1] += size * (norm.moving_variance.numpy().astype("float64") + mean**2)
    if not count:
        raise ValueError("`data` must hold at least one batch of inputs. Received: none")
    found = [(mean / count, square / count - (mean / count) ** 2) for mean, square in sums]
    for norm, pair in zip(norms, found, strict=True):
        if not all(np.isfinite(part).all() for part in pair):
            raise ValueError(
                f"`data` must give finite numbers. Received: what {norm.name!r} gets has a mean "
                "or variance that is not."
            )
    return found


@contextlib.contextmanager
def _showing_batches(norms):
    """Within this, the statistics of `norms` after a call are those of its batch alone."""
    flags = [(norm.trainable, norm.momentum) for norm in norms]
    try:
        for norm in norms:
            _keras.set_own_trainable(norm, True)
            norm.momentum = 0.0
        yield
    finally:
        for norm, (trainable, momentum) in zip(norms, flags, strict=True):
            _keras.set_own_trainable(norm, trainable)
            norm.momentum = momentum
