"""A small training with much to restore, and ways to end it from within."""

import keras
import numpy as np

from kerastl import callbacks
from kerastl.data import make_dataset
from kerastl.freezing import freeze_to, unfreeze
from kerastl.training import FineTuner


class Killed(Exception):
    pass


class Kill(keras.callbacks.Callback):
    """Ends a `fit` from within, as far as it can be done in one process."""

    def __init__(self, epoch, batch):
        super().__init__()
        self._at = epoch, batch

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self._epoch, batch) == self._at:
            raise Killed


class Thaw(keras.callbacks.Callback):
    """A thaw that nobody announced, and a rate that is what it was times a half."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            unfreeze(self.model, "conv", batch_norm="train")
            unfreeze(self.model, slice(None), batch_norm="train")
            self.model.set_multipliers({"conv": 0.5})
        self.model.optimizer.learning_rate = 0.5 * float(self.model.optimizer.learning_rate)


class Sum(keras.callbacks.Callback):
    """Keeps its state by itself."""

    total = 0.0

    def on_train_batch_end(self, batch, logs=None):
        self.total += logs["loss"]

    def get_state(self):
        return {"total": self.total}

    def set_state(self, state):
        self.total = state["total"]


def make_tuner(units=4, rate=0.01, scale_loss=True, **compile_args):
    """Of layers without names, which Keras calls otherwise each time."""
    keras.utils.set_random_seed(1)
    x = inputs = keras.Input((6, 6, 3))
    x = keras.layers.Rescaling(1 / 255)(x)
    x = keras.layers.Conv2D(4, 3, name="conv")(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(keras.layers.Dense(units)(keras.layers.Flatten()(x)))
    model = FineTuner(inputs, keras.layers.Dense(3, activation="softmax", name="out")(x))
    freeze_to(model, -1)
    inner = keras.optimizers.AdamW(rate, use_ema=True, ema_momentum=0.5)
    scaled = keras.optimizers.LossScaleOptimizer(inner, dynamic_growth_steps=3)
    loss = keras.losses.SparseCategoricalCrossentropy()
    optimizer = scaled if scale_loss else inner
    model.compile(optimizer, loss, metrics=["accuracy"], norms=True, **compile_args)
    return model


def pictures(augment="light", seed=3, shift=0):
    pixels = np.random.default_rng(0).integers(0, 200, (22, 6, 6, 3)) + shift
    options = {"batch_size": 4, "seed": seed, "augment": augment}
    return make_dataset(pixels.astype("uint8"), np.arange(22) % 3, **options)


def run(folder, *more, model=None, data=None, every="epoch", extra=None, epochs=3, **others):
    model = model or make_tuner()
    resume = callbacks.Resume(folder, every=every, extra=extra)
    others = {"epochs": epochs, "shuffle": False, "verbose": 0, **others}
    history = model.fit(data or pictures(), callbacks=[resume, *more], **others)
    return model, history, resume


def assert_same_end(one, two):
    assert one[1].epoch == two[1].epoch and one[1].history == two[1].history
    for kind in ("variables", "optimizer.variables"):
        a, b = ([v.numpy() for v in eval(f"m.{kind}", {"m": m})] for m in (one[0], two[0]))
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)
