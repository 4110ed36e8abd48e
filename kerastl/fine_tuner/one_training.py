"""The callbacks of one training that Keras runs as several."""

import keras


def one_training(model, settings, steps, kind=None):
    """An `OneTraining`, or a list of another `kind`, of the callbacks in `settings`."""
    return (kind or OneTraining)(
        settings.callbacks,
        add_history=True,
        add_progbar=settings.verbose != 0,
        verbose=settings.verbose,
        epochs=settings.epochs,
        steps=steps,
        model=model,
    )


class LastOfAll(keras.callbacks.CallbackList):
    """Keras's list, with a callback that saves the training after all others.

    So it sees what they have done.
    """

    def __init__(self, callbacks, **params):
        super().__init__(callbacks, **params)
        self.callbacks.sort(key=lambda callback: getattr(callback, "resumes", False))
        for callback in self.with_method("set_callbacks"):
            callback.set_callbacks(self.callbacks)

    def with_method(self, name):
        """The callbacks that have a method `name`."""
        return [callback for callback in self.callbacks if hasattr(callback, name)]


class OneTraining(LastOfAll):
    """A list of callbacks that sees one training where Keras runs several.

    `begin`, `begin_epoch` and `end` are what the driver calls; Keras's own calls of
    `on_train_begin`, `on_epoch_begin` and `on_train_end` in each one-epoch fit go nowhere.

    Attributes:
        batches_before: Int, batches of the present epoch that an earlier process has trained on.
    """

    batches_before = 0
    _logs = _bar = None

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
        for callback in self.with_method("on_metrics_reset"):
            callback.on_metrics_reset(epoch)

    def on_train_batch_begin(self, batch, logs=None):
        super().on_train_batch_begin(batch + self.batches_before, logs)

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch + self.batches_before, logs)

    def on_train_end(self, logs=None):
        self._logs = logs

    def on_frozen_features(self, done, total):
        """Features of `done` of `total` examples are computed: a bar where epochs have one."""
        for callback in self.with_method("on_frozen_features"):
            callback.on_frozen_features(done, total)
        if self._progbar is None or self.params.get("verbose") == 2:
            return
        if self._bar is None:
            print("Computing the frozen layers' features once")
            self._bar = keras.utils.Progbar(total, unit_name="example")
        self._bar.update(done, finalize=done == total)
        if done == total:
            self._bar = None
