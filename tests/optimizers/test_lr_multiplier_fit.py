"""LRMultiplier inside Keras: compile and fit, callbacks, precision, sparse gradients, tracing."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import optimizers

from kerastl.optimizers import LRMultiplier
from tests import tolerances
from tests.optimizers.lr_multiplier_cases import variables

LAYERS = ("body", "neck", "head")


def make_model(optimizer, **compile_args):
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((6,))
    for name, units in zip(LAYERS, (5, 4, 2), strict=True):
        x = keras.layers.Dense(units, activation="tanh", name=name)(x)
    model = keras.Model(inputs, x)
    model.compile(optimizer, "mse", **compile_args)
    return model


def fit(optimizer, epochs=3, callbacks=None, **compile_args):
    """Weights after a few epochs of three steps each."""
    model = make_model(optimizer, **compile_args)
    rng = np.random.default_rng(1)
    data = rng.normal(size=(24, 6)).astype("float32"), rng.normal(size=(24, 2)).astype("float32")
    model.fit(*data, batch_size=8, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)
    return model.get_weights()


@pytest.mark.parametrize("jit_compile", [False, True])
def test_fit_is_that_of_the_scaled_rate(jit_compile):
    make = optimizers.AdamW
    want = fit(make(0.005, weight_decay=0.1, global_clipnorm=0.1), jit_compile=jit_compile)
    inner = make(0.01, weight_decay=0.1, global_clipnorm=0.1)
    got = fit(LRMultiplier(inner, {".*": 0.5}), jit_compile=jit_compile)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, **tolerances.REDUCTION)


def test_fit_with_everything_on_is_the_plain_optimizer_bit_for_bit():
    def make():
        return optimizers.AdamW(
            optimizers.schedules.CosineDecay(0.02, 9),
            weight_decay=0.1,
            clipnorm=0.1,
            use_ema=True,
            ema_momentum=0.7,
            ema_overwrite_frequency=2,
            gradient_accumulation_steps=2,
            loss_scale_factor=8.0,
        )

    for got, want in zip(fit(LRMultiplier(make())), fit(make()), strict=True):
        np.testing.assert_array_equal(got, want)


class Moves(keras.callbacks.Callback):
    """How far the kernels of the body and the head moved in each epoch."""

    def __init__(self):
        super().__init__()
        self.norms = []

    def on_epoch_begin(self, epoch, logs=None):
        self.before = [self.model.get_layer(name).kernel.numpy() for name in LAYERS]

    def on_epoch_end(self, epoch, logs=None):
        after = [self.model.get_layer(name).kernel.numpy() for name in LAYERS]
        moves = [np.abs(a - b).max() for a, b in zip(after, self.before, strict=True)]
        self.norms.append((moves[0], moves[2]))


def test_rate_callbacks_set_one_rate_and_ratios_hold():
    # Lion steps by the rate in every weight: 3 steps of one sign move 3 * multiplier * rate.
    moves, rates = Moves(), [0.001, 0.0001, 0.00005]
    callbacks = [keras.callbacks.LearningRateScheduler(lambda epoch: rates[epoch]), moves]
    fit(LRMultiplier(optimizers.Lion(0.1), {"body": 0.5}), callbacks=callbacks)
    for (body, head), rate in zip(moves.norms, rates, strict=True):
        np.testing.assert_allclose((body, head), (1.5 * rate, 3 * rate), rtol=1e-2)


def test_reduce_on_plateau():
    optimizer = LRMultiplier(optimizers.SGD(1e-3), {"body": 0.5})
    reduce = keras.callbacks.ReduceLROnPlateau("loss", 0.1, patience=1, min_delta=10.0)
    fit(optimizer, callbacks=[reduce])
    np.testing.assert_allclose(float(optimizer.learning_rate), 1e-5, rtol=1e-6)
    np.testing.assert_allclose(float(optimizer.inner_optimizer.learning_rate), 1e-5, rtol=1e-6)
    assert int(optimizer.iterations) == 9


def test_mixed_float16():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        want = fit(optimizers.Adam(0.005))
        model = make_model(LRMultiplier(optimizers.Adam(0.01)))
        assert isinstance(model.optimizer, optimizers.LossScaleOptimizer)
        assert isinstance(model.optimizer.inner_optimizer, LRMultiplier)
        got = fit(LRMultiplier(optimizers.Adam(0.01), {".*": 0.5}))
    finally:
        keras.config.set_dtype_policy("float32")
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, **tolerances.REDUCTION)


def test_a_static_loss_scale_is_the_inner_one():
    optimizer = LRMultiplier(optimizers.SGD(0.1, loss_scale_factor=4.0))
    assert float(optimizer.scale_loss(2.0)) == 8.0
    optimizer.loss_scale_factor = None
    assert optimizer.inner_optimizer.loss_scale_factor is None


@pytest.mark.parametrize("make", [optimizers.SGD, optimizers.Adam], ids=["SGD", "Adam"])
def test_sparse_gradients_of_an_embedding(make):
    def run(optimizer):
        keras.utils.set_random_seed(0)
        layer = keras.layers.Embedding(6, 3, name="tokens")
        model = keras.Sequential([keras.Input((2,), dtype="int32"), layer])
        model.compile(optimizer, "mse")
        before = layer.get_weights()[0]
        model.fit(np.array([[0, 1], [1, 4]]), np.zeros((2, 2, 3)), epochs=3, verbose=0)
        return layer.get_weights()[0], before

    (got, before), (want, _) = run(LRMultiplier(make(0.1), {".*": 0.5})), run(make(0.05))
    np.testing.assert_allclose(got, want, **tolerances.ELEMENTWISE)
    np.testing.assert_array_equal(got[[2, 3, 5]], before[[2, 3, 5]])


def test_multipliers_change_without_tracing_again_but_zero_needs_it():
    weights, traces = variables("a/kernel", "b/kernel"), []
    optimizer = LRMultiplier(optimizers.SGD(1.0), {"a": 0.5})
    optimizer.build(weights)

    def take_step():
        traces.append(1)
        optimizer.apply([tf.ones((4, 3)), tf.ones((4, 3))], weights)

    def moves(function):
        before = [weight.numpy() for weight in weights]
        function()
        return [float((b - w.numpy())[0, 0]) for b, w in zip(before, weights, strict=True)]

    step = tf.function(take_step)
    np.testing.assert_allclose(moves(step), [0.5, 1.0], rtol=1e-6)
    optimizer.set_multipliers({"b": 0.25})
    np.testing.assert_allclose(moves(step), [1.0, 0.25], rtol=1e-6)
    assert len(traces) == 1
    with pytest.raises(RuntimeError, match=r"a/kernel.*retraced=True"):
        optimizer.set_multipliers({"a": 0})
    np.testing.assert_allclose(moves(step), [1.0, 0.25], rtol=1e-6)
    optimizer.set_multipliers({"a": 0}, retraced=True)
    assert moves(tf.function(take_step)) == [0, 1]


def test_state_of_other_slots_is_refused_when_loaded(tmp_path):
    path = str(tmp_path / "weights.weights.h5")
    model = make_model(LRMultiplier(optimizers.Adam(0.01)))
    model.optimizer.build(model.trainable_variables)
    model.save_weights(path)
    for chosen, message in (
        (model.trainable_variables[:2], "2 slots for 6 saved ones"),
        (model.trainable_variables[::-1], "in the order in which they were saved"),
    ):
        other = make_model(LRMultiplier(optimizers.Adam(0.01)))
        by_path = {v.path: v for v in other.trainable_variables}
        other.optimizer.build([by_path[v.path] for v in chosen])
        with pytest.raises(ValueError, match=message):
            other.load_weights(path)
    plain = make_model(optimizers.Adam(0.01))
    plain.optimizer.build(plain.trainable_variables)
    plain.save_weights(path)
    with pytest.warns(UserWarning) as caught:
        model.load_weights(path)
    assert any("No saved state of an LRMultiplier" in str(warning.message) for warning in caught)


def test_set_weights_restores_all_state():
    optimizer = LRMultiplier(optimizers.Nadam(0.01))
    model = make_model(optimizer)
    optimizer.build(model.trainable_variables)
    saved = [np.full(v.shape, i, v.dtype) for i, v in enumerate(optimizer.variables)]
    optimizer.set_weights(saved)
    for variable, value in zip(optimizer.variables, saved, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
