"""What FollowPlan remembers: phases that ended early, reductions, the log of rates."""

import itertools
import json

import keras
import numpy as np
import pytest

from kerastl.callbacks import FollowPlan, Resume
from kerastl.plans import EarlyStop, Phase, TransferPlan
from kerastl.schedules import OneCycle
from tests.callbacks.follow_plan_cases import compiled, fit, one_cycle, three_phases
from tests.tolerances import ELEMENTWISE, EXACT
from tests.training.test_fine_tuner import data, weights_equal


def early(patience=1, epochs=(5, 4)):
    """A plan whose first phase ends early: no loss ever improves by 10."""
    stop = EarlyStop("loss", patience=patience, min_delta=10.0, mode="min")
    return TransferPlan(
        [
            Phase(epochs[0], "head", learning_rate=0.02, early_stop=stop, schedule=OneCycle()),
            Phase(epochs[1], "all", learning_rate=0.01, schedule=OneCycle()),
        ]
    )


def test_a_phase_that_ends_early_moves_the_next_ones_forward():
    callback, model = FollowPlan(early(patience=2)), compiled(run_eagerly=True)
    history = fit(model, callback, epochs=9)
    # Epoch 0 sets the best value, 1 and 2 do not improve it; then come the 4 of the next phase.
    assert len(history["loss"]) == 7
    assert model.stop_training
    heads = [rates["head"] for _, rates in callback.rates]
    by_hand = [0.02 * one_cycle(i / 20, 0.25, 25) for i in range(12)]
    by_hand += [0.01 * one_cycle(i / 16, 0.25, 25) for i in range(16)]
    np.testing.assert_allclose(heads, by_hand, **ELEMENTWISE)
    assert [len(rates) for _, rates in callback.rates] == [1] * 12 + [3] * 16
    # Nothing is left to train, also where epochs are.
    assert fit(model, callback, initial_epoch=7, epochs=9) == {}
    with pytest.raises(RuntimeError, match="ended before epoch 7"):
        fit(model, callback, initial_epoch=7, epochs=9, steps_per_epoch=4)


def test_early_stop_asks_the_metric_which_way_is_up():
    """Accuracy that stays the same is no improvement; `mode="auto"` knows that more is better."""
    plan = TransferPlan(
        [Phase(3, "head", learning_rate=1e-9, early_stop=EarlyStop("val_accuracy", patience=1)),
         Phase(1, 2, learning_rate=0.01)]
    )  # fmt: skip
    callback, model = FollowPlan(plan), compiled(metrics=["accuracy"], run_eagerly=True)
    fit(model, callback, epochs=4, validation_data=data())
    assert [len(rates) for _, rates in callback.rates] == [1] * 8 + [2] * 4


def test_state_goes_through_json_and_remembers_early_ends_and_reductions():
    plan = early()
    models = []
    for cuts in ([0, 6], [0, 1, 2, 4, 6]):
        model, state, rates = compiled(), {}, []
        plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=10.0)
        plateau.on_train_begin = lambda logs=None: None  # Keras would forget its best value
        plateau._reset()
        for start, end in itertools.pairwise(cuts):
            callback = FollowPlan(plan)
            assert callback.get_state() == {}
            callback.set_state(json.loads(json.dumps(state)))
            fit(model, callback, plateau, initial_epoch=start, epochs=end)
            state = callback.get_state()
            rates += callback.rates
        models.append((model, rates, state))
    (whole, rates, state), (parts, rates_of_parts, state_of_parts) = models
    weights_equal(whole, parts, **EXACT)
    assert rates == rates_of_parts
    assert state == state_of_parts
    assert state["phase_epoch"] == 2  # the first phase ended after its second epoch
    assert state["reduction"] == 0.5**5
    assert rates[8][1]["head"] == pytest.approx(0.01 * 0.5 / 25, rel=1e-6)


def test_a_state_of_another_plan_or_epoch_is_refused():
    model, callback = compiled(run_eagerly=True), FollowPlan(early())
    fit(model, callback, epochs=1)
    with pytest.raises(ValueError, match="this very plan"):
        FollowPlan(early(patience=3)).set_state(callback.get_state())
    other = FollowPlan(early())
    other.set_state(callback.get_state())
    with pytest.raises(RuntimeError, match="state of epoch 1, initial_epoch=3"):
        fit(model, other, initial_epoch=3, epochs=4)


class Killed(Exception):
    pass


class Kill(keras.callbacks.Callback):
    """Ends the run after so many steps of its process."""

    def __init__(self, after):
        super().__init__()
        self.left = after

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise Killed


def test_an_epoch_that_was_interrupted_begins_again():
    """In one process, without a state: the shape's steps are those of the epoch's second run."""
    callback, model = FollowPlan(early()), compiled(run_eagerly=True)
    with pytest.raises(Killed):
        fit(model, callback, Kill(6), epochs=2)
    fit(model, callback, initial_epoch=1, epochs=2)
    by_hand = [0.02 * one_cycle(i / 20, 0.25, 25) for i in range(4, 8)]
    heads = [rates["head"] for _, rates in callback.rates]
    np.testing.assert_allclose(heads, by_hand, **ELEMENTWISE)


def test_killed_within_phases_it_goes_on_bit_for_bit(tmp_path):
    """Across an early end, a thaw and shapes, with Resume saving each step."""
    plan = early(epochs=(4, 2))
    whole = compiled()
    fit(whole, FollowPlan(plan, log=tmp_path / "whole.csv"), epochs=6)
    for steps in (6, 5, None):
        model = compiled()
        callbacks = [
            FollowPlan(plan, log=tmp_path / "parts.csv"),
            Resume(tmp_path / "run", every=1),
        ]
        callbacks += [Kill(steps)] if steps else []
        try:
            fit(model, *callbacks, epochs=6)
        except Killed:
            assert steps is not None
    weights_equal(model, whole, **EXACT)
    assert (tmp_path / "parts.csv").read_text() == (tmp_path / "whole.csv").read_text()


def test_the_log_holds_every_step_and_goes_on(tmp_path):
    path = tmp_path / "rates.csv"
    model = compiled(run_eagerly=True)
    fit(model, FollowPlan(three_phases(), log=path), epochs=2)
    whole = path.read_text()
    header, *rows = whole.splitlines()
    assert header == "step,epoch,phase,learning_rate,block_1,block_2,head"
    assert len(rows) == 8
    values = [float(value) for value in rows[4].split(",")]
    np.testing.assert_allclose(values, [4, 1, 1, 0.01, 0, 0.001, 0.01], **ELEMENTWISE)
    # Rows of steps that are taken again, and one cut by a kill, are dropped.
    path.write_text(whole + "8,2,1,9,9,9,9\n9,2,1,0.0")
    fit(model, FollowPlan(three_phases(), log=path), initial_epoch=2, epochs=4)
    lines = path.read_text().splitlines()
    assert lines[:9] == whole.splitlines()
    assert [int(line.split(",")[0]) for line in lines[1:]] == list(range(16))
    # Another training begins another log.
    fit(compiled(run_eagerly=True), FollowPlan(three_phases(), log=path), epochs=1)
    assert len(path.read_text().splitlines()) == 5


def test_a_log_of_other_groups_is_not_gone_on_with(tmp_path):
    path = tmp_path / "rates.csv"
    path.write_text("step,epoch\n0,0\n")
    model = compiled(run_eagerly=True)
    fit(model, FollowPlan(three_phases()), epochs=1)
    with pytest.raises(ValueError, match="log of rates of the same groups"):
        fit(model, FollowPlan(three_phases(), log=path), initial_epoch=1, epochs=2)


def test_each_phase_is_told_if_wanted(capsys):
    fit(compiled(run_eagerly=True), FollowPlan(early(epochs=(3, 1)), verbose=1), epochs=4)
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 1: phases[0] of 2 trains at head 0.02",
        "Epoch 2: phases[0] ends early",
        "Epoch 3: phases[1] of 2 trains at block_1 0.01, block_2 0.01, head 0.01",
    ]
