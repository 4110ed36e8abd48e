"""`FineTuner.fit` on features of the frozen layers: same losses, and it says what it did."""

import keras
import numpy as np
import pytest

from kerastl import callbacks
from kerastl.data import make_dataset
from kerastl.freezing import freeze_to
from kerastl.training import FineTuner
from tests import tolerances


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 255, (22, 8, 8, 3)).astype("uint8")


LABELS = np.arange(22) % 3


def make_tuner(train=-1):
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 255)(x)
    x = keras.layers.Conv2D(4, 3, padding="same", name="body")(x)
    x = skip = keras.layers.BatchNormalization(name="body_bn")(x)
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="top")(x)
    x = keras.layers.Flatten()(keras.layers.Add()([x, skip]))
    x = keras.layers.Dropout(0.3, name="drop")(x)
    model = FineTuner(inputs, keras.layers.Dense(3, activation="softmax", name="head")(x))
    freeze_to(model, train)
    loss = keras.losses.SparseCategoricalCrossentropy()
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    return model


def train(pixels, cache_frozen, *, freeze=-1, epochs=4, **options):
    model = make_tuner(freeze)
    data = make_dataset(pixels, LABELS, batch_size=5, seed=3, augment=options.pop("augment", None))
    history = model.fit(
        data,
        epochs=epochs,
        validation_data=make_dataset(pixels[:9], LABELS[:9], batch_size=5),
        verbose=0,
        cache_frozen=cache_frozen,
        **options,
    )
    return model, history


def assert_same(one, other, **tolerance):
    for name, values in other.history.items():
        np.testing.assert_allclose(one.history[name], values, err_msg=name, **tolerance)


@pytest.mark.parametrize("freeze", [-1, -2])
def test_same_losses_in_the_same_batches(pixels, freeze):
    plain, plain_history = train(pixels, False, freeze=freeze)
    cached, history = train(pixels, True, freeze=freeze)
    assert_same(history, plain_history, **tolerances.REDUCTION)
    for a, b in zip(cached.variables, plain.variables, strict=True):
        np.testing.assert_allclose(a, b, **tolerances.REDUCTION)
    assert [said["cached"] for said in history.frozen_features] == [True] * 4
    assert [said["cached"] for said in plain_history.frozen_features] == [False] * 4


def test_the_training_data_may_be_the_validation_data_too(pixels):
    histories = []
    for cache_frozen in (False, True):
        model = make_tuner()
        data = make_dataset(pixels, LABELS, batch_size=5, seed=3)
        fitted = model.fit(
            data, epochs=3, validation_data=data, verbose=0, cache_frozen=cache_frozen
        )
        histories.append(fitted.history["loss"])
    np.testing.assert_allclose(*histories, **tolerances.REDUCTION)


def test_the_frontier_moves_with_the_thaws(pixels):
    """And the last epoch, in which everything trains, has none."""
    runs = []
    for choice in (False, "auto"):
        thaws = [callbacks.GradualUnfreezing({0: 1, 3: 2, 6: 3}), callbacks.Audit()]
        runs.append(train(pixels, choice, epochs=8, callbacks=thaws)[1])
    plain_history, history = runs
    assert_same(history, plain_history, **tolerances.REDUCTION)
    said = [one["cached"] for one in history.frozen_features]
    assert said[0] and said[3] and not said[7]
    assert "no frozen layer with weights" in history.frozen_features[7]["reason"]


def test_the_model_is_itself_after_and_within_fit(pixels):
    """`evaluate` and `predict` on pictures, also by a callback in the midst of `fit`."""
    seen = []

    class Looks(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(self.model.predict(pixels[:9].astype("float32"), verbose=0))

    model, history = train(pixels, True, callbacks=[Looks()])
    now = model.predict(pixels[:9].astype("float32"), verbose=0)
    np.testing.assert_allclose(now, seen[-1], **tolerances.ELEMENTWISE)
    raw = model.evaluate(make_dataset(pixels[:9], LABELS[:9], batch_size=5), verbose=0)
    np.testing.assert_allclose(raw[0], history.history["val_loss"][-1], **tolerances.REDUCTION)


def test_arrays_with_weights_and_classes(pixels):
    options = {
        "sample_weight": np.linspace(0.1, 1, 22),
        "batch_size": 5,
        "epochs": 3,
        "shuffle": False,
        "verbose": 0,
        "class_weight": {0: 1.0, 1: 3.0, 2: 0.5},
        "validation_data": (pixels[:9].astype("float32"), LABELS[:9]),
    }
    options.pop("class_weight")
    plain = keras.Model.fit(make_tuner(), pixels.astype("float32"), LABELS, **options)
    cached = make_tuner().fit(pixels.astype("float32"), LABELS, cache_frozen=True, **options)
    assert_same(cached, plain, **tolerances.REDUCTION)


def test_augmented_copies_are_views_in_turn(pixels):
    with pytest.raises(ValueError, match="augmented_copies=k"):
        train(pixels, True, augment="light")
    _, auto = train(pixels, "auto", augment="light")
    assert "augmented_copies" in auto.frozen_features[0]["reason"]
    _, history = train(pixels, True, augment="light", augmented_copies=2, epochs=6)
    assert all(said["cached"] for said in history.frozen_features)
    seconds = [said["seconds"] for said in history.frozen_features]
    assert min(seconds[:2]) > max(seconds[2:])  # two views are computed, then read


def test_features_on_disk_serve_the_next_run(pixels, tmp_path):
    _, first = train(pixels, True, cache_dir=tmp_path, cache_dtype="float16")
    folders = sorted(tmp_path.iterdir())
    _, again = train(pixels, True, cache_dir=tmp_path, cache_dtype="float16")
    assert sorted(tmp_path.iterdir()) == folders and len(folders) == 2
    assert_same(again, first, rtol=0, atol=0)
    _, exact = train(pixels, False)
    assert_same(again, exact, rtol=5e-3, atol=1e-3)  # half precision has 11 bits


def test_what_cannot_be_cached_is_refused_or_said(pixels):
    model = make_tuner()
    data = make_dataset(pixels, LABELS, batch_size=5)
    with pytest.raises(ValueError, match="read again row by row"):
        model.fit(data.map(lambda x, y: (x, y)), cache_frozen=True, verbose=0)
    with pytest.raises(ValueError, match="cache_frozen"):
        model.fit(data, cache_frozen="yes", verbose=0)
    history = model.fit(data, epochs=1, verbose=0)
    assert history.frozen_features[0] == {
        "epoch": 0, "cached": False, "reason": "only one epoch left", "seconds": 0.0
    }  # fmt: skip


def test_progress_is_shown(pixels, capsys):
    make_tuner().fit(make_dataset(pixels, LABELS, batch_size=5, seed=1), epochs=2, verbose=1)
    out = capsys.readouterr().out
    assert "features once" in out and "22/22" in out
