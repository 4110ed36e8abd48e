"""GradualUnfreezing's state at an epoch depends on that epoch alone, also in a fresh model."""

import functools

import keras
import numpy as np
import pytest

from kerastl.callbacks import GradualUnfreezing
from kerastl.training import FineTuner
from tests.tolerances import EXACT

X = np.random.default_rng(0).normal(3, 2, (32, 4)).astype("float32")
Y = np.ones((32, 1), "float32")
SCHEDULES = {"one by one": None, "two at once": {0: "head", 1: 3}, "two from the start": {0: 2}}


def make():
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((4,))
    for name in ("block1", "block2"):
        x = keras.layers.Dense(3, activation="tanh", name=f"{name}_dense")(x)
        x = keras.layers.BatchNormalization(name=f"{name}_norm")(x)
    model = FineTuner(inputs, keras.layers.Dense(1, name="head")(x))
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


def run(model, schedule, batch_norm, callbacks=(), **options):
    thaw = GradualUnfreezing(schedule, batch_norm=batch_norm)
    fit = {"batch_size": 8, "shuffle": False, "verbose": 0, "callbacks": [thaw, *callbacks]}
    model.fit(X, Y, **fit, **options)


def stop_and_save(folder, schedule, batch_norm):
    model = make()
    run(model, schedule, batch_norm, epochs=2)
    model.save(folder / "model.keras")
    loaded = keras.models.load_model(folder / "model.keras")
    run(loaded, schedule, batch_norm, initial_epoch=2, epochs=4)
    return loaded


def stop_and_keep_weights(folder, schedule, batch_norm):
    model, fresh = make(), make()
    run(model, schedule, batch_norm, epochs=2)
    model.save_weights(folder / "model.weights.h5")
    GradualUnfreezing(schedule).set_model(fresh)  # gives slots, so that the file's have a place
    fresh.make_train_function()
    fresh.load_weights(folder / "model.weights.h5")
    run(fresh, schedule, batch_norm, initial_epoch=2, epochs=4)
    return fresh


class Interrupt(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


def back_up_and_restore(folder, schedule, batch_norm):
    def backup():
        return keras.callbacks.BackupAndRestore(folder / "backup")

    with pytest.raises(KeyboardInterrupt):
        run(make(), schedule, batch_norm, [backup(), Interrupt()], epochs=4)
    fresh = make()
    run(fresh, schedule, batch_norm, [backup()], epochs=4)
    return fresh


WAYS = [stop_and_save, stop_and_keep_weights, back_up_and_restore]
CASES = [
    ("one by one", "inference"),
    ("one by one", "train"),
    ("two at once", "train"),
    ("two from the start", "frozen"),
]
# Each way with one case and each case in one way; the slow tier has all pairs.
DEFAULT = {(WAYS[0], 2), (WAYS[0], 3), (WAYS[1], 1), (WAYS[2], 0)}
PAIRS = [
    pytest.param(way, *case, marks=[] if (way, i) in DEFAULT else pytest.mark.slow)
    for way in WAYS
    for i, case in enumerate(CASES)
]


@functools.cache
def not_stopped(schedule, batch_norm):
    """Its weights."""
    whole = make()
    run(whole, SCHEDULES[schedule], batch_norm, epochs=4)
    return [variable.numpy() for variable in whole.variables]


@pytest.mark.slow_but("stop_and_save-two at once-train")
@pytest.mark.parametrize(("way", "schedule", "batch_norm"), PAIRS)
def test_a_fresh_model_equals_the_run_that_was_not_stopped(way, schedule, batch_norm, tmp_path):
    fresh = way(tmp_path, SCHEDULES[schedule], batch_norm)
    for one, other in zip(not_stopped(schedule, batch_norm), fresh.variables, strict=True):
        np.testing.assert_allclose(one, other, **EXACT)


@pytest.mark.parametrize(
    ("schedule", "batch_norm"),
    [({0: 2}, "inference"), ({0: 3}, "frozen"), ({0: 2}, "train"), ({0: 2}, "frozen")],
)
def test_groups_that_train_from_the_start_obey_batch_norm(schedule, batch_norm):
    model = make()
    norm = model.get_layer("block2_norm")
    before = norm.moving_mean.numpy(), norm.beta.numpy()
    run(model, schedule, batch_norm)
    assert np.array_equal(before[0], norm.moving_mean) == (batch_norm != "train")
    assert np.array_equal(before[1], norm.beta) == (batch_norm == "frozen")
