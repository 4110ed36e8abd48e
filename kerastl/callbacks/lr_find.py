"""`lr_find`: one call of the LR finder, with as many passes over the data as it takes."""

import math

import keras
import tensorflow as tf

from kerastl.callbacks.lr_finder import LRFinder
from kerastl.passes import untuned

CHOSEN_HERE = ("epochs", "initial_epoch", "validation_data", "validation_split")


def lr_find(model, x, y=None, *, start=1e-7, end=10.0, num_steps=100, **fit_args):
    """Find a learning rate by the range test; the model and its data stay as they were.

    Args:
        model: Compiled `FineTuner` or other `keras.Model` whose learning rate is a number.
        x: Data as `fit` takes them: arrays, a `keras.utils.PyDataset` or a `tf.data.Dataset`, such
            as `kerastl.data.make_dataset` gives. A dataset is read anew; one that shuffles itself
            by `tf.data` may then have another order than it would have had.
        y: Targets, if `x` does not hold them.
        start: Float > 0, the first rate.
        end: Float > `start`, the rate that the ramp leads to.
        num_steps: Int >= 10, steps of the ramp.
        **fit_args: Further arguments of `fit`, such as `batch_size` or `class_weight`.

    Returns:
        `LRFinderResult`; its `suggestion` is a rate or None.

    Raises:
        ValueError: If the model's rate is a schedule, it takes several steps at once, or the data
            cannot be read again.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(64, 4))
        >>> keras.utils.set_random_seed(0)
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> result = lr_find(model, x, x @ rng.normal(size=(4, 1)) + 3.0)
        >>> 1e-4 < result.suggestion < 1.0
        True
    """
    if wrong := [name for name in CHOSEN_HERE if name in fit_args]:
        raise ValueError(
            "`lr_find` looks at training data alone, as often as it needs to: leave out "
            f"{', '.join(wrong)}. Received: {wrong[0]}={fit_args[wrong[0]]!r}"
        )
    finder = LRFinder(start, end, num_steps)
    feed = _feed(model, x, y, num_steps, fit_args)
    callbacks = [*keras.tree.flatten(fit_args.pop("callbacks", None) or []), finder]
    try:
        model.fit(**{"verbose": 0, **fit_args, **feed}, callbacks=callbacks)
    finally:
        finder.restore()
    return finder.result


def _feed(model, x, y, num_steps, fit_args):
    """The arguments of `fit` that say what is read, and how often."""
    if isinstance(x, tf.data.Dataset):  # which shuffles itself; Keras warns of the default True
        return {"shuffle": False, **_feed_of_dataset(model, x, num_steps, fit_args)}
    steps = fit_args.get("steps_per_epoch") or _steps_of_a_pass(x, fit_args.get("batch_size"))
    if steps is None:
        return {"x": x, "y": y, "steps_per_epoch": num_steps, "epochs": 1}
    return {"x": x, "y": y, "epochs": math.ceil(num_steps / steps)}


def _feed_of_dataset(model, x, num_steps, fit_args):
    passes = getattr(x, "repeatable", None)
    if passes is not None and not hasattr(model, "passes_done"):
        # Keras would read the dataset itself, which gives another pass each time.
        return {"x": _from_the_first_pass(passes, num_steps), "epochs": 1}
    steps = fit_args.get("steps_per_epoch") or (
        int(x.cardinality()) if passes is None else passes.num_batches
    )
    if steps < 1:  # it does not say how many, or has no end
        return {"x": x.repeat(), "steps_per_epoch": num_steps, "epochs": 1}
    return {"x": x, "epochs": math.ceil(num_steps / steps)}


def _from_the_first_pass(passes, num_steps):
    count = math.ceil(num_steps / passes.num_batches)
    batches = tf.data.Dataset.range(count).flat_map(passes.elements).take(num_steps)
    return untuned(batches.apply(tf.data.experimental.assert_cardinality(num_steps)))


def _steps_of_a_pass(x, batch_size):
    """Batches in one pass over `x`, or None if it does not say."""
    if isinstance(x, keras.utils.PyDataset):
        return x.num_batches
    leaves = keras.tree.flatten(x)
    if not leaves or not all(hasattr(leaf, "shape") for leaf in leaves):
        raise ValueError(
            "`x` must be arrays, a tf.data.Dataset or a keras.utils.PyDataset, so that what was "
            f"read can be read again. Received: x={x!r}"
        )
    return math.ceil(leaves[0].shape[0] / (batch_size or 32))
