"""FollowPlan does what the plan says, step by step, and equals the loop written by hand."""

import math

import keras
import numpy as np
import pytest

from kerastl.callbacks import Audit, FollowPlan, GradualUnfreezing
from kerastl.freezing import freeze, unfreeze
from kerastl.plans import EarlyStop, Phase, TransferPlan, strategies
from kerastl.schedules import OneCycle, SlantedTriangular, WarmupCosine
from kerastl.training import FineTuner
from tests.callbacks.follow_plan_cases import GROUPS, LOSS, compiled, fit, one_cycle, three_phases
from tests.tolerances import ELEMENTWISE, EXACT, REDUCTION
from tests.training.test_fine_tuner import data, small, weights_equal


class Rates(keras.callbacks.Callback):
    """Sets the rate of each step by hand."""

    def __init__(self, rate_of_step):
        super().__init__()
        self.rate_of_step = rate_of_step

    def on_train_batch_begin(self, batch, logs=None):
        step = int(self.model.optimizer.iterations)
        self.model.optimizer.learning_rate = self.rate_of_step(step)


def test_every_step_has_the_rates_of_the_table():
    """Peak times factor times multiplier, worked out here for each of the 16 steps."""
    plan = TransferPlan(
        [
            Phase(1, "head", learning_rate=0.02, schedule=OneCycle(warmup=0.99)),
            Phase(2, "all", learning_rate=0.01, multipliers={"block_1": 0.01, "block_2": 0.1},
                  schedule=OneCycle(warmup=0.3, start_div=5.0)),
            Phase(1, ("block_2", "head"), learning_rate=0.001),
        ]
    )  # fmt: skip
    callback = FollowPlan(plan)
    history = fit(compiled(), callback, epochs=4)
    expected = []
    for step in range(16):
        if step < 4:
            expected.append({"head": 0.02 * one_cycle(step / 4, 0.99, 25)})
        elif step < 12:
            shared = 0.01 * one_cycle((step - 4) / 8, 0.3, 5)
            expected.append({"block_1": 0.01 * shared, "block_2": 0.1 * shared, "head": shared})
        else:
            expected.append({"block_2": 0.001, "head": 0.001})
    assert [step for step, _ in callback.rates] == list(range(16))
    for (_, rates), by_hand in zip(callback.rates, expected, strict=True):
        assert list(rates) == list(by_hand)
        np.testing.assert_allclose(list(rates.values()), list(by_hand.values()), **ELEMENTWISE)
    for name in GROUPS:  # the last step of each epoch; 0 while frozen
        last = [expected[4 * epoch + 3].get(name, 0.0) for epoch in range(4)]
        np.testing.assert_allclose(history[f"learning_rate/{name}"], last, **ELEMENTWISE)
    assert history["learning_rate"] == history["learning_rate/head"]


def test_a_schedule_over_the_whole_plan_goes_on_across_phases():
    plan = TransferPlan(
        [Phase(1, "head", learning_rate=0.02), Phase(3, "all", learning_rate=0.01)],
        schedule=SlantedTriangular(cut_frac=0.25, ratio=8.0),
    )
    callback = FollowPlan(plan)
    fit(compiled(), callback, epochs=4)
    for step, rates in callback.rates:
        # By hand: 1/8 to 1 over the first 4 of 16 steps, back to 1/8 over the other 12.
        rise = step / 4 if step < 4 else 1 - (step - 4) / 12
        peak = 0.02 if step < 4 else 0.01
        assert rates["head"] == pytest.approx(peak * (1 + 7 * rise) / 8, rel=1e-6)


def test_it_equals_fits_written_by_hand_bit_for_bit():
    model, by_hand = compiled(), compiled()
    fit(model, FollowPlan(three_phases()), Audit(), epochs=4)
    fits = [(0, 1, 1, 0.02, {}), (1, 3, 2, 0.01, {"block_2": 0.1}),
            (3, 4, 3, 0.004, {"block_1": 0.01, "block_2": 0.5})]  # fmt: skip
    for start, end, n, rate, multipliers in fits:
        layers = [layer for name in GROUPS for layer in by_hand.groups[name]]
        freeze(by_hand, layers)
        training = [layer for name in GROUPS[-n:] for layer in by_hand.groups[name]]
        unfreeze(by_hand, training, batch_norm="inference")
        by_hand.optimizer.learning_rate = rate
        by_hand.set_multipliers(multipliers)
        fit(by_hand, initial_epoch=start, epochs=end)
    weights_equal(model, by_hand, **EXACT)


def test_its_schedules_equal_rates_set_by_hand_at_each_step():
    plan = TransferPlan(
        [
            Phase(1, "head", learning_rate=0.02, schedule=OneCycle(momentum=None)),
            Phase(2, "all", learning_rate=0.01, schedule=WarmupCosine(warmup=0.25, start=0.1)),
        ]
    )

    def rate(step):
        if step < 4:
            return 0.02 * one_cycle(step / 4, 0.25, 25)
        p = (step - 4) / 8
        rise = 0.1 + 0.9 * p / 0.25 if p < 0.25 else 0.0
        return 0.01 * (rise or (1 + math.cos(math.pi * (p - 0.25) / 0.75)) / 2)

    shaped, by_hand = compiled(keras.optimizers.SGD(0.5)), compiled(keras.optimizers.SGD(0.5))
    fit(shaped, FollowPlan(plan), epochs=3)
    plain = TransferPlan([Phase(1, "head"), Phase(2, "all")])
    fit(by_hand, FollowPlan(plain), Rates(rate), epochs=3)
    weights_equal(shaped, by_hand, **REDUCTION)


def test_the_plan_of_gradual_trains_as_strategies_did_before_plans():
    """GradualUnfreezing, multipliers at compile and CosineDecay: what `tune` did up to now."""
    names, epochs = GROUPS, 10
    plan = strategies.gradual(names, epochs=epochs, learning_rate=0.02)
    thaws = plan.resolve(names).thaws
    assert list(thaws) == [0, 2, 5]
    before = compiled(
        keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(
                0.02 / 25, 36, warmup_target=0.02, warmup_steps=4
            ),
            weight_decay=1e-2,
        ),
        multipliers=dict(plan.phases[-1].multipliers),
    )
    now = compiled(keras.optimizers.AdamW(0.02, weight_decay=1e-2))
    histories = [
        fit(before, GradualUnfreezing(thaws), epochs=epochs),
        fit(now, FollowPlan(plan), epochs=epochs),
    ]
    np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], **REDUCTION)
    weights_equal(before, now, **REDUCTION)


class Watch(keras.callbacks.Callback):
    """Keeps the optimizer's variables at both ends of each epoch, by name."""

    def __init__(self):
        super().__init__()
        self.begin, self.end = [], []

    def _now(self):
        return {v.path: v.numpy() for v in self.model.optimizer.variables}

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 0:
            self.begin.append(self._now())

    def on_epoch_end(self, epoch, logs=None):
        self.end.append(self._now())


def test_moments_are_kept_and_a_phase_is_traced_once():
    class Counting(FineTuner):
        traces = 0

        def train_step(self, data):
            Counting.traces += 1
            return super().train_step(data)

    model, watch = Counting.from_model(small()), Watch()
    model.compile(keras.optimizers.Adam(0.5), LOSS)
    fit(model, FollowPlan(three_phases(schedule=OneCycle())), watch, epochs=4)
    assert Counting.traces == 3
    for before, after in zip(watch.end[:-1], watch.begin[1:], strict=True):
        moments = [name for name in before if "momentum" in name or "velocity" in name]
        assert len(moments) == 16  # two for each of the 8 weights that ever train, from the start
        for name in moments:
            np.testing.assert_array_equal(before[name], after[name])
    head = next(name for name in watch.end[0] if "head_kernel" in name and "velocity" in name)
    assert np.all(watch.end[0][head] > 0)


def test_groups_that_never_train_have_no_slots():
    model = compiled()
    fit(model, FollowPlan(TransferPlan([Phase(1, 1), Phase(1, 2)])), epochs=2)
    assert {path.split("/")[-2] for path in model.multipliers} == {"mid", "head"}
    assert not model.get_layer("low").trainable


def test_decay_of_each_phase():
    """Without gradients `w *= 1 - decay * rate` a step; the bias is spared or not by `no_decay`."""
    plan = TransferPlan(
        [
            Phase(1, "head", learning_rate=0.1, weight_decay=0.5),
            Phase(1, 2, learning_rate=0.2, weight_decay=0.25, multipliers={"head": 0.1}),
        ]
    )
    model = compiled(keras.optimizers.SGD(0.1, weight_decay=0.9), no_decay=True)
    before = model.get_layer("head").kernel.numpy()
    fit(model, FollowPlan(plan), epochs=2, sample_weight=np.zeros(32, "float32"))
    factor = (1 - 0.5 * 0.1) ** 4 * (1 - 0.25 * 0.2 * 0.1) ** 4
    np.testing.assert_allclose(model.get_layer("head").kernel, before * factor, **REDUCTION)


def with_norm_in_the_head():
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Dense(8, name="low"),
        keras.layers.BatchNormalization(name="norm"),
        keras.layers.GlobalAveragePooling1D(name="pool"),
        keras.layers.BatchNormalization(name="head_norm"),
        keras.layers.Dense(3, activation="softmax", name="head"),
    ]
    return keras.Sequential([keras.Input((2, 3)), *layers])


def moved_in_the_last_epoch(phases):
    """Whether scale and mean moved, of the batch normalization in the backbone and in the head."""
    model = FineTuner.from_model(with_norm_in_the_head())
    model.compile("sgd", LOSS)
    old, new = model.get_layer("norm"), model.get_layer("head_norm")
    watched, seen = (old.gamma, old.moving_mean, new.gamma, new.moving_mean), []
    keep = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append([v.numpy() for v in watched])
    )
    x, y = data()
    callbacks = [FollowPlan(TransferPlan(phases)), keep]
    model.fit(x.reshape(-1, 2, 3), y, epochs=len(phases), verbose=0, callbacks=callbacks)
    return [not np.array_equal(a, b.numpy()) for a, b in zip(seen[-1], watched, strict=True)]


@pytest.mark.parametrize(
    ("policy", "other", "affine", "statistics"),
    [
        ("inference", "train", True, False),
        ("frozen", "train", False, False),
        ("train", "inference", True, True),
    ],
)
def test_batch_norm_obeys_its_phase_and_a_new_head_learns(policy, other, affine, statistics):
    """On a model that was never frozen, and again after a phase with another policy."""
    last = Phase(1, "all", batch_norm=policy)
    expected = [affine, statistics, True, True]
    assert moved_in_the_last_epoch([last]) == expected
    assert moved_in_the_last_epoch([Phase(1, "all", batch_norm=other), last]) == expected


def test_a_compiled_schedule_is_left_alone_by_a_plan_without_rates():
    decay = keras.optimizers.schedules.PiecewiseConstantDecay([5], [0.1, 0.02])
    model = compiled(keras.optimizers.SGD(decay), steps_per_execution=4)
    callback = FollowPlan(TransferPlan([Phase(2, "head"), Phase(1, 2, multipliers={"head": 0.5})]))
    fit(model, callback, epochs=3)
    heads = [rates["head"] for _, rates in callback.rates]
    # Keras's boundary belongs to the value before it.
    np.testing.assert_allclose(heads, [0.1] * 6 + [0.02] * 2 + [0.01] * 4, **ELEMENTWISE)
    for plan in (three_phases(), TransferPlan([Phase(3, "all", schedule=OneCycle())])):
        with pytest.raises(ValueError, match="compiled with a number"):
            fit(model, FollowPlan(plan), epochs=3)


def test_when_the_plan_is_over_its_schedule_is_off():
    """A later `fit` would stand still at the end of the shape, without a word."""
    model = compiled()
    plan = TransferPlan([Phase(2, "head", learning_rate=0.02, schedule=WarmupCosine())])
    fit(model, FollowPlan(plan), epochs=1)
    assert model.lr_multiplier.schedule is not None  # a later fit goes on with the plan
    fit(model, FollowPlan(plan), initial_epoch=1, epochs=2)
    assert model.lr_multiplier.schedule is None
    assert float(model.optimizer.learning_rate) == np.float32(0.02)


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (lambda: FollowPlan([Phase(1, "head")]), TypeError, "kerastl.plans.strategies"),
        (lambda: FollowPlan(three_phases()).set_model(small()), TypeError, "from_model"),
        (
            lambda: fit(compiled(), FollowPlan(three_phases()), epochs=5),
            ValueError,
            "must be at most 4.*Received: epochs=5",
        ),
        (
            lambda: fit(compiled(), FollowPlan(TransferPlan([Phase(1, "haed")])), epochs=1),
            ValueError,
            r"phases\[0\].*Closest: 'head'",
        ),
        (
            lambda: fit(
                compiled(),
                FollowPlan(TransferPlan([Phase(1, 1, early_stop=EarlyStop("val_los"))])),
                epochs=1,
                validation_data=data(),
            ),
            ValueError,
            "EarlyStop needs 'val_los'.*Closest: 'val_loss'",
        ),
    ],
)
def test_refusals(run, error, message):
    with pytest.raises(error, match=message):
        run()
