"""LRMultiplier over a table of optimizers: each must behave as itself at another rate."""

import keras
import numpy as np
import pytest

from kerastl.optimizers import LRMultiplier
from tests import tolerances
from tests.optimizers.lr_multiplier_cases import OPTIMIZERS, gradients, state, train, variables

RATE = 0.01
STEPS = 20
MULTIPLIERS = (0.1, 1.0, 3.0)
optimizers = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


@pytest.mark.parametrize("decay", [None, 0.3])
@optimizers
def test_a_multiplier_is_another_rate(make, decay):
    # One variable per multiplier, against one plain optimizer per rate.
    names = ["a/kernel", "b/kernel", "c/kernel"]
    grads = gradients(STEPS, 3)
    wrapped = LRMultiplier(
        make(RATE, weight_decay=decay), dict(zip(names, MULTIPLIERS, strict=True))
    )
    got = train(wrapped, variables(*names), grads)
    for i, multiplier in enumerate(MULTIPLIERS):
        plain = make(multiplier * RATE, weight_decay=decay)
        (want,) = train(plain, variables(*names)[i : i + 1], grads[:, i : i + 1])
        np.testing.assert_allclose(got[i], want, **tolerances.REDUCTION, err_msg=str(multiplier))


@optimizers
def test_multiplier_one_is_the_plain_optimizer_bit_for_bit(make):
    names, grads = ["a/kernel", "b/kernel"], gradients(STEPS, 2)
    plain, wrapped = make(RATE, weight_decay=0.3), LRMultiplier(make(RATE, weight_decay=0.3))
    want, got = (train(o, variables(*names), grads) for o in (plain, wrapped))
    np.testing.assert_array_equal(got, want)


@optimizers
def test_a_late_variable_is_one_of_a_fresh_optimizer(make):
    # Bias corrections and running products count the variable's own steps, for every optimizer.
    grads, late = gradients(STEPS, 2), 7
    weights = variables("a/kernel", "b/kernel")
    wrapped = LRMultiplier(make(RATE), {"b/.*": 2.0})
    wrapped.build(weights)
    train(wrapped, weights[:1], grads[:late, :1])
    got = train(wrapped, weights, grads[late:])

    a, b = variables("a/kernel", "b/kernel")
    (want_a,) = train(make(RATE), [a], grads[:, :1])
    (want_b,) = train(make(2 * RATE), [b], grads[late:, 1:])
    np.testing.assert_array_equal(got[0], want_a)
    np.testing.assert_allclose(got[1], want_b, **tolerances.REDUCTION)


def grown_results(make, base, grow):
    grads, late = gradients(8, 2), 3
    weights = variables("a/kernel", "b/kernel")
    optimizer = LRMultiplier(make(RATE, **base), {"a/.*": 0.5})
    optimizer.build(weights[: 1 if grow else 2])
    train(optimizer, weights[:1], grads[:late, :1])
    optimizer.extend(weights)
    assert optimizer.variables_paths == ("a/kernel", "b/kernel")
    return [*train(optimizer, weights, grads[late:]), *state(optimizer)]


@optimizers
def test_extended_is_built_on_everything_from_the_start(make):
    # To the order of the state, so that it can be saved and loaded.
    for got, want in zip(*(grown_results(make, {}, grow) for grow in (True, False)), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", ["AMSGrad", "Nadam"])
def test_extended_with_averages_and_accumulators(name):
    make, base = OPTIMIZERS[name], {"use_ema": True, "gradient_accumulation_steps": 2}
    for got, want in zip(*(grown_results(make, base, grow) for grow in (True, False)), strict=True):
        np.testing.assert_array_equal(got, want)


def test_extending_keeps_the_rate_and_the_counter():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)
    for rate in (0.1, schedule):
        adam = keras.optimizers.Adam(rate)
        weights, optimizer = variables("a", "b"), LRMultiplier(adam)
        train(optimizer, weights[:1], gradients(3, 1))
        held, counter = adam._learning_rate, optimizer.iterations
        optimizer.extend(weights)
        assert adam._learning_rate is held
        assert optimizer.iterations is counter
        assert int(counter) == 3


@optimizers
def test_config_makes_the_same_optimizer(make):
    wrapped = LRMultiplier(make(RATE, weight_decay=0.1), {"a/.*": 0.5}, no_decay=["a/bias"])
    again = keras.optimizers.deserialize(keras.optimizers.serialize(wrapped))
    assert isinstance(again, LRMultiplier)
    assert again.get_config() == wrapped.get_config()
