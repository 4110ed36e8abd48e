"""The proximal step of a quadratic penalty, wherever an optimizer's step may differ."""

import keras
import numpy as np
import pytest

from kerastl import schedules
from kerastl.callbacks import EvaluateAverages
from kerastl.continual import L2SP
from kerastl.training import FineTuner
from tests.tolerances import ELEMENTWISE, EXACT, REDUCTION
from tests.training.terms_cases import X, Y, assert_equal, fitted, make, weights
from tests.two_devices import two_and_one

SGD = keras.optimizers.SGD
HALVED = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)


def penalty(strength=0.5, **options):
    """The same strength for all weights: what is new is the input, which has none."""
    return L2SP(strength, 0.0, where_new=0, **options)


def reference(optimizer, rates, *, strength=0.5, batch=20, epochs=3):
    """Weights after plain Keras steps, each followed by the proximal step at its own rate.

    `rates` gives, by call of `apply`, the rate of its step, or 0 where it took none.
    """
    model = make()
    plain = keras.Model(model.inputs, model.outputs)
    plain.compile(optimizer, "mse")
    start, calls = plain.get_weights(), iter(rates)
    for _ in range(epochs):
        for at in range(0, 20, batch):
            plain.train_on_batch(X[at : at + batch], Y[at : at + batch])
            factor = next(calls) * strength
            pairs = zip(plain.get_weights(), start, strict=True)
            plain.set_weights([(w + factor * s) / (1 + factor) for w, s in pairs])
    return plain.get_weights()


@pytest.mark.parametrize(
    ("make_optimizer", "options", "rates"),
    [
        (lambda: SGD(0.1), {}, [0.1] * 3),
        (lambda: keras.optimizers.Adam(0.01), {}, [0.01] * 3),
        (lambda: SGD(0.1, gradient_accumulation_steps=2), {"batch": 5}, [0, 0.1] * 6),
        (lambda: SGD(HALVED), {}, [0.1, 0.05, 0.025]),
    ],
    ids=["SGD", "Adam", "accumulation", "schedule"],
)
def test_equals_the_step_of_keras_and_then_one_towards_the_anchor(make_optimizer, options, rates):
    model = make([penalty()], make_optimizer())
    fitted(model, batch_size=options.get("batch", 20))
    assert_equal(weights(model), reference(make_optimizer(), rates, **options), **REDUCTION)


def test_multipliers_and_schedules_of_ours_scale_the_rate():
    """Half the shared rate of the body is its rate, also as the schedule moves it."""
    ends = []
    for multipliers, rate in (({"body": 0.5, "head": 0.5}, 0.2), (None, 0.1)):
        model = make([penalty()], SGD(rate), multipliers=multipliers)
        model.set_schedule(schedules.WarmupLinear(warmup=0.5), num_steps=12)
        fitted(model)
        ends.append(weights(model))
    assert_equal(*ends, **ELEMENTWISE)
    still = make([penalty()], SGD(0.2), multipliers={"body": 0.0})
    before = weights(still)
    fitted(still)
    assert_equal(weights(still)[:2], before[:2], **EXACT)


def test_a_schedule_of_ours_gives_the_rate_of_the_step_itself():
    """Not that of the step after it: a rate per step in Keras's own words, and in ours."""
    shape = schedules.WarmupLinear(warmup=0.5)
    model = make([penalty(5.0)], SGD(0.1))
    model.set_schedule(shape, num_steps=3)
    fitted(model, batch_size=20)
    rates = [0.1 * float(shape.factor(step / 3)) for step in range(3)]
    expected = reference(SGD(shape.over(0.1, 3)), rates, strength=5.0)
    assert_equal(weights(model), expected, **REDUCTION)


def test_equals_the_gradient_form_to_first_order():
    """Rates a tenth as large leave a difference a hundredth as large."""
    apart = []
    for rate in (1e-1, 1e-2):
        ends = []
        for proximal in (True, False):
            model = make([penalty(2.0, proximal=proximal)], SGD(rate))
            fitted(model, batch_size=20, epochs=2)
            ends.append(np.concatenate([w.ravel() for w in weights(model)]))
        apart.append(np.abs(ends[0] - ends[1]).max())
    assert apart[0] > 1e-4 and apart[1] < apart[0] / 50


def test_a_huge_strength_stays_at_the_anchor_and_finite():
    model = make([penalty(1e6)], SGD(0.1, momentum=0.9))
    start = weights(model)
    history = fitted(model, epochs=10).history
    assert np.isfinite(history["loss"]).all() and np.isfinite(history["l2_sp"]).all()
    assert_equal(weights(model), start, rtol=0, atol=1e-4)


def test_at_the_anchor_nothing_moves():
    model = make([penalty(3.0)], SGD(0.0))
    before = weights(model)
    assert fitted(model).history["l2_sp"] == [0.0] * 3
    assert_equal(weights(model), before, **EXACT)


def test_two_penalties_take_the_step_of_their_sum():
    one = make([penalty(2.0)])
    two = make([penalty(1.5), penalty(0.5, name="more")])
    histories = [fitted(model).history for model in (one, two)]
    assert_equal(weights(one), weights(two), **REDUCTION)
    summed = np.add(histories[1]["l2_sp"], histories[1]["more"])
    np.testing.assert_allclose(histories[0]["l2_sp"], summed, **REDUCTION)


def test_the_step_skipped_for_overflow_draws_nothing():
    """The first step overflows at this scale; at the next, half of it, it may again."""
    optimizer = keras.optimizers.LossScaleOptimizer(SGD(0.1), initial_scale=3e38)
    model = make([penalty(5.0)], optimizer)
    model.train_on_batch(X, Y)  # makes the anchors
    for weight in model.weights:
        weight.assign_add(np.ones(weight.shape))
    before = weights(model)
    model.train_on_batch(100 * X, Y)
    assert_equal(weights(model), before, **EXACT)


@pytest.mark.parametrize(
    "mode", [{"jit_compile": True}, {"steps_per_execution": 4}, {"run_eagerly": True}], ids=str
)
def test_every_mode_of_execution(mode):
    models = [make([penalty()], **options) for options in (mode, {"jit_compile": False})]
    for model in models:
        fitted(model)
    assert_equal(weights(models[0]), weights(models[1]), rtol=1e-4, atol=1e-5)


def test_moving_averages_are_those_of_the_weights_that_there_are():
    """By hand: `a = 0.9 * a + 0.1 * w`, begun at the first `w`."""
    optimizer = SGD(0.1, use_ema=True, ema_momentum=0.9)
    model = make([penalty(5.0)], optimizer)
    model.train_on_batch(X, Y)
    averages = weights(model)
    for _ in range(3):
        model.train_on_batch(X, Y)
        pairs = zip(averages, weights(model), strict=True)
        averages = [0.9 * a + 0.1 * w for a, w in pairs]
    model.lr_multiplier.finalize_variable_values(model.trainable_variables)
    assert_equal(weights(model), averages, **REDUCTION)
    watched = make([penalty()], SGD(0.1, use_ema=True, ema_momentum=0.9))
    fitted(watched, callbacks=[EvaluateAverages()], validation_data=(X, Y))


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = make([penalty(0.1)])
        history = fitted(model, epochs=8).history
    finally:
        keras.config.set_dtype_policy("float32")
    assert history["loss"][-1] < history["loss"][0] and history["l2_sp"][-1] > 0


@pytest.mark.slow
def test_two_devices_equal_one(tmp_path):
    program = """
        import keras
        from tests.continual.test_quadratic import SGD, penalty
        from tests.training.terms_cases import fitted, make, weights

        def train():
            optimizer = SGD(0.1, gradient_accumulation_steps=2, use_ema=True, ema_momentum=0.9)
            found = []
            for one in (optimizer, SGD(0.1, momentum=0.9)):
                model = make([penalty(), penalty(0.25, name="more")], one)
                history = fitted(model, batch_size=10).history
                found += [*weights(model), np.array(history["l2_sp"])]
            return found
        """
    two, one = two_and_one(program, tmp_path)
    assert_equal(two, one, **REDUCTION)


def test_what_would_diverge_is_refused():
    with pytest.raises(ValueError, match=r"at most 2\. Received: 2\.1 for 'body/kernel' in 'l2_sp"):
        fitted(make([penalty(21.0, proximal=False)], SGD(0.1)))
    fitted(make([penalty(21.0, proximal=False)], keras.optimizers.Adam(0.1)))  # rescales gradients


def test_what_a_proximal_step_would_undo_is_refused():
    optimizer = SGD(0.1, use_ema=True, ema_overwrite_frequency=2)
    with pytest.raises(ValueError, match=r"ema_overwrite_frequency=2\. Leave it out"):
        fitted(make([penalty()], optimizer))
    inputs = keras.Input((4,))
    dense = keras.layers.Dense(2, kernel_constraint="non_neg", name="dense")
    model = FineTuner(inputs, dense(inputs))
    model.compile("sgd", "mse", terms=[penalty()])
    with pytest.raises(ValueError, match=r"The constraint of 'dense/kernel'.*NonNeg"):
        fitted(model)
