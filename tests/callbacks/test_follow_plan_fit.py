"""FollowPlan beside Keras's own callbacks, and with every way to call `fit`."""

import csv
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl.callbacks import FollowPlan
from kerastl.plans import Phase, TransferPlan
from kerastl.schedules import OneCycle
from kerastl.training import FineTuner
from tests.callbacks.follow_plan_cases import (
    GROUPS,
    LOSS,
    STEPS,
    compiled,
    fit,
    one_cycle,
    three_phases,
)
from tests.tolerances import ELEMENTWISE, EXACT, REDUCTION
from tests.training.test_fine_tuner import data, small, weights_equal


def test_initial_epoch_in_mid_phase_goes_on_as_one_fit():
    """With a callback of its own for each part, as in a second run of a script."""
    plan = TransferPlan(
        [Phase(1, "head", learning_rate=0.02),
         Phase(3, "all", learning_rate=0.01, schedule=OneCycle())]
    )  # fmt: skip
    models = []
    for cuts in ([0, 4], [0, 2, 3, 4]):
        model, rates = compiled(), []
        for start, end in itertools.pairwise(cuts):
            callback = FollowPlan(plan)
            fit(model, callback, initial_epoch=start, epochs=end)
            rates += callback.rates
        models.append((model, rates))
    weights_equal(models[0][0], models[1][0], **EXACT)
    assert models[0][1] == models[1][1]


def test_within_a_schedule_the_steps_before_must_have_been_taken():
    plan = TransferPlan([Phase(4, "all", schedule=OneCycle())])
    with pytest.raises(ValueError, match="epoch 2, and 8 steps are missing"):
        fit(compiled(), FollowPlan(plan), initial_epoch=2, epochs=4)


def test_model_checkpoint_holds_all_that_a_phase_needs(tmp_path):
    plan = three_phases(schedule=OneCycle())
    whole = compiled()
    save = keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.keras"))
    fit(whole, FollowPlan(plan), save, epochs=4)
    for epoch in (1, 2):  # at a thaw, within a phase
        loaded = keras.models.load_model(tmp_path / f"{epoch}.keras")
        fit(loaded, FollowPlan(plan), initial_epoch=epoch, epochs=4)
        weights_equal(loaded, whole, **EXACT)


def test_reduction_by_plateau_carries_over_into_the_next_phases():
    # The loss never improves by 10: each epoch but the first halves the rate after it.
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=10.0)
    callback = FollowPlan(three_phases())
    fit(compiled(run_eagerly=True), callback, plateau, epochs=4)
    heads = [rates["head"] for _, rates in callback.rates[::STEPS]]
    np.testing.assert_allclose(heads, [0.02, 0.01, 0.005, 0.004 / 4], **ELEMENTWISE)


def test_early_stopping_stops_the_whole_and_a_later_fit_goes_on():
    plan = three_phases()
    stop = keras.callbacks.EarlyStopping("loss", patience=1, min_delta=10.0)
    model, callback = compiled(), FollowPlan(plan)
    assert len(fit(model, callback, stop, epochs=4)["loss"]) == 2
    fit(model, callback, initial_epoch=2, epochs=4)
    whole = compiled()
    fit(whole, FollowPlan(plan), epochs=4)
    weights_equal(model, whole, **EXACT)


def test_csv_logger_gets_the_rates_of_groups(tmp_path):
    fit(
        compiled(run_eagerly=True), FollowPlan(three_phases()),
        keras.callbacks.CSVLogger(str(tmp_path / "log.csv")), epochs=4,
    )  # fmt: skip
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    found = [[float(row[f"learning_rate/{name}"]) for name in GROUPS] for row in rows]
    by_hand = [[0, 0, 0.02], [0, 0.001, 0.01], [0, 0.001, 0.01], [0.00004, 0.002, 0.004]]
    np.testing.assert_allclose(found, by_hand, **ELEMENTWISE)


def test_tensorboard_gets_the_rates_of_groups(tmp_path):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard"
    )
    from tensorboard.util.tensor_util import make_ndarray

    board = keras.callbacks.TensorBoard(tmp_path, write_graph=False)
    fit(compiled(run_eagerly=True), FollowPlan(three_phases()), board, epochs=4)
    events = accumulator.EventAccumulator(str(tmp_path / "train")).Reload()
    found = [
        float(make_ndarray(e.tensor_proto)) for e in events.Tensors("epoch_learning_rate/block_2")
    ]
    np.testing.assert_allclose(found, [0, 0.001, 0.001, 0.002], **ELEMENTWISE)


@pytest.mark.parametrize(("steps_per_execution", "loss_scale"), [(3, False), (1, True)])
def test_steps_per_execution_and_loss_scale_change_nothing(steps_per_execution, loss_scale):
    plan = three_phases(schedule=OneCycle(momentum=None))
    reference, model = compiled(keras.optimizers.SGD(0.5)), FineTuner.from_model(small())
    optimizer = keras.optimizers.SGD(0.5)
    if loss_scale:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=8.0)
    model.compile(optimizer, LOSS, steps_per_execution=steps_per_execution)
    callbacks = [FollowPlan(plan), FollowPlan(plan)]
    fit(reference, callbacks[0], epochs=4)
    fit(model, callbacks[1], epochs=4)
    assert callbacks[0].rates == callbacks[1].rates
    assert len(callbacks[1].rates) == 16
    weights_equal(reference, model, **REDUCTION)


def test_steps_per_epoch_of_endless_data():
    endless = tf.data.Dataset.from_tensor_slices(data()).batch(8).repeat()
    model, callback = compiled(), FollowPlan(three_phases(schedule=OneCycle()))
    model.fit(endless, steps_per_epoch=3, epochs=4, verbose=0, shuffle=False, callbacks=[callback])
    heads = [rates["head"] for _, rates in callback.rates]
    phases = [(0.02, 3), (0.01, 6), (0.004, 3)]  # peak and steps of each
    by_hand = [peak * one_cycle(i / n, 0.25, 25) for peak, n in phases for i in range(n)]
    np.testing.assert_allclose(heads, by_hand, **ELEMENTWISE)


def test_data_of_unknown_size_needs_steps_only_for_a_schedule():
    unknown = tf.data.Dataset.from_tensor_slices(data()).batch(8).filter(lambda x, y: True)
    model, given = compiled(), {"verbose": 0, "shuffle": False}
    shaped = FollowPlan(three_phases(schedule=OneCycle()))
    with pytest.raises(ValueError, match=r"steps_per_epoch=\.\.\..*assert_cardinality"):
        model.fit(unknown, callbacks=[shaped], **given)
    callback = FollowPlan(three_phases())
    with pytest.warns(UserWarning, match="ran out of data"):  # Keras at the end of such data
        model.fit(unknown, callbacks=[callback], **given)
    assert len(callback.rates) == 4


def test_next_change_is_when_other_groups_train():
    plan = TransferPlan([Phase(2, "head"), Phase(1, 1), Phase(3, "all"), Phase(1, "all")])
    callback, told = FollowPlan(plan), []
    ask = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: told.append(callback.next_change(epoch))
    )
    fit(compiled(run_eagerly=True), callback, ask, epochs=5)
    assert told == [3, 3, 3, None, None]
