"""TensorBoard logs the one shared rate, and callbacks that lower it are seen to do so."""

import keras
import numpy as np
import pytest
from keras import optimizers
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from kerastl.callbacks import GradualUnfreezing
from kerastl.data import make_dataset
from kerastl.optimizers import LRMultiplier
from kerastl.training import FineTuner
from tests.training.test_fine_tuner import data, small

LOSS = "sparse_categorical_crossentropy"
RATES = [0.01, 0.01, 0.002, 0.0005]


def scalars(folder, tag):
    """The values that the event files below `folder` hold under `tag`, by step."""
    events = EventAccumulator(str(folder)).Reload()
    return {e.step: float(make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)}


def logged(model, folder, callback, *inputs):
    board = keras.callbacks.TensorBoard(folder, write_graph=False)
    callbacks = [callback, GradualUnfreezing()] if isinstance(model, FineTuner) else [callback]
    history = model.fit(*inputs, epochs=4, verbose=0, callbacks=[*callbacks, board]).history
    return history, scalars(folder / "train", "epoch_learning_rate")


def scheduler():
    return keras.callbacks.LearningRateScheduler(lambda epoch: RATES[epoch])


def plateau():
    """The loss never improves by 10, so that each epoch after the first divides the rate."""
    return keras.callbacks.ReduceLROnPlateau("loss", factor=0.1, patience=1, min_delta=10.0)


def with_lr_multiplier():
    model = small()
    model.compile(LRMultiplier(optimizers.AdamW(0.01), {".*low.*": 0.1}), LOSS)
    return model


def with_fine_tuner():
    model = FineTuner.from_model(small())
    model.compile(optimizers.AdamW(0.01), LOSS, multipliers={"low": 0.1, "mid": 0.5})
    return model


def with_loss_scale():
    model = FineTuner.from_model(small())
    inner = optimizers.LossScaleOptimizer(optimizers.Adam(0.01))
    model.compile(inner, LOSS, multipliers={"low": 0.1})
    return model


@pytest.mark.parametrize("make", [with_lr_multiplier, with_fine_tuner, with_loss_scale])
def test_the_shared_rate_is_logged_and_follows_a_scheduler(tmp_path, make):
    model = make()
    history, rates = logged(model, tmp_path, scheduler(), *data())
    np.testing.assert_allclose([rates[epoch] for epoch in range(4)], RATES, rtol=1e-6)
    losses = scalars(tmp_path / "train", "epoch_loss")
    np.testing.assert_allclose([losses[i] for i in range(4)], history["loss"], rtol=1e-6)


def test_a_plateau_lowers_it_in_a_fit_that_runs_pass_by_pass(tmp_path):
    inputs = keras.Input((2, 3, 3))
    x = keras.layers.Dense(4, activation="tanh", name="low")(keras.layers.Flatten()(inputs))
    model = FineTuner(inputs, keras.layers.Dense(3, activation="softmax", name="head")(x))
    model.compile(optimizers.SGD(0.1), LOSS, multipliers={"low": 0.1})
    images = np.random.default_rng(0).integers(0, 256, (16, 2, 3, 3)).astype("uint8")
    batches = make_dataset(images, np.arange(16) % 3, batch_size=8, seed=0)
    history, rates = logged(model, tmp_path, plateau(), batches)
    # Keras logs an epoch with the rate that the callbacks before TensorBoard have left.
    np.testing.assert_allclose([rates[i] for i in range(4)], [0.1, 1e-2, 1e-3, 1e-4], rtol=1e-6)
    assert len(history["loss"]) == 4
    assert model.multipliers[model.get_layer("low").kernel.path] == 0.1
