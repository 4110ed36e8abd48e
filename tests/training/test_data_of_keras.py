"""Ragged data, inputs that are None and the limits of `keras.config`: as Keras, or refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl import callbacks
from kerastl.training import FineTuner

RNG = np.random.default_rng(0)
X = RNG.normal(size=(22, 4)).astype("float32")
Y = X.sum(1, keepdims=True)
OPTIONS = {"batch_size": 5, "epochs": 3, "shuffle": False, "verbose": 0}
RAGGED = tf.ragged.constant([[1.0], [2.0, 3.0], [1.0, 2.0, 3.0]])


def compiled(cls, inputs, features, loss="mse"):
    hidden = keras.layers.Dense(3, trainable=False, name="body")(features)
    model = cls(inputs, keras.layers.Dense(1, name="head")(hidden))
    model.compile("sgd", loss)
    return model


def plain(cls):
    inputs = keras.Input((4,))
    return compiled(cls, inputs, inputs)


def ragged(cls):
    inputs = keras.Input((None,), ragged=True)
    total = keras.layers.Lambda(
        lambda x: tf.reshape(tf.reduce_sum(x, 1), (-1, 1)), output_shape=(1,)
    )
    return compiled(cls, inputs, total(inputs))


def ragged_targets(cls):
    inputs = keras.Input((4,))

    def loss(told, given):
        told = told.to_tensor(shape=(None, 3)) if isinstance(told, tf.RaggedTensor) else told
        return tf.square(told - given)

    return compiled(cls, inputs, inputs, loss)


class Sum(keras.Layer):
    """The sum of two inputs, or the first if the second is None."""

    def call(self, a, b=None):
        return a if b is None else a + b


def optional(cls, first=False):
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b", optional=True)
    return compiled(cls, [b, a] if first else [a, b], Sum()(a, b))


def as_keras(make, x, y, **options):
    """The histories, evaluations and single batches of Keras and of a FineTuner."""
    told = []
    for cls in (keras.Model, FineTuner):
        keras.utils.set_random_seed(0)
        model = make(cls)
        history = model.fit(x, y, **{**OPTIONS, **options}).history
        told.append([history, model.evaluate(x, y, verbose=0), model.train_on_batch(x, y)])
    return told


@pytest.mark.parametrize(
    ("make", "x", "y"),
    [
        (ragged, RAGGED, np.ones((3, 1))),
        (ragged_targets, X[:3], RAGGED),
        (optional, [X, None], Y),
        (lambda cls: optional(cls, first=True), [None, X], Y),
    ],
)
def test_ragged_data_and_inputs_of_none_train_as_with_keras(make, x, y):
    theirs, mine = as_keras(make, x, y, validation_data=(x, y))
    assert mine == theirs


@pytest.mark.parametrize(
    ("make", "x", "y"), [(ragged, RAGGED, np.ones((3, 1))), (optional, [X, None], Y)]
)
def test_they_cannot_be_cached(make, x, y):
    with pytest.raises(ValueError, match="none of them ragged, sparse or None"):
        make(FineTuner).fit(x, y, cache_frozen=True, **OPTIONS)
    thaws = callbacks.GradualUnfreezing({0: 1})
    history = make(FineTuner).fit(x, y, callbacks=[thaws], **OPTIONS)
    assert len(history.epoch) == 3 and history.frozen_features == []


def test_an_input_that_is_not_optional_is_refused():
    with pytest.raises(ValueError, match="'a' is not optional, but None was passed"):
        optional(FineTuner).fit([None, X], Y, **OPTIONS)


@pytest.fixture
def limits():
    yield
    keras.config.set_max_epochs(None)
    keras.config.set_max_steps_per_epoch(None)


@pytest.mark.filterwarnings("ignore:Limiting epochs")
@pytest.mark.parametrize("initial_epoch", [0, 2])
def test_epochs_are_limited_as_with_keras(limits, initial_epoch):
    keras.config.set_max_epochs(2)
    told = []
    for cls in (keras.Model, FineTuner):
        keras.utils.set_random_seed(0)
        history = plain(cls).fit(X, Y, initial_epoch=initial_epoch, **OPTIONS)
        told.append((history.history, history.epoch))
    assert told[0] == told[1]
    thaws = callbacks.GradualUnfreezing({0: 1, 1: 2})
    given = {"callbacks": [thaws], "initial_epoch": initial_epoch}
    assert plain(FineTuner).fit(X, Y, **given, **OPTIONS).epoch == list(range(initial_epoch, 2))


def test_the_limit_of_epochs_is_told_once(limits):
    keras.config.set_max_epochs(1)
    with pytest.warns(UserWarning, match="Limiting epochs to 1") as told:
        plain(FineTuner).fit(X, Y, **OPTIONS)
    assert len(told) == 1


@pytest.mark.filterwarnings("ignore:Limiting steps_per_epoch", "ignore:Your input ran out")
@pytest.mark.parametrize("batch_size", [5, None])
def test_steps_are_limited_as_with_keras(limits, batch_size):
    """Keras goes on with the next batches in the next epoch, and takes larger batches of arrays."""
    keras.config.set_max_steps_per_epoch(2)
    theirs, mine = as_keras(plain, X, Y, batch_size=batch_size)
    assert mine == theirs
    with pytest.raises(ValueError, match="set_max_steps_per_epoch"):
        plain(FineTuner).fit(X, Y, cache_frozen=True, **OPTIONS)
    with pytest.raises(ValueError, match=r"set_max_steps_per_epoch\(None\)` first; it is 2"):
        callbacks.lr_find(plain(FineTuner), X, Y)
