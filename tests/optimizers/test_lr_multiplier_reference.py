"""LRMultiplier against float64 NumPy and by hand."""

import keras
import numpy as np
import pytest

from kerastl.optimizers import LRMultiplier
from tests import references, tolerances
from tests.optimizers.lr_multiplier_cases import gradients, train, variables

# Both sides in float64, a hundred steps: rounding of 1e-16 a step and nothing else.
FLOAT64 = {"rtol": 1e-12, "atol": 1e-14}
# Keras rounds these to float32 whatever the variables' type, so they are binary fractions here.
BETAS = {"beta_1": 0.875, "beta_2": 0.99609375}
DECAY = 0.125
RATE = 2**-7


@pytest.fixture
def float64():
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx(before)


def test_adamw_is_torch_style_parameter_groups(float64):
    multipliers = {"stem/kernel": 0.01, "block/kernel": 0.1, "head/kernel": 1.0, "head/bias": 1.0}
    weights, grads = variables(*multipliers), gradients(100, 4)
    starts = [weight.numpy() for weight in weights]
    optimizer = LRMultiplier(
        keras.optimizers.AdamW(RATE, weight_decay=DECAY, **BETAS),
        multipliers,
        no_decay=["head/bias"],
    )
    got = train(optimizer, weights, grads)
    for i, (path, multiplier) in enumerate(multipliers.items()):
        want = references.adamw(
            starts[i],
            grads[:, i],
            [RATE * multiplier] * 100,
            decay=0.0 if path == "head/bias" else DECAY,
            **BETAS,
        )[-1]
        np.testing.assert_allclose(got[i], want, **FLOAT64, err_msg=path)


@pytest.mark.parametrize("born", [0, 1, 40])
def test_a_weight_born_late_corrects_its_own_bias_at_the_global_rate(float64, born):
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [20, 50], [RATE, RATE / 2, RATE / 8]
    )
    rates = [RATE] * 21 + [RATE / 2] * 30 + [RATE / 8] * 9
    weights, grads = variables("body/kernel", "head/kernel"), gradients(60, 2)
    body, head = (weight.numpy() for weight in weights)
    adamw = keras.optimizers.AdamW(schedule, weight_decay=DECAY, **BETAS)
    optimizer = LRMultiplier(adamw, {"body/kernel": 0.3})
    optimizer.build(weights)
    train(optimizer, weights[1:], grads[:born, 1:])
    got = train(optimizer, weights, grads[born:])
    body_rates = [0.3 * rate for rate in rates]
    want_body = references.adamw(body, grads[:, 0], body_rates, decay=DECAY, born=born, **BETAS)
    want_head = references.adamw(head, grads[:, 1], rates, decay=DECAY, **BETAS)
    np.testing.assert_allclose(got[0], want_body[-1], **FLOAT64)
    np.testing.assert_allclose(got[1], want_head[-1], **FLOAT64)


def test_the_first_step_of_a_late_weight_has_the_size_of_the_rate(float64):
    # Adam's first step is rate * sign(gradient) up to epsilon; the global count would make it
    # (1 - 0.9) / sqrt(1 - 0.999) = 3.16 times as long after many steps.
    weights, grads = variables("a/kernel", "b/kernel"), gradients(51, 2)
    optimizer = LRMultiplier(keras.optimizers.Adam(1e-2), {"b/kernel": 0.5})
    optimizer.build(weights)
    train(optimizer, weights[:1], grads[:50, :1])
    before = weights[1].numpy()
    after = train(optimizer, weights, grads[50:])[1]
    np.testing.assert_allclose(before - after, 0.005 * np.sign(grads[50, 1]), rtol=1e-3)


def test_the_global_norm_is_over_all_variables_in_the_step():
    # SGD by hand: w -= multiplier * rate * g * min(1, clip / norm of all g).
    weights, grads = variables("a", "b", "c"), gradients(1, 3)[0]
    before = [weight.numpy() for weight in weights]
    sgd = keras.optimizers.SGD(0.1, global_clipnorm=0.5)
    optimizer = LRMultiplier(sgd, {"model/a": 0.1, "model/c": 0.0})
    after = train(optimizer, weights, [grads])
    norm = np.sqrt((grads[:2].astype("float64") ** 2).sum())
    for got, start, grad, multiplier in zip(after, before, grads, (0.1, 1.0, 0.0), strict=True):
        want = start - multiplier * 0.1 * grad * (0.5 / norm)
        np.testing.assert_allclose(got, want, **tolerances.ELEMENTWISE)


def test_zero_is_frozen_in_every_way():
    weights, grads = variables("a", "b"), gradients(5, 2)
    before = weights[1].numpy()
    adamw = keras.optimizers.AdamW(0.1, weight_decay=0.5, use_ema=True, ema_overwrite_frequency=2)
    optimizer = LRMultiplier(adamw, {"model/b": 0})
    train(optimizer, weights, grads)
    optimizer.finalize_variable_values(weights)
    np.testing.assert_array_equal(weights[1].numpy(), before)
    assert not any(slot.numpy().any() for slot in (adamw._momentums[1], adamw._velocities[1]))


def test_a_step_may_pass_fewer_variables_than_were_built():
    # Clipping, accumulation and averages then act on those passed alone.
    base = {
        "global_clipnorm": 0.5,
        "gradient_accumulation_steps": 2,
        "use_ema": True,
        "ema_momentum": 0.5,
        "weight_decay": 0.1,
    }
    grads = gradients(6, 1)
    weights = variables("a", "b")
    other = weights[1].numpy()
    optimizer = LRMultiplier(keras.optimizers.AdamW(0.1, **base))
    optimizer.build(weights)
    got = train(optimizer, weights[:1], grads)
    plain = keras.optimizers.AdamW(0.1, **base)
    alone = variables("a")
    np.testing.assert_array_equal(got, train(plain, alone, grads))
    np.testing.assert_array_equal(weights[1].numpy(), other)
    averages = optimizer.inner_optimizer._model_variables_moving_average
    np.testing.assert_array_equal(averages[1].numpy(), other)
    optimizer.finalize_variable_values(weights)
    plain.finalize_variable_values(alone)
    np.testing.assert_array_equal(weights[0].numpy(), alone[0].numpy())
    np.testing.assert_array_equal(weights[1].numpy(), other)


def test_a_late_average_begins_at_its_own_first_step():
    # By hand: a_1 = w_1, a_2 = (a_1 + w_2) / 2, counted from the variable's own first step.
    weights, grads = variables("a", "b"), gradients(5, 2)
    sgd = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    optimizer = LRMultiplier(sgd)
    optimizer.build(weights)
    train(optimizer, weights[:1], grads[:3, :1])
    first = train(optimizer, weights, grads[3:4])[1]
    second = train(optimizer, weights, grads[4:5])[1]
    average = sgd._model_variables_moving_average[1].numpy()
    np.testing.assert_allclose(average, (first + second) / 2, **tolerances.ELEMENTWISE)


@pytest.mark.parametrize("thawed_at", [4, 5])
def test_accumulation_counts_updates_and_not_calls(float64, thawed_at):
    # Cycles of two calls; thawed in mid-cycle, the first mean lacks what came before.
    weights, grads = variables("a", "b"), gradients(10, 2)
    start = weights[1].numpy()
    optimizer = LRMultiplier(keras.optimizers.Adam(RATE, gradient_accumulation_steps=2, **BETAS))
    optimizer.build(weights)
    train(optimizer, weights[:1], grads[:thawed_at, :1])
    got = train(optimizer, weights, grads[thawed_at:])[1]
    seen = grads[:, 1].copy()
    seen[:thawed_at] = 0
    means = seen.reshape(5, 2, 4, 3).mean(axis=1)[2:]
    want = references.adamw(start, means, [RATE] * 3, **BETAS)[-1]
    np.testing.assert_allclose(got, want, **FLOAT64)
    np.testing.assert_array_equal(optimizer.variables[0].numpy(), [5, 3])


def test_excluded_variables_are_not_decayed_and_stay_so_when_saved():
    weights = variables("a/kernel", "a/bias", "b/bias")
    adamw = keras.optimizers.AdamW(0.1, weight_decay=0.5)
    adamw.exclude_from_weight_decay(var_names=["b/"])
    optimizer = LRMultiplier(adamw, no_decay=["a/bias"])
    before = [weight.numpy() for weight in weights]
    after = train(optimizer, weights, np.zeros((1, 3, 4, 3), "float32"))
    np.testing.assert_allclose(after[0], before[0] * (1 - 0.1 * 0.5), **tolerances.ELEMENTWISE)
    np.testing.assert_array_equal(after[1:], before[1:])
    spared = {path: row[-1] for path, *row in optimizer.get_config()["multipliers"]}
    assert spared == {"a/kernel": False, "a/bias": True, "b/bias": True}
