"""One `fit` as a row of one-epoch fits of Keras, so that an epoch's data is chosen as it begins."""

import keras
import tensorflow as tf

from kerastl import _keras
from kerastl.fine_tuner.feeding import Feed
from kerastl.fine_tuner.one_training import LastOfAll, one_training
from kerastl.fine_tuner.sources import passes_of
from kerastl.freezing import is_frozen
from kerastl.passes import ArrayPasses


def plan_fit(model, x, y, settings):
    """The `Passes` that `fit_by_epochs` is to train on, or None to leave `fit` to Keras.

    Keras alone reads datasets that nobody can repeat, and `steps_per_epoch` or
    `validation_split` of them. Arrays are left to it too, unless a pass must be repeatable or
    frozen layers may be computed once.

    Raises:
        ValueError: If `cache_frozen=True` and the data cannot be repeated.
    """
    passes = None if _only_keras_can(settings) else _repeatable(x, y, settings)
    if passes is None and settings.cache_frozen is True:
        raise ValueError(
            "`cache_frozen=True` needs data that can be read again row by row: arrays, or a "
            "dataset of `kerastl.data.make_dataset`, without `steps_per_epoch`, `validation_split` "
            f"and a CallbackList. Received: x={type(x).__module__}.{type(x).__qualname__}"
        )
    is_used = not isinstance(passes, ArrayPasses) or _must_repeat(model, settings)
    return passes if is_used else None


def _only_keras_can(settings):
    is_list = isinstance(settings.callbacks, keras.callbacks.CallbackList)  # made by the user
    given = settings.others
    return is_list or bool(given.get("steps_per_epoch") or given.get("validation_split"))


def _repeatable(x, y, settings):
    given = settings.others
    return passes_of(
        x,
        y,
        given.get("sample_weight"),
        batch_size=settings.batch_size,
        shuffle=given.get("shuffle", True),
    )


def _must_repeat(model, settings):
    callbacks = keras.tree.flatten(settings.callbacks)
    if any(getattr(callback, "resumes", False) for callback in callbacks):
        return True
    freezes = any(hasattr(callback, "next_change") for callback in callbacks)
    may_gain = settings.epochs - settings.initial_epoch > 1 and (freezes or _has_frozen(model))
    return settings.cache_frozen is True or (settings.cache_frozen == "auto" and may_gain)


def _has_frozen(model):
    return any(layer.weights and is_frozen(layer) for layer in model.layers)


def fit_by_epochs(model, fit, settings):
    """Train `model` on its `passes`, and have its callbacks see one training.

    What callbacks do when an epoch begins (thaw, resume) decides what that epoch is fed: which
    pass, from which batch on, and whether from cached features.

    Args:
        model: `FineTuner`.
        fit: `keras.Model.fit` of `model`, for one epoch.
        settings: `Settings`.

    Returns:
        The `History` callback.
    """
    callbacks = one_training(model, settings, steps=model.passes.num_batches)
    model.stop_training = False
    model.resume_at = model.fed = None
    model.pass_offset = max(0, model.passes_done - settings.initial_epoch)
    model.make_train_function()
    callbacks.begin()
    feed = Feed(model, settings, callbacks)
    with _keras.without_finalizing(model.optimizer):
        for epoch in range(_first_epoch(model, settings), settings.epochs):
            if model.stop_training:
                break
            callbacks.begin_epoch(epoch)
            if model.stop_training:
                break
            data, validation = feed.for_epoch(epoch)
            callbacks.batches_before = feed.batches_before
            model.passes_done = epoch + model.pass_offset + 1
            fit(
                data,
                initial_epoch=epoch,
                epochs=epoch + 1,
                callbacks=callbacks,
                validation_data=validation,
                shuffle=False,
                verbose=settings.verbose,
                **_for_keras(settings),
            )
    model.resume_at = None
    model.history.frozen_features = feed.report
    if settings.epochs > 0:
        model.optimizer.finalize_variable_values(model.trainable_weights)
    callbacks.end()
    return model.history


def for_keras(model, x, settings):
    """The callbacks for a `fit` left to Keras: in order, where one of them saves the training."""
    callbacks = settings.callbacks
    resumes = any(getattr(c, "resumes", False) for c in keras.tree.flatten(callbacks))
    if not resumes or isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    steps = settings.others.get("steps_per_epoch") or _known_batches(x)
    return one_training(model, settings, steps, LastOfAll)


def _known_batches(x):
    number = int(x.cardinality()) if isinstance(x, tf.data.Dataset) else None
    return number if number is None or number >= 0 else None


def _for_keras(settings):
    """The arguments of `fit` that stay as they are when its data come from passes."""
    ours = ("shuffle", "sample_weight", "initial_epoch", "validation_data")
    kept = {name: value for name, value in settings.others.items() if name not in ours}
    return {"validation_batch_size": settings.batch_size, **kept}


def _first_epoch(model, settings):
    """Where to begin: said by a callback that restores a run, by `initial_epoch` otherwise."""
    restored = _keras.take_initial_epoch(model)
    return settings.initial_epoch if restored is None else restored
