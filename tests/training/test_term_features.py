"""Terms that read what named layers give: the loop by hand, with and without a cache, refusals."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl import FineTuner, freeze, freeze_batch_norm, freeze_to
from kerastl.training import Term
from tests import tolerances

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(16, 8, 8, 3)).astype("float32"), RNG.normal(size=(16, 2)).astype("float32")


class Spread(Term):
    """The mean square of what a layer gives."""

    name = "spread"

    def __init__(self, *features, strength=0.3):
        self.features, self.strength = features, strength

    def __call__(self, step):
        assert set(step.features) == set(self.features)
        squares = [tf.reduce_mean(step.features[name] ** 2) for name in self.features]
        return self.strength * tf.add_n(squares)


def network():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, use_bias=False, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.ReLU(name="relu")(x))
    x = keras.layers.Dense(5, activation="tanh", name="hidden")(x)
    return FineTuner(inputs, keras.layers.Dense(2, name="head")(x))


def compiled(term=None, train=-1, **options):
    model = network()
    freeze_to(model, train)
    model.compile(keras.optimizers.SGD(0.1), "mse", terms=[term] if term else [], **options)
    return model


def trained(term, train=-1, cache_frozen="auto", **options):
    model = compiled(term, train, **options)
    history = model.fit(
        X, Y, batch_size=4, epochs=3, shuffle=False, verbose=0, cache_frozen=cache_frozen
    )
    return model, history


def test_equal_to_the_loop_by_hand():
    model, history = trained(Spread("hidden", "norm"), train=0, cache_frozen=False)
    other = compiled(train=0)
    layers = {layer.name: layer for layer in other.layers}
    shown = []
    for _ in range(3):
        for i in range(0, 16, 4):
            x, y = X[i : i + 4], Y[i : i + 4]
            with tf.GradientTape() as tape:
                norm = layers["norm"](layers["conv"](x), training=True)
                hidden = layers["hidden"](layers["pool"](layers["relu"](norm)))
                error = tf.reduce_mean((layers["head"](hidden) - y) ** 2)
                term = 0.3 * (tf.reduce_mean(hidden**2) + tf.reduce_mean(norm**2))
                loss = error + term
            shown.append(float(term))
            variables = other.trainable_variables
            for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
                variable.assign_sub(0.1 * gradient)
    np.testing.assert_allclose(
        history.history["spread"], np.reshape(shown, (3, 4)).mean(1), **tolerances.REDUCTION
    )
    for ours, theirs in zip(model.weights, other.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)  # twelve steps


def head_and_hidden(term, cache_frozen):
    model = network()
    freeze(model, ["conv", "norm"])
    model.compile(keras.optimizers.SGD(0.1), "mse", terms=[term])
    return model.fit(
        X, Y, batch_size=4, epochs=3, shuffle=False, verbose=0, cache_frozen=cache_frozen
    )


def test_cached_as_uncached_where_the_layer_trains():
    cached, plain = (head_and_hidden(Spread("hidden"), choice) for choice in (True, False))
    assert all(row["cached"] for row in cached.frozen_features)
    for name, values in plain.history.items():
        np.testing.assert_allclose(cached.history[name], values, **tolerances.REDUCTION)


def test_a_frozen_layer_that_is_read_is_not_computed_once():
    history = head_and_hidden(Spread("relu"), "auto")
    assert not any(row["cached"] for row in history.frozen_features)
    assert "reads what the frozen layer 'relu' gives" in history.frozen_features[0]["reason"]
    with pytest.raises(ValueError, match="the term 'spread' reads what the frozen layer 'relu'"):
        head_and_hidden(Spread("relu"), True)


@pytest.mark.parametrize("jit_compile", [True, False])
def test_under_xla(jit_compile):
    _, history = trained(Spread("hidden"), train=0, jit_compile=jit_compile)
    _, plain = trained(Spread("hidden"), train=0)
    np.testing.assert_allclose(
        history.history["loss"], plain.history["loss"], **tolerances.REDUCTION
    )


def test_strength_zero_is_bit_equal():
    off, none = trained(Spread("hidden", strength=0.0), train=0)[0], trained(None, train=0)[0]
    for ours, theirs in zip(off.weights, none.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"Received: 'hiden'\. Closest: 'hidden'"):
        trained(Spread("hiden"))
    model = network()  # the batch normalization infers, so that the two are one step
    freeze_batch_norm(model, affine=False)
    model.compile("sgd", "mse", terms=[Spread("conv")])
    with pytest.raises(ValueError, match="Name that in `features`: 'norm'"):
        model.fit(X, Y, verbose=0)
    inputs = keras.Input((3,))
    twice = keras.layers.Dense(3, name="twice")
    shared = FineTuner(inputs, twice(twice(inputs)))
    shared.compile("sgd", "mse", terms=[Spread("twice")])
    with pytest.raises(ValueError, match="called 2 times"):
        shared.fit(np.ones((4, 3)), np.ones((4, 3)), verbose=0)
