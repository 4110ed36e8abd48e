"""Thaws joined where a trace takes longer than its epochs: by hand, as properties, refused."""

import dataclasses
import time

import keras
import numpy as np
import pytest

from kerastl.graph import layer_groups
from kerastl.plans import (
    EarlyStop,
    GroupWork,
    Phase,
    TrainingWork,
    TransferPlan,
    join_thaws,
    strategies,
    work_of,
)
from kerastl.plans import work as counting
from kerastl.schedules import OneCycle

GROUPS = ("stem", "low", "mid", "high", "head")
EVEN = dict.fromkeys(GROUPS, GroupWork(20, 20, 10**7, 10**5))


def work(examples, groups=EVEN, copies=0):
    return TrainingWork(groups, examples, batch_size=32, copies=copies)


def seconds(plan, work):
    """Those of all phases, each traced once."""
    phases = [(one.training, one.phase.epochs) for one in plan.resolve(GROUPS).phases]
    return sum(work.trace(*phase) + work.epochs(*phase) for phase in phases)


def small():
    inputs = keras.Input((6, 6, 3))
    hidden = keras.layers.Conv2D(4, 3, padding="same", name="conv")(inputs)
    hidden = keras.layers.BatchNormalization(name="norm")(hidden)
    hidden = keras.layers.DepthwiseConv2D(3, use_bias=False, name="deep")(hidden)
    hidden = keras.layers.GlobalAveragePooling2D(name="pool")(hidden)
    return keras.Model(inputs, keras.layers.Dense(5, name="head")(hidden))


def test_the_work_of_a_network_by_hand():
    model = small()
    found = work_of(model, layer_groups(model))
    assert sum(found.values(), GroupWork()) == GroupWork(
        operations=5,
        variables=2 + 2 + 1 + 2,
        multiply_adds=36 * 3 * 3 * 3 * 4 + 16 * 3 * 3 * 4 + 4 * 5,
        values=36 * 4 + 36 * 4 + 16 * 4 + 4 + 5,
    )
    assert found["head"] == GroupWork(2, 2, 4 * 5, 4 + 5)


def test_texts_are_counted_by_tokens_and_lookups_are_free():
    tokens = keras.Input((None,), dtype="int32")
    embedded = keras.layers.Embedding(1000, 8, name="embedding")(tokens)
    attention = keras.layers.MultiHeadAttention(2, 4, use_bias=False, name="attention")
    model = keras.Model(tokens, attention(embedded, embedded))
    total = sum(work_of(model, layer_groups(model)).values(), GroupWork())
    assert total.multiply_adds == counting.UNKNOWN_LENGTH * 4 * 8 * 8
    assert total.variables == 1 + 4


def test_a_trace_and_an_epoch_by_hand(monkeypatch):
    trace = {"once": 1.0, "forward": 2.0, "backward": 3.0, "variable": 5.0}
    step = {"operation": 11.0, "multiply_add": 13.0, "value": 17.0, "augmented": 0.5}
    monkeypatch.setattr(counting, "TRACE", trace)
    monkeypatch.setattr(counting, "STEP", step)
    groups = {"body": GroupWork(4, 3, 20, 6), "head": GroupWork(1, 2, 10, 5)}
    raw = TrainingWork(groups, examples=33, batch_size=32, copies=0, inputs=8)
    assert raw.trace(["head"], 2) == 1 + 2 * 5 + 3 * 1 + 5 * 2
    assert raw.trace(["body", "head"], 2) == 1 + 2 * 5 + 3 * 5 + 5 * 5
    one = 2 * 11 * (4 + 3) + 33 * (13 * (20 + 30) + 17 * (6 + 15))
    augmented = 33 * 8 / 2
    assert raw.epochs(["head"], 2) == 2 * (one + augmented)
    cached = dataclasses.replace(raw, copies=1)
    assert cached.epochs(["head"], 1) == one  # nothing to be read again
    assert cached.epochs(["head"], 2) == 2 * (2 * 11 * 3 + 33 * (13 * 30 + 17 * 15))
    assert cached.trace(["head"], 2) == raw.trace(["head"], 2) + 1  # two graphs in place of one


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("copies", [0, 1])
def test_a_joined_plan_is_the_plan_in_fewer_phases(seed, copies):
    rng = np.random.default_rng(seed)
    sizes = [GroupWork(*map(int, rng.integers(1, (60, 60, 10**8, 10**6)))) for _ in GROUPS]
    found = work(int(10 ** rng.uniform(1, 4)), dict(zip(GROUPS, sizes, strict=True)), copies)
    plan = strategies.gradual(GROUPS, epochs=int(rng.integers(1, 40)), learning_rate=0.01)
    joined = join_thaws(plan, GROUPS, found)
    before, after = plan.resolve(GROUPS), joined.resolve(GROUPS)
    assert joined.epochs == plan.epochs and joined.schedule == plan.schedule
    assert after.phases[0].phase == before.phases[0].phase
    assert after.phases[-1].training == before.phases[-1].training
    assert set(joined.starts) <= set(plan.starts)
    assert {p.training for p in after.phases} <= {p.training for p in before.phases}
    for phase in joined.phases:
        assert phase.multipliers == plan.phases[-1].multipliers
        assert phase.learning_rate == plan.phases[-1].learning_rate
    assert seconds(joined, found) <= seconds(plan, found)
    assert TransferPlan.from_json(joined.to_json()) == joined


def test_large_data_keep_all_thaws_and_little_data_join_them():
    plan = strategies.gradual(GROUPS, epochs=20)
    assert join_thaws(plan, GROUPS, work(10**5)) == plan
    joined = join_thaws(plan, GROUPS, work(10))
    assert joined.resolve(GROUPS).thaws == strategies.full(GROUPS, epochs=20).resolve(GROUPS).thaws
    phases = [len(join_thaws(plan, GROUPS, work(n)).phases) for n in np.geomspace(10, 10**5, 20)]
    assert phases == sorted(phases) and set(phases) > {2, 5}


def test_by_name_joins_only_where_it_is_told_of_the_work():
    plain = strategies.gradual(GROUPS, epochs=20)
    assert strategies.by_name("gradual", GROUPS, epochs=20) == plain
    told = strategies.by_name("gradual", GROUPS, epochs=20, work=work(10))
    assert told == join_thaws(plain, GROUPS, work(10)) != plain
    for name in ("head", "partial", "full", "lp_ft", "fastai"):
        settings = {"epochs": 20, "learning_rate": 0.01}
        plan = strategies.by_name(name, GROUPS, **settings)
        assert strategies.by_name(name, GROUPS, work=work(10), **settings) == plan


@pytest.mark.parametrize(
    "other",
    [
        {"schedule": OneCycle()},
        {"early_stop": EarlyStop()},
        {"learning_rate": 0.02},
        {"batch_norm": "train"},
        {"multipliers": {"head": 0.5}},
        {"train": "stem"},
    ],
    ids=str,
)
def test_phases_that_differ_in_more_stay_two(other):
    plain = {"learning_rate": 0.01, "train": 2}
    plan = TransferPlan([Phase(1, 1, learning_rate=0.01), Phase(1, **plain), Phase(1, **plain)])
    assert len(join_thaws(plan, GROUPS, work(10)).phases) == 2
    phases = [*plan.phases[:2], Phase(1, **{**plain, **other})]
    plan = dataclasses.replace(plan, phases=phases)
    assert join_thaws(plan, GROUPS, work(10)) == plan


def test_the_choice_has_no_clock_in_it(monkeypatch):
    def refuse():
        raise AssertionError("a clock was read")

    for name in ("time", "perf_counter", "monotonic", "process_time"):
        monkeypatch.setattr(time, name, refuse)
    model = small()
    groups = layer_groups(model)
    found = TrainingWork.of(model, groups, examples=40, batch_size=8, copies=0)
    assert found.inputs == 6 * 6 * 3
    plans = {join_thaws(strategies.gradual(groups, epochs=9), groups, found) for _ in range(2)}
    assert len(plans) == 1


def test_work_of_other_groups_is_refused():
    plan = strategies.gradual(GROUPS[1:], epochs=4)
    with pytest.raises(ValueError, match=r"must be of the groups low, mid, high, head\. Received"):
        join_thaws(plan, GROUPS[1:], work(10))
