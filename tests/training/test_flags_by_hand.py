"""A `trainable` that is set by hand takes effect as `freeze` and `unfreeze` do, cached or not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl import freeze, freeze_to, unfreeze
from kerastl.training import FineTuner
from tests.tolerances import EXACT, REDUCTION

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(16, 4)).astype("float32"), RNG.normal(size=(16, 3)).astype("float32")


def make(frozen):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, activation="tanh", name="body")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    model = FineTuner(inputs, keras.layers.Dense(3, name="head")(x))
    if frozen:
        freeze_to(model, -1)
    model.compile(keras.optimizers.Adam(0.05), "mse")
    return model


def by_hand(model, thaw):
    for name in ("body", "norm"):
        model.get_layer(name).trainable = thaw


def by_function(model, thaw):
    layers = [model.get_layer("body"), model.get_layer("norm")]
    unfreeze(model, layers) if thaw else freeze(model, layers)


class Change(keras.callbacks.Callback):
    """Sets the flags in one of Keras's hooks, once."""

    def __init__(self, change, thaw, hook, at):
        super().__init__()

        def hooked(count, logs=None):
            if count == at:
                change(self.model, thaw)

        setattr(self, hook, hooked)


def in_callback(hook, at, **options):
    def train(model, change, thaw):
        changing = Change(change, thaw, hook, at)
        return model.fit(
            X, Y, epochs=4, batch_size=4, verbose=0, shuffle=False, callbacks=[changing], **options
        )

    return train


def between_fits(**options):
    def train(model, change, thaw):
        fit = {"batch_size": 4, "verbose": 0, "shuffle": False, **options}
        model.fit(X, Y, epochs=2, **fit)
        change(model, thaw)
        return model.fit(X, Y, epochs=2, **fit)

    return train


def by_batch(model, change, thaw):
    for epoch in range(4):
        if epoch == 2:
            change(model, thaw)
        for rows in np.split(np.arange(16), 4):
            model.train_on_batch(X[rows], Y[rows])


def read_by_keras(model, change, thaw):
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    model.fit(
        data,
        epochs=4,
        verbose=0,
        shuffle=False,
        callbacks=[Change(change, thaw, "on_train_batch_end", at=1)],
    )


WAYS = {
    "an epoch begins": in_callback("on_epoch_begin", 2),
    "an epoch begins, uncached": in_callback("on_epoch_begin", 2, cache_frozen=False),
    "an epoch ends": in_callback("on_epoch_end", 1),
    "an epoch ends, uncached": in_callback("on_epoch_end", 1, cache_frozen=False),
    "a batch ends, uncached": in_callback("on_train_batch_end", 1, cache_frozen=False),
    "between fits": between_fits(),
    "between fits, uncached": between_fits(cache_frozen=False),
    "train_on_batch": by_batch,
    "Keras reads the data": read_by_keras,
}


@pytest.mark.slow_but(
    "an epoch begins-thaw",
    "an epoch ends, uncached-freeze",
    "a batch ends, uncached-thaw",
    "between fits-freeze",
    "train_on_batch-thaw",
)
@pytest.mark.parametrize("thaw", [True, False], ids=["thaw", "freeze"])
@pytest.mark.parametrize("way", WAYS)
def test_flags_do_what_freeze_and_unfreeze_do(way, thaw):
    hand, function = make(frozen=thaw), make(frozen=thaw)
    start = hand.get_layer("body").kernel.numpy()
    WAYS[way](hand, by_hand, thaw)
    WAYS[way](function, by_function, thaw)
    assert not np.array_equal(start, hand.get_layer("body").kernel.numpy())
    for one, other in zip(hand.variables, function.variables, strict=True):
        np.testing.assert_allclose(one, other, **EXACT)
    for one, other in zip(hand.optimizer.variables, function.optimizer.variables, strict=True):
        np.testing.assert_allclose(one, other, **EXACT)


def test_what_is_frozen_by_hand_stands_still():
    model = make(frozen=False)
    weights = [*model.get_layer("body").weights, *model.get_layer("norm").weights]
    model.fit(X, Y, verbose=0)
    by_hand(model, thaw=False)
    before = [weight.numpy() for weight in weights]
    model.fit(X, Y, epochs=2, verbose=0)
    model.train_on_batch(X, Y)
    for one, other in zip(before, weights, strict=True):
        np.testing.assert_allclose(one, other, **EXACT)


@pytest.mark.slow_but("on_train_batch_end-by_hand")
@pytest.mark.parametrize("change", [by_hand, by_function])
@pytest.mark.parametrize("hook", ["on_train_batch_begin", "on_train_batch_end"])
def test_a_thaw_amid_an_epoch_is_the_same_cached_or_not(hook, change):
    """Features of the layer are stale from there on: the rest of the epoch is read otherwise."""
    seen, histories, models = [], [], []
    for cache in ("auto", False):
        model = make(frozen=True)
        model.compile(keras.optimizers.Adam(0.05), "mse", metrics=["mae"])
        batches = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: seen.append(batch)
        )
        history = model.fit(
            *(X, Y),
            epochs=4,
            batch_size=4,
            verbose=0,
            shuffle=False,
            validation_data=(X, Y),
            callbacks=[Change(change, True, hook, at=1), batches],
            cache_frozen=cache,
        )
        histories.append(history)
        models.append(model)
    assert seen == [0, 1, 2, 3] * 8
    assert [row["epoch"] for row in histories[0].frozen_features] == [0, 1, 2, 3]
    for name, values in histories[1].history.items():
        np.testing.assert_allclose(histories[0].history[name], values, **REDUCTION)
    for one, other in zip(*(model.weights for model in models), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_thaw_amid_an_epoch_may_leave_features_that_cache_frozen_needs():
    options = {"cache_frozen": True}
    with pytest.raises(ValueError, match="needs features that can be computed once"):
        in_callback("on_train_batch_end", 1, **options)(make(frozen=True), by_hand, True)


def test_a_model_whose_own_flag_is_off_says_so():
    model = make(frozen=False)
    model.trainable = False
    model.get_layer("head").trainable = True
    with pytest.raises(ValueError, match=r"its own `trainable` is off"):
        model.fit(X, Y, verbose=0)


def test_a_freeze_amid_an_epoch_of_cached_features_is_obeyed():
    model = make(frozen=False)
    model.get_layer("body").trainable = False
    norm = model.get_layer("norm")
    seen = []

    class Freeze(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            norm.trainable = False
            seen.append(norm.moving_mean.numpy())

    history = model.fit(X, Y, batch_size=4, epochs=2, verbose=0, callbacks=[Freeze()])
    assert history.frozen_features[0]["cached"]
    assert all(np.array_equal(seen[0], later) for later in seen)


def test_one_weight_is_held_by_its_own_flag():
    model = make(frozen=False)
    model.fit(X, Y, verbose=0)
    kernel = model.get_layer("body").kernel
    kernel.trainable = False
    before = kernel.numpy()
    model.fit(X, Y, verbose=0)
    np.testing.assert_allclose(before, kernel, **EXACT)
