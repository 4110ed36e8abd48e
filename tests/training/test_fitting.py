"""`FineTuner.fit` pass by pass is Keras's `fit`, and its passes can be repeated."""

import keras
import numpy as np
import pytest

from kerastl import callbacks
from kerastl.data import make_dataset
from kerastl.data.passes import ArrayPasses
from kerastl.freezing import freeze_to
from kerastl.training import FineTuner


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 255, (22, 6, 6, 3)).astype("uint8")


LABELS = np.arange(22) % 3


def make_tuner(**compile_args):
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((6, 6, 3))
    x = keras.layers.Rescaling(1 / 255)(x)
    x = keras.layers.Conv2D(4, 3, name="body")(x)
    x = keras.layers.BatchNormalization(name="body_bn")(x)
    x = keras.layers.Dropout(0.3, name="drop")(keras.layers.Flatten()(x))
    model = FineTuner(inputs, keras.layers.Dense(3, activation="softmax", name="head")(x))
    loss = keras.losses.SparseCategoricalCrossentropy()
    adam = keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.5)
    model.compile(adam, loss, metrics=["accuracy"], **compile_args)
    return model


class Events(keras.callbacks.Callback):
    """Writes down what it is told."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __getattribute__(self, name):
        if name.startswith("on_") and not name.endswith(("_batch_begin", "_batch_end")):
            seen = super().__getattribute__("seen")
            told = "epoch" in name
            return lambda *args, **kwargs: seen.append((name, str(args[:1]) if told else ""))
        return super().__getattribute__(name)

    def on_train_batch_begin(self, batch, logs=None):
        self.seen.append(("batch", batch))


def plain_fit(model, *args, **kwargs):
    return keras.Model.fit(model, *args, **kwargs)


@pytest.mark.parametrize("options", [{}, {"steps_per_execution": 2}])
def test_equals_the_fit_of_keras(pixels, options):
    """Same weights, history and calls, moving averages included, on data in a fixed order."""
    runs = []
    for fit in (plain_fit, FineTuner.fit):
        model, events = make_tuner(**options), Events()
        history = fit(
            model,
            make_dataset(pixels, LABELS, batch_size=5),
            epochs=3,
            validation_data=make_dataset(pixels[:7], LABELS[:7], batch_size=5),
            class_weight={0: 1.0, 1: 2.0, 2: 0.5},
            callbacks=[events],
            shuffle=False,
            verbose=0,
        )
        runs.append((model, history, events.seen))
    (plain, plain_history, plain_events), (ours, our_history, our_events) = runs
    assert our_history.history == plain_history.history and our_history.epoch == [0, 1, 2]
    ours_only = [event for event in our_events if event[0] != "on_metrics_reset"]
    assert ours_only == plain_events
    for a, b in zip(ours.variables, plain.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(ours.optimizer.variables, plain.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_epoch_is_the_pass_of_its_number(pixels):
    """Also when training stops and goes on in another fit, as the uninterrupted one."""
    options = {"batch_size": 5, "seed": 3, "augment": "light"}
    whole, halves = make_tuner(), make_tuner()
    whole.fit(make_dataset(pixels, LABELS, **options), epochs=4, verbose=0)
    dataset = make_dataset(pixels, LABELS, **options)
    halves.fit(dataset, epochs=2, verbose=0)
    halves.fit(dataset, epochs=4, initial_epoch=2, verbose=0)
    again = make_tuner()
    for _ in range(4):
        again.fit(dataset, epochs=1, verbose=0)  # begins at 0 each time, with new passes
    # Averages are put into the weights at the end of each fit, so the weights differ then.
    assert [m.fit_state.passes_done for m in (whole, halves, again)] == [4, 4, 4]
    assert halves.fit_state.pass_offset == 0 and again.fit_state.pass_offset == 3


def test_arrays_are_left_to_keras_unless_a_pass_must_be_repeatable(pixels):
    model = make_tuner()
    model.fit(pixels, LABELS, verbose=0)
    assert model.fit_state.passes is None

    class Resumes(keras.callbacks.Callback):
        resumes = True

    model.fit(pixels, LABELS, verbose=0, callbacks=[Resumes()])
    assert isinstance(model.fit_state.passes, ArrayPasses)


def test_going_on_in_the_midst_of_an_epoch(pixels):
    """`resume_at` skips the batches that are done and numbers the others as they are."""
    seen = []

    class GoesOn(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.model._initial_epoch = 1
            self.model.fit_state.resume_at = (1, 3)

        def on_train_batch_begin(self, batch, logs=None):
            seen.append(batch)

    make_tuner().fit(
        make_dataset(pixels, LABELS, batch_size=5, seed=1),
        epochs=3,
        verbose=0,
        callbacks=[GoesOn()],
    )
    assert seen == [3, 4, 0, 1, 2, 3, 4]


def test_stopping_and_thawing_in_one_training(pixels):
    model = make_tuner()
    freeze_to(model, -1)

    class Stops(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 2

    gradual = callbacks.GradualUnfreezing({0: "head", 1: 2})
    history = model.fit(
        make_dataset(pixels, LABELS, batch_size=5, seed=1),
        epochs=9,
        verbose=0,
        callbacks=[gradual, callbacks.Audit(), Stops()],
    )
    assert history.epoch == [0, 1, 2]


def test_array_passes_by_hand():
    x = {"a": np.arange(10.0), "b": np.arange(20).reshape(10, 2)}
    passes = ArrayPasses(x, np.arange(10), np.ones(10), batch_size=4, seed=5)
    assert passes.num_batches == 3 and passes.epoch(0).cardinality() == 3
    order = np.concatenate([y for _, y, _ in passes.epoch(2)])
    np.testing.assert_array_equal(np.concatenate([x["a"] for x, _, _ in passes.epoch(2)]), order)
    np.testing.assert_array_equal(passes.order(2), order)
    assert sorted(order) == list(range(10)) and list(order) != list(range(10))
    assert list(order) != list(np.concatenate([y for _, y, _ in passes.epoch(3)]))
    np.testing.assert_array_equal(np.concatenate([x["b"] for x in passes.in_order()]), x["b"])
    assert passes.fingerprint() != ArrayPasses(x, np.arange(10)).fingerprint()
    with pytest.raises(ValueError, match=r"lengths \[9, 10\]"):
        ArrayPasses(x, np.arange(9))
