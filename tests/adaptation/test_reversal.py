"""The reversal is the identity, its gradient is exactly -lambda, and lambda is state."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl.adaptation import GradientReversal
from kerastl.callbacks import Resume
from kerastl.training import FineTuner
from tests.callbacks.resume_cases import Kill, Killed
from tests.tolerances import EXACT, REDUCTION
from tests.training.terms_cases import X, Y, assert_equal, fitted, weights

# Share of the steps that is done and lambda, by hand from 2 / (1 + exp(-10 p)) - 1: four digits.
SCHEDULE = [(0.0, 0.0), (0.05, 0.2449), (0.1, 0.4621), (0.25, 0.8483), (0.5, 0.9866), (1.0, 0.9999)]


def gradient(layer, x, upstream):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
    return y, tape.gradient(y, x, output_gradients=upstream)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_the_gradient_is_exactly_minus_lambda(strength):
    rng = np.random.default_rng(0)
    x, upstream = (tf.constant(rng.normal(size=(4, 3)), "float32") for _ in range(2))
    y, got = gradient(GradientReversal(strength), x, upstream)
    np.testing.assert_allclose(y, x, **EXACT)
    np.testing.assert_allclose(got, -np.float32(strength) * upstream.numpy(), **EXACT)


@pytest.mark.parametrize("progress, expected", SCHEDULE)
def test_lambda_follows_its_schedule(progress, expected):
    layer, ones = GradientReversal(2.0, num_steps=1000), tf.ones((1, 2))
    layer.build((1, 2))
    layer.steps_done.assign(int(1000 * progress))
    _, got = gradient(layer, ones, ones)
    formula = 2.0 * (2 / (1 + np.exp(-10 * np.float64(progress))) - 1)
    np.testing.assert_allclose(got, -formula * np.ones((1, 2)), **REDUCTION)
    assert formula / 2 == pytest.approx(expected, abs=5e-5)
    layer.steps_done.assign(5000)
    assert float(layer.current_strength) == pytest.approx(2 * 0.9999092, rel=1e-6)


def network():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, name="body")(inputs)
    x = GradientReversal(num_steps=20, name="reversal")(x)
    model = FineTuner(inputs, keras.layers.Dense(2, name="head")(x))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model


def test_steps_count_in_training_alone_and_are_saved(tmp_path):
    model = network()
    fitted(model, epochs=2, validation_data=(X, Y))
    model.evaluate(X, Y, verbose=0), model.predict(X, verbose=0)
    assert int(model.get_layer("reversal").steps_done) == 8
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").get_layer("reversal")
    assert int(loaded.steps_done) == 8
    assert float(loaded.current_strength) == pytest.approx(np.tanh(5 * 8 / 20), rel=1e-6)


def test_a_resumed_run_goes_on_with_its_lambda(tmp_path):
    def run(*callbacks, folder):
        model = network()
        fitted(model, callbacks=[Resume(tmp_path / folder, every=1), *callbacks])
        return weights(model)

    whole = run(folder="whole")
    with pytest.raises(Killed):
        run(Kill(1, 1), folder="killed")
    assert_equal(run(folder="killed"), whole, **EXACT)


def test_refusals():
    with pytest.raises(ValueError, match=r"`strength` must be a number in \[0.0"):
        GradientReversal(-1.0)
    with pytest.raises(ValueError, match="`num_steps` must be an int"):
        GradientReversal(num_steps=0)
    with pytest.raises(ValueError, match="`gamma` must be a number"):
        GradientReversal(gamma=0.0)
