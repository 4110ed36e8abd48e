"""One `fit` as a row of one-epoch fits of Keras, so that an epoch's data is chosen as it begins."""

import keras

from kerastl import _keras
from kerastl.fine_tuner.feeding import Feed
from kerastl.fine_tuner.sources import passes_of
from kerastl.passes import ArrayPasses


def plan_fit(model, x, y, settings):
    """The `Passes` that `fit_by_epochs` is to train on, or None to leave `fit` to Keras.

    Keras alone reads datasets that nobody can repeat, and `steps_per_epoch` or
    `validation_split` of them. Arrays are left to it too, unless a pass must be repeatable.
    """
    others = settings.others
    is_list = isinstance(settings.callbacks, keras.callbacks.CallbackList)  # made by the user
    if is_list or others.get("steps_per_epoch") or others.get("validation_split"):
        return None
    passes = passes_of(
        x,
        y,
        others.get("sample_weight"),
        batch_size=settings.batch_size,
        shuffle=others.get("shuffle", True),
    )
    resumes = any(getattr(c, "resumes", False) for c in keras.tree.flatten(settings.callbacks))
    return None if isinstance(passes, ArrayPasses) and not resumes else passes


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
    callbacks = OneTraining(
        settings.callbacks,
        add_history=True,
        add_progbar=settings.verbose != 0,
        verbose=settings.verbose,
        epochs=settings.epochs,
        steps=model.passes.num_batches,
        model=model,
    )
    model.stop_training = False
    model.resume_at = None
    model.pass_offset = max(0, model.passes_done - settings.initial_epoch)
    model.make_train_function()
    callbacks.begin()
    with _keras.without_finalizing(model.optimizer), Feed(model, settings) as feed:
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
    if settings.epochs > 0:
        model.optimizer.finalize_variable_values(model.trainable_weights)
    callbacks.end()
    return model.history


def _for_keras(settings):
    """The arguments of `fit` that stay as they are when its data come from passes."""
    ours = ("shuffle", "sample_weight", "initial_epoch", "validation_data")
    kept = {name: value for name, value in settings.others.items() if name not in ours}
    return {"validation_batch_size": settings.batch_size, **kept}


def _first_epoch(model, settings):
    """Where to begin: said by a callback that restores a run, by `initial_epoch` otherwise."""
    restored = _keras.take_initial_epoch(model)
    return settings.initial_epoch if restored is None else restored


class OneTraining(keras.callbacks.CallbackList):
    """A list of callbacks that sees one training where Keras runs several.

    `begin`, `begin_epoch` and `end` are what the driver calls; Keras's own calls of
    `on_train_begin`, `on_epoch_begin` and `on_train_end` in each one-epoch fit go nowhere.

    Attributes:
        batches_before: Int, batches of the present epoch that an earlier process has trained on.
    """

    batches_before = 0
    _logs = None

    def begin(self):
        super().on_train_begin()

    def begin_epoch(self, epoch):
        super().on_epoch_begin(epoch)

    def end(self):
        super().on_train_end(self._logs)

    def on_train_begin(self, logs=None):
        pass

    def on_epoch_begin(self, epoch, logs=None):
        """Metrics have been reset by now: a resumed epoch may put theirs back."""
        for callback in self.callbacks:
            if hasattr(callback, "on_metrics_reset"):
                callback.on_metrics_reset(epoch)

    def on_train_batch_begin(self, batch, logs=None):
        super().on_train_batch_begin(batch + self.batches_before, logs)

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch + self.batches_before, logs)

    def on_train_end(self, logs=None):
        self._logs = logs
