"""LRMultiplier(fused=True): the steps of Keras, each taken by one kernel of TensorFlow."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import optimizers

from kerastl.optimizers import LRMultiplier
from kerastl.schedules import OneCycle
from kerastl.training import FineTuner
from tests import references, tolerances
from tests.optimizers.lr_multiplier_cases import OPTIMIZERS, gradients, train, variables

RATES = {"a/.*": 0.1, "b/.*": 3.0}
RATE = 0.01
KINDS = {name: OPTIMIZERS[name] for name in ("SGD", "momentum", "Nesterov", "Adam", "AdamW")}
kinds = pytest.mark.parametrize("name", KINDS)
# A step of Adam differs by 7e-6 of itself: Keras rounds `1 - beta_2` to float32, the kernel takes
# the rounded `beta_2` from 1. Steps here are 0.03 long at most, and there are 20 of them.
ADAM = {"rtol": 0.0, "atol": 20 * 0.03 * 7e-6}


def tolerance(name):
    return ADAM if name.startswith("Adam") else tolerances.EXACT


def late(make, fused):
    """20 steps of two variables, the second from step 7 on, with all that acts on a step."""
    grads, weights = gradients(20, 2), variables("a/kernel", "b/kernel")
    inner = make(RATE, weight_decay=0.3, global_clipnorm=0.5, use_ema=True, ema_momentum=0.9)
    optimizer = LRMultiplier(inner, RATES, fused=fused)
    optimizer.build(weights)
    train(optimizer, weights[:1], grads[:7, :1])
    return train(optimizer, weights, grads[7:])


@kinds
def test_it_is_the_step_of_keras(name):
    fused, plain = (late(KINDS[name], fused) for fused in (True, False))
    np.testing.assert_allclose(fused, plain, **tolerance(name))


@pytest.mark.parametrize("make", [optimizers.Adam, optimizers.AdamW])
def test_adam_is_as_near_to_float64_as_that_of_keras(make):
    grads = gradients(100, 1)
    start = variables("a/kernel")[0].numpy()
    want = references.adamw(start, grads[:, 0], [RATE] * 100)[-1]
    errors = {}
    for fused in (False, True):
        optimizer = LRMultiplier(make(RATE, weight_decay=0.0), fused=fused)
        (got,) = train(optimizer, variables("a/kernel"), grads)
        errors[fused] = np.abs(got - want).max()
    assert errors[True] < 2 * errors[False]
    assert errors[True] < 1e-5


@kinds
def test_one_operation_a_variable(name):
    weights = variables("a/kernel", "b/kernel", "c/kernel")
    optimizer = LRMultiplier(KINDS[name](RATE), fused=True)
    optimizer.build(weights)
    grads = [tf.ones((4, 3))] * 3

    @tf.function
    def step():
        optimizer.apply(grads, weights)

    kinds = [op.type for op in step.get_concrete_function().graph.get_operations()]
    assert sum(kind.startswith("ResourceApply") for kind in kinds) == 3
    assert "Sqrt" not in kinds


@pytest.mark.parametrize("name", ["AMSGrad", "Lamb", "Adagrad"])
def test_others_are_refused_at_once(name):
    with pytest.raises(ValueError, match=r"Adam, AdamW, SGD, without AMSGrad\. Received: "):
        LRMultiplier(OPTIMIZERS[name](RATE), fused=True)


def test_a_subclass_that_steps_in_its_own_way_is_refused():
    class Signed(optimizers.SGD):
        def update_step(self, gradient, variable, learning_rate):
            super().update_step(keras.ops.sign(gradient), variable, learning_rate)

    with pytest.raises(ValueError, match=r"Received: Signed\. Leave `fused` out\."):
        LRMultiplier(Signed(RATE), fused=True)


def embedded():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,), dtype="int32")
    x = keras.layers.Embedding(9, 4, name="words")(inputs)
    outputs = keras.layers.Dense(2, name="head")(keras.layers.Flatten()(x))
    return FineTuner.from_model(keras.Model(inputs, outputs))


def tuned(optimizer, *, schedule=None, policy="float32", epochs=3, model=None, **compile_args):
    """A small model with an embedding after nine steps."""
    keras.config.set_dtype_policy(policy)
    try:
        model = model or embedded()
    finally:
        keras.config.set_dtype_policy("float32")
    if optimizer is not None:
        model.compile(optimizer, "mse", multipliers={"words/.*": 0.5}, **compile_args)
    if schedule is not None:
        model.set_schedule(schedule, num_steps=9)
    rng = np.random.default_rng(1)
    words, targets = rng.integers(0, 9, (24, 3)), rng.normal(size=(24, 2)).astype("float32")
    model.fit(words, targets, batch_size=8, epochs=epochs, shuffle=False, verbose=0)
    return model


def assert_same(model, other, **tolerance):
    for got, want in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(got, want, **tolerance)


@pytest.mark.parametrize(
    "settings",
    [
        {"jit_compile": False},
        {"jit_compile": True},
        {"schedule": OneCycle()},
        {"policy": "mixed_float16"},
    ],
    ids=lambda settings: next(iter(settings)) + str(next(iter(settings.values())))[:13],
)
@pytest.mark.parametrize("make", [optimizers.AdamW, lambda rate: optimizers.SGD(rate, 0.9)])
def test_inside_fit(make, settings):
    fused, plain = (tuned(make(RATE), fused=fused, **settings) for fused in (True, False))
    assert fused.lr_multiplier.fused
    # Forward and backward passes that follow a step in another last digit round differently.
    tolerance = {"rtol": 1e-3, "atol": 1e-3} if "policy" in settings else tolerances.REDUCTION
    assert_same(fused, plain, **tolerance)


def test_rows_of_an_embedding_step_as_in_keras():
    words = keras.Variable(np.ones((9, 4), "float32"), name="words")
    optimizer = LRMultiplier(optimizers.SGD(RATE), fused=True)
    rows = tf.IndexedSlices(tf.ones((2, 4)), tf.constant([1, 3]), dense_shape=(9, 4))
    optimizer.apply([rows], [words])
    want = np.ones((9, 4), "float32")
    want[[1, 3]] -= np.float32(RATE)
    np.testing.assert_array_equal(words.numpy(), want)


def test_a_saved_training_goes_on_fused(tmp_path):
    whole = tuned(optimizers.AdamW(RATE), fused=True, epochs=4)
    half = tuned(optimizers.AdamW(RATE), fused=True, epochs=2)
    half.save(tmp_path / "half.keras")
    loaded = keras.saving.load_model(tmp_path / "half.keras")
    assert loaded.lr_multiplier.fused
    assert_same(tuned(None, model=loaded, epochs=2), whole, **tolerances.EXACT)


def test_an_lr_multiplier_made_by_hand_says_it_itself():
    with pytest.raises(ValueError, match=r"belong to the LRMultiplier.*fused=True"):
        embedded().compile(LRMultiplier(optimizers.SGD(RATE)), "mse", fused=True)
