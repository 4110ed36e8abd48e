"""Strategies against the papers' numbers by hand, and the measured ones against what they were."""

import dataclasses
import itertools

import keras
import numpy as np
import pytest

from kerastl.graph import layer_groups
from kerastl.plans import TransferPlan, recommend, strategies
from kerastl.schedules import OneCycle, SlantedTriangular, WarmupCosine
from tests.tolerances import ELEMENTWISE

GROUPS = ["stem", "low", "mid", "high", "head"]
ALL = {
    name: getattr(strategies, name)
    for name in ("head", "partial", "full", "gradual", "ulmfit", "lp_ft", "fastai")
}


def rates_of(plan, groups=GROUPS):
    return [phase.rates for phase in plan.resolve(groups).phases]


@pytest.mark.parametrize("strategy", ALL.values(), ids=ALL)
@pytest.mark.parametrize("epochs", [2, 5, 30])
@pytest.mark.parametrize("groups", [GROUPS, ["body", "head"], ["head"]], ids=len)
def test_every_strategy_uses_its_epochs_and_trains_the_head_throughout(strategy, epochs, groups):
    plan = strategy(groups, epochs=epochs, learning_rate=0.01)
    resolved = plan.resolve(groups)
    assert plan.epochs == epochs
    assert TransferPlan.from_json(plan.to_json()) == plan
    assert all("head" in phase.training for phase in resolved.phases)
    for phase in resolved.phases:  # the nearer the head, the faster
        assert list(phase.rates.values()) == sorted(phase.rates.values())
    grows = [set(phase.training) for phase in resolved.phases]
    assert all(a <= b for a, b in itertools.pairwise(grows))
    assert max(max(rates.values()) for rates in rates_of(plan, groups)) == 0.01


def test_head_trains_the_head():
    plan = strategies.head(GROUPS, epochs=5, learning_rate=0.1, schedule=None)
    assert rates_of(plan) == [{"head": 0.1}]
    assert plan.schedules == (None,)


def test_ulmfit_has_the_papers_rates():
    plan = strategies.ulmfit(GROUPS, epochs=8, learning_rate=0.01, every=1)
    resolved = plan.resolve(GROUPS)
    assert resolved.thaws == {0: ["head"], 1: ["high"], 2: ["mid"], 3: ["low"], 4: ["stem"]}
    assert plan.schedule == SlantedTriangular()
    for phase in resolved.phases:
        for i, name in enumerate(reversed(phase.training)):
            assert phase.rates[name] == pytest.approx(0.01 / 2.6**i, rel=1e-12)


def test_ulmfit_spreads_its_thaws_over_the_epochs():
    thaws = strategies.ulmfit(GROUPS, epochs=12, learning_rate=0.01).resolve(GROUPS).thaws
    assert list(thaws) == [0, 2, 4, 7, 9]  # i * 12 // 5
    thaws = strategies.ulmfit(GROUPS, epochs=2, learning_rate=0.01).resolve(GROUPS).thaws
    assert thaws == {0: ["head", "high", "mid"], 1: ["low", "stem"]}


def test_lp_ft_has_two_rates():
    plan = strategies.lp_ft(GROUPS, epochs=7, learning_rate=0.03)
    assert [phase.epochs for phase in plan.phases] == [3, 4]
    head, everything = rates_of(plan)
    assert head == {"head": 0.03}
    assert everything == dict.fromkeys(GROUPS, 0.03 / 30)
    _, tenth = rates_of(strategies.lp_ft(GROUPS, epochs=7, learning_rate=0.03, divisor=10.0))
    assert tenth == dict.fromkeys(GROUPS, 0.03 / 10)
    assert plan.schedules == (strategies.COSINE, strategies.COSINE)


def test_no_strategy_by_name_trains_the_layers_below_the_head_faster_than_another():
    """Adapters are new, and learn ten times as fast."""
    fastest = {}
    for name in set(strategies.NAMES) - {"head", "fastai", "few_shot", "lora", "adapters"}:
        last = rates_of(strategies.by_name(name, GROUPS, epochs=8, learning_rate=0.03))[-1]
        fastest[name] = max(last[group] for group in GROUPS if group != "head" and group in last)
    assert fastest == pytest.approx(dict.fromkeys(fastest, 0.001), rel=1e-12)


def test_fastai_has_the_numbers_of_its_fine_tune():
    """`fine_tune(epochs=3, base_lr=2e-3)` of fastai 2.7, `fastai/callback/schedule.py`:

    freeze; fit_one_cycle(1, slice(base_lr), pct_start=0.99); base_lr /= 2; unfreeze;
    fit_one_cycle(3, slice(base_lr / 100, base_lr), pct_start=0.3, div=5.0), where a slice is
    spread geometrically: 1e-5 * 100 ** (i / 4) for five groups.
    """
    plan = strategies.fastai(GROUPS, epochs=4)
    head, everything = rates_of(plan)
    assert [phase.epochs for phase in plan.phases] == [1, 3]
    assert head == {"head": 2e-3}
    np.testing.assert_allclose(
        list(everything.values()), [1e-5 * 100 ** (i / 4) for i in range(5)], rtol=1e-11
    )
    first, second = plan.schedules
    assert first == OneCycle(warmup=0.99, start_div=25.0, end_div=1e5, momentum=(0.95, 0.85))
    assert second == OneCycle(warmup=0.3, start_div=5.0, end_div=1e5, momentum=(0.95, 0.85))
    # The stem's first, highest and last rate in the second phase.
    stem = everything["stem"] * second.factor(np.array([0.0, 0.3, 1.0]))
    np.testing.assert_allclose(stem, [2e-6, 1e-5, 1e-10], rtol=1e-9)


@pytest.mark.parametrize(
    ("num_examples", "shift", "expected", "words"),
    [
        (24, "near", "head", "fewer than 5 a class cannot even be evaluated"),
        (24, "far", "head", "fewer than 5 a class"),
        (100, "near", "head", "only the head trains"),
        (999, "near", "head", "only the head trains"),
        (999, "far", "partial", "top blocks"),
        (1_000, "near", "partial", "top blocks"),
        (1_000, "far", "full", "early features do not fit"),
        (10_000, "near", "full", "slower than the head"),
        (99_999, "far", "full", "slower than the head"),
        (100_000, "far", "full", "training from scratch may do as well"),
        (10**6, "near", "full", "slower than the head"),
    ],
)
def test_recommend_by_its_table(num_examples, shift, expected, words):
    plan = recommend(GROUPS, num_examples=num_examples, num_classes=5, shift=shift, epochs=4)
    assert plan.name == expected
    same = ALL[expected](GROUPS, epochs=4, learning_rate=5e-3)
    assert dataclasses.replace(plan, reason="") == same
    assert words in plan.reason
    assert plan.reason.startswith(f"{num_examples:,} examples of 5 classes {shift}")
    assert plan.reason.count(".") == 1  # one sentence
    assert plan.reason in str(plan)
    assert ("scratch" in plan.reason) == (num_examples >= 100_000 and shift == "far")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: strategies.lp_ft(GROUPS, epochs=1, learning_rate=0.1), "Received: epochs=1"),
        (lambda: strategies.lp_ft(GROUPS, epochs=3, learning_rate=0.1, head_epochs=3), "head_ep"),
        (lambda: strategies.fastai(GROUPS, epochs=1), "Received: epochs=1"),
        (
            lambda: strategies.ulmfit(GROUPS, epochs=4, learning_rate=0.1, every=1),
            "`epochs` must be at least 5 for 5 groups",
        ),
        (lambda: strategies.full("head", epochs=4, learning_rate=0.1), "distinct group names"),
        (lambda: strategies.full(GROUPS, epochs=4, learning_rate=0), "learning_rate=0"),
        (
            lambda: recommend(GROUPS, num_examples=9, num_classes=2, shift="fra"),
            "Closest: 'far'",
        ),
        (lambda: recommend(GROUPS, num_examples=0, num_classes=2), "num_examples=0"),
        (lambda: strategies.by_name("gradul", GROUPS, epochs=4), "Closest: 'gradual'"),
        (lambda: strategies.by_name("lp_ft", GROUPS, epochs=4), "Received: learning_rate=None"),
        (
            lambda: strategies.by_name(
                "fastai", GROUPS, epochs=4, learning_rate=0.1, schedule=None
            ),
            "schedules of its own, one a phase.*Received: schedule=None",
        ),
        (lambda: strategies.head(GROUPS, epochs=0), "Received: epochs=0"),
        (lambda: strategies.gradual(GROUPS, epochs=0), "Received: epochs=0"),
        (lambda: strategies.full(GROUPS, epochs=4, head_rate_over_backbone=0), "backbone=0"),
        (lambda: strategies.partial(GROUPS, epochs=4, spread=0), "Received: spread=0"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# By hand, for four groups below the head: a quarter of the epochs, one at least, is the head's;
# then the top third of the others (2 of 4), all, or one after the other until three quarters.
THAWS = {
    ("head", 8): {0: ["head"]},
    ("partial", 1): {0: ["head"]},
    ("partial", 2): {0: ["head"], 1: ["high", "mid"]},
    ("partial", 20): {0: ["head"], 5: ["high", "mid"]},
    ("full", 8): {0: ["head"], 2: ["high", "mid", "low", "stem"]},
    ("gradual", 1): {0: ["head"]},
    ("gradual", 2): {0: ["head"], 1: ["high", "mid", "low", "stem"]},
    ("gradual", 8): {0: ["head"], 2: ["high"], 3: ["mid"], 4: ["low"], 5: ["stem"]},
    ("gradual", 20): {0: ["head"], 5: ["high"], 7: ["mid"], 10: ["low"], 12: ["stem"]},
}


@pytest.mark.parametrize(("name", "epochs"), THAWS, ids=str)
def test_the_measured_defaults_thaw_as_ever(name, epochs):
    plan = ALL[name](GROUPS, epochs=epochs)
    assert plan.epochs == epochs
    assert plan.resolve(GROUPS).thaws == THAWS[name, epochs]


def test_the_measured_defaults_have_the_multipliers_they_ever_had():
    # 1 / 30 below the head, a fifth of that at the input, geometric between: 5 ** -(1 - i / 3).
    expected = [5 ** -(1 - i / 3) / 30 for i in range(4)] + [1.0]
    plan = strategies.gradual(GROUPS, epochs=20, learning_rate=0.01)
    for phase in plan.phases:
        np.testing.assert_allclose(list(phase.multipliers.values()), expected, rtol=1e-11)
        assert phase.learning_rate == 0.01
    top = strategies.head(GROUPS, epochs=20).phases[0]
    assert top.multipliers == {"head": 1.0}
    assert top.learning_rate is None
    other = strategies.full(GROUPS, epochs=4, head_rate_over_backbone=3.0, spread=10.0)
    assert next(iter(other.phases[-1].multipliers.values())) == pytest.approx(1 / 30)


FIRST = {"head": 4, "gradual": 3, "partial": 2, "full": 0}  # the lowest group that trains at once


@pytest.mark.parametrize("name", FIRST)
def test_from_the_probe_the_head_learns_no_faster_than_the_group_below_it(name):
    plan = strategies.by_name(name, GROUPS, epochs=8, learning_rate=0.01, start="probe")
    before = strategies.by_name(name, GROUPS, epochs=8, learning_rate=0.01)
    expected = {**before.phases[-1].multipliers, "head": 1 / 30}
    assert all(phase.multipliers == expected for phase in plan.phases)
    assert set(plan.resolve(GROUPS).thaws[0]) == set(GROUPS[FIRST[name] :])


def test_the_rate_of_the_measured_defaults_is_keras_cosine_decay():
    """A warm-up of a tenth of the steps from 1/25 of the rate, then `CosineDecay` to 0."""
    before = keras.optimizers.schedules.CosineDecay(
        0.01 / 25, 90, warmup_target=0.01, warmup_steps=10
    )
    plan = strategies.full(GROUPS, epochs=20)
    assert plan.schedule == WarmupCosine(warmup=0.1, start=1 / 25)
    steps = np.arange(100)
    np.testing.assert_allclose(
        0.01 * plan.schedule.factor(steps / 100),
        [float(before(step)) for step in steps],
        **ELEMENTWISE,
    )


def test_strategies_take_the_groups_of_a_model():
    model = keras.applications.MobileNet(
        input_shape=(32, 32, 3), alpha=0.25, weights=None, classes=2
    )
    groups = layer_groups(model)
    for strategy in ALL.values():
        plan = strategy(groups, epochs=20, learning_rate=0.01)
        assert plan == strategy(list(groups.names), epochs=20, learning_rate=0.01)
