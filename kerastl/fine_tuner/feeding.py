"""What each epoch of a FineTuner's `fit` is fed."""

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Settings:
    """Arguments of `fit`.

    Attributes:
        callbacks: As in `keras.Model.fit`, and so are `epochs`, `verbose` and `batch_size`.
        others: Dict of the arguments that were given by name besides these.
    """

    callbacks: object
    epochs: int
    verbose: object
    batch_size: int | None
    others: dict

    @property
    def initial_epoch(self):
        return self.others.get("initial_epoch", 0)


class Feed:
    """Chooses the data of an epoch after callbacks have begun it.

    Attributes:
        batches_before: Int, batches of the present epoch that an earlier process has trained on.
    """

    def __init__(self, model, settings):
        self._model, self._settings = model, settings
        self.batches_before = 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._model.resume_at = None

    def for_epoch(self, epoch):
        """Training data and validation data of `epoch`, as `keras.Model.fit` takes them."""
        self.batches_before = self._batches_before(epoch)
        data = self._model.passes.epoch(epoch + self._model.pass_offset)
        if self.batches_before:
            left = self._model.passes.num_batches - self.batches_before
            data = data.skip(self.batches_before)
            data = data.apply(tf.data.experimental.assert_cardinality(left))
        return data, self._settings.others.get("validation_data")

    def _batches_before(self, epoch):
        begin, step = self._model.resume_at or (None, 0)
        return step if epoch == begin else 0
