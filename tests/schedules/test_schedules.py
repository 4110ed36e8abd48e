"""Shapes of the learning rate: golden values, papers' equations, Keras's schedules, plain data."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from kerastl import schedules
from kerastl.schedules import (
    Constant,
    Exponential,
    OneCycle,
    SlantedTriangular,
    WarmupCosine,
    WarmupLinear,
)

ALL = [
    Constant(),
    Exponential(1e-4, 10.0),
    OneCycle(),
    OneCycle(warmup=0.99),
    OneCycle(warmup=0.3, start_div=5, momentum=None),
    SlantedTriangular(),
    SlantedTriangular(cut_frac=0.0, ratio=8.0),
    WarmupCosine(),
    WarmupCosine(warmup=0.0, end=0.1),
    WarmupLinear(warmup=1.0, start=0.5),
    WarmupLinear(),
]

# One step of 1000 is 1e-3 of progress; float32 knows progress to 6e-8 and `power` costs a few ulp.
FLOAT32 = {"rtol": 5e-6, "atol": 3e-7}
# The same formula in float64 on both sides.
FLOAT64 = {"rtol": 1e-12, "atol": 1e-14}


@pytest.mark.parametrize(
    ("progress", "rate", "momentum"),
    [
        (0.0, 4e-5, 0.95),
        (0.125, 5.2e-4, 0.90),
        (0.25, 1e-3, 0.85),
        (0.5, 7.5e-4, 0.875),
        (0.75, 2.5e-4, 0.925),
        (1.0, 1e-8, 0.95),
    ],
)
def test_one_cycle_has_the_values_of_fastai(progress, rate, momentum):
    """fastai 2.7, max 1e-3: the same on NumPy, on tensors and as a Keras schedule."""
    curve = OneCycle()
    np.testing.assert_allclose(1e-3 * curve.factor(progress), rate, rtol=0, atol=1e-7)
    np.testing.assert_allclose(curve.momentum_at(progress), momentum, rtol=0, atol=1e-7)
    tensor = ops.convert_to_tensor(progress, "float32")
    np.testing.assert_allclose(1e-3 * curve.factor(tensor, ops), rate, rtol=0, atol=1e-7)
    np.testing.assert_allclose(curve.momentum_at(tensor, ops), momentum, rtol=0, atol=1.2e-7)
    step = round(progress * 800)
    np.testing.assert_allclose(curve.over(1e-3, 800)(step), rate, rtol=0, atol=1e-7)


def test_one_cycle_falls_to_the_last_rate_within_float32():
    """1 - 0.99999 would lose half the digits; the formula does not subtract them."""
    np.testing.assert_allclose(float(OneCycle().over(1.0, 100)(100)), 1e-5, rtol=1e-6)


def test_both_phases_of_fine_tune_of_fastai_can_be_said():
    """By hand: head alone with 99 % warm-up; then 30 % from a fifth of the peak, as a cosine."""
    head, everything = OneCycle(warmup=0.99), OneCycle(warmup=0.3, start_div=5)
    assert head.factor(0.0) == pytest.approx(1 / 25)
    assert head.factor(0.99) == pytest.approx(1.0)
    assert head.factor(0.495) == pytest.approx((1 + 1 / 25) / 2)
    assert everything.factor(0.0) == pytest.approx(0.2)
    assert everything.factor(0.15) == pytest.approx(0.6)
    assert everything.factor(0.65) == pytest.approx((1 + 1e-5) / 2)


def howard_and_ruder(num_steps, cut_frac, ratio):
    """Howard & Ruder, 2018, equation 3, https://arxiv.org/abs/1801.06146, for a peak of 1."""
    rates = []
    cut = np.floor(num_steps * cut_frac)
    for t in range(num_steps):
        p = t / cut if t < cut else 1 - (t - cut) / (cut * (1 / cut_frac - 1))
        rates.append((1 + p * (ratio - 1)) / ratio)
    return rates


@pytest.mark.parametrize(
    ("num_steps", "cut_frac", "ratio"), [(100, 0.1, 32.0), (400, 0.25, 8.0), (20, 0.5, 2.0)]
)
def test_slanted_triangular_is_the_equation_of_the_paper(num_steps, cut_frac, ratio):
    curve = SlantedTriangular(cut_frac, ratio)
    got = [curve.factor(step / num_steps) for step in range(num_steps)]
    np.testing.assert_allclose(got, howard_and_ruder(num_steps, cut_frac, ratio), **FLOAT64)


@pytest.mark.parametrize("start", [0.0, 0.25])
@pytest.mark.parametrize("end", [0.0, 0.125])
def test_warmup_cosine_is_that_of_keras(start, end):
    mine = WarmupCosine(0.25, start, end).over(0.01, 64)
    keras_own = keras.optimizers.schedules.CosineDecay(
        0.01 * start, 48, alpha=end, warmup_target=0.01, warmup_steps=16
    )
    for step in [*range(64), 64, 100]:
        np.testing.assert_allclose(mine(step), keras_own(step), rtol=1e-5, atol=1e-9)


def test_warmup_linear_is_that_of_keras():
    mine = WarmupLinear(0.25, 0.25, 0.125).over(0.01, 64)
    rise = keras.optimizers.schedules.CosineDecay(0.0025, 48, warmup_target=0.01, warmup_steps=16)
    fall = keras.optimizers.schedules.PolynomialDecay(0.01, 48, 0.00125, power=1.0)
    for step in [*range(64), 64, 100]:
        want = rise(step) if step < 16 else fall(step - 16)
        np.testing.assert_allclose(mine(step), want, rtol=1e-5, atol=1e-9)


def test_exponential_multiplies_by_the_same_at_each_step():
    """By hand: 1e-7 to 10 over 100 steps is a factor of 10 ** 0.08 a step."""
    rates = Exponential(1e-7, 10.0).factor(np.arange(101) / 100)
    np.testing.assert_allclose(rates[1:] / rates[:-1], 10**0.08, rtol=1e-9)
    np.testing.assert_allclose(rates[[0, 100]], [1e-7, 10.0], rtol=1e-9)


@pytest.mark.parametrize("curve", ALL, ids=repr)
def test_numpy_tensors_and_schedule_agree_and_the_ends_hold(curve):
    steps = np.arange(0, 1001, 7)
    want = np.array([float(curve.factor(step / 1000)) for step in steps])
    np.testing.assert_allclose(curve.factor(steps / 1000), want, **FLOAT64)
    schedule = curve.over(2.0, 1000)
    got = [float(schedule(step)) for step in steps]
    np.testing.assert_allclose(got, 2.0 * want, **FLOAT32)
    assert np.isfinite(want).all()
    assert (want >= 0).all()
    assert float(schedule(5000)) == float(schedule(1000))


@pytest.mark.parametrize("curve", ALL, ids=repr)
def test_schedules_are_plain_data(curve):
    config = json.loads(json.dumps(curve.to_config()))
    assert schedules.from_config(config) == curve
    assert config["name"] == type(curve).__name__
    assert len({curve, schedules.from_config(config)}) == 1


@pytest.mark.parametrize("curve", ALL, ids=repr)
def test_a_schedule_survives_the_config_of_an_optimizer(curve):
    optimizer = keras.optimizers.Adam(curve.over(0.5, 30))
    made = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    schedule = made.get_config()["learning_rate"]["config"]
    assert schedule == curve.over(0.5, 30).get_config()
    assert float(made.learning_rate) == float(optimizer.learning_rate)


def test_only_one_cycle_sets_momentum():
    told = [curve for curve in ALL if curve.momentum_at(0.5) is not None]
    assert told == [OneCycle(), OneCycle(warmup=0.99)]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: OneCycle(warmup=1.5), r"`warmup` must be a share of the steps in \[0.0, 1.0\]"),
        (lambda: OneCycle(start_div=0.5), "start_div=0.5"),
        (lambda: OneCycle(momentum=(0.9,)), "a pair"),
        (lambda: OneCycle(momentum=(0.9, 1.0)), "momentum=1.0"),
        (lambda: SlantedTriangular(ratio=0.0), "ratio"),
        (lambda: WarmupCosine(end=2.0), "end=2.0"),
        (lambda: WarmupLinear(start=-1.0), "start=-1.0"),
        (lambda: Exponential(0.0, 1.0), "start=0.0"),
        (lambda: OneCycle().over(1e-3, 0), "num_steps=0"),
        (lambda: OneCycle().over(-1.0, 10), "peak=-1.0"),
        (lambda: schedules.from_config({"name": "OneCycl"}), "Closest: 'OneCycle'"),
    ],
)
def test_refusals(make, words):
    with pytest.raises(ValueError, match=words):
        make()
