"""GradualUnfreezing thaws when it says, and Audit finds what moves unseen."""

import keras
import numpy as np
import pytest

from kerastl.callbacks import Audit, AuditError, EvaluateAverages, GradualUnfreezing
from kerastl.freezing import freeze
from kerastl.training import FineTuner
from tests.tolerances import EXACT
from tests.training.test_fine_tuner import data, small, weights_equal


class Record(keras.callbacks.Callback):
    """Keeps which groups had moved at the end of each epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self._before = {v.path: v.numpy() for v in self.model.variables}

    def on_epoch_end(self, epoch, logs=None):
        groups = self.model.groups
        moved = {
            groups.group_of(v)
            for v in self.model.variables
            if not np.array_equal(self._before[v.path], v.numpy())
        }
        self.moved = [*getattr(self, "moved", []), [n for n in groups.names if n in moved]]


def test_groups_move_from_the_epoch_they_thaw_in():
    model, record = FineTuner.from_model(small()), Record()
    model.compile("adam", "sparse_categorical_crossentropy")
    stem, middle, head = model.groups.names
    callbacks = [GradualUnfreezing({0: head, 2: [middle]}), Audit(steps=1), record]
    model.fit(*data(), batch_size=8, epochs=3, verbose=0, callbacks=callbacks)
    assert record.moved == [[head], [head], [middle, head]]
    assert callbacks[1].phases_checked == 2
    assert stem not in record.moved[-1]


def test_default_schedule_reaches_the_input():
    model = FineTuner.from_model(small())
    callback = GradualUnfreezing(every=2)
    callback.set_model(model)
    names = list(model.groups.names)
    assert callback.groups_training(0) == names[-1:]
    assert callback.groups_training(1) == names[-1:]
    assert callback.groups_training(2 * (len(names) - 1)) == names


def test_one_fit_equals_two_with_initial_epoch():
    x, y = data()
    models = []
    for parts in ([(0, 4)], [(0, 2), (2, 4)]):
        model = FineTuner.from_model(small())
        model.compile("adam", "sparse_categorical_crossentropy")
        for start, end in parts:
            model.fit(
                x, y, batch_size=8, shuffle=False, verbose=0, initial_epoch=start, epochs=end,
                callbacks=[GradualUnfreezing(every=1)],
            )  # fmt: skip
        models.append(model)
    weights_equal(*models, **EXACT)


def test_slots_are_reserved_once_for_the_whole_schedule():
    model = FineTuner.from_model(small())
    model.compile("adam", "sparse_categorical_crossentropy")
    counts = []
    count = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: counts.append(len(model.optimizer.variables))
    )
    model.fit(*data(), epochs=3, verbose=0, callbacks=[GradualUnfreezing(), count])
    assert len(set(counts)) == 1


def test_schedule_is_checked_before_training():
    model = FineTuner.from_model(small())
    with pytest.raises(ValueError, match="Closest"):
        GradualUnfreezing({0: "haed"}).set_model(model)
    with pytest.raises(ValueError, match="epochs"):
        GradualUnfreezing({-1: "head"})
    with pytest.raises(ValueError, match="at least one"):
        GradualUnfreezing({})
    with pytest.raises(ValueError, match=r"\[1, \d+\]"):
        GradualUnfreezing({0: 99}).set_model(model)
    with pytest.raises(TypeError, match=r"FineTuner\.from_model"):
        GradualUnfreezing().set_model(small())


def test_audit_finds_statistics_that_a_stock_model_moves():
    """A frozen affine with live statistics, declared frozen: what Keras does in silence."""
    model = small()
    model.compile("sgd", "sparse_categorical_crossentropy")
    sneak = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: model.get_layer("low").kernel.assign_add(
            np.ones((6, 8), "float32")
        )
    )
    freeze(model, "low")
    with pytest.raises(AuditError, match=r"1 moved though frozen: .*low/kernel"):
        model.fit(*data(), batch_size=8, verbose=0, callbacks=[sneak, Audit()])


def test_audit_finds_weights_that_do_not_train():
    inputs = keras.Input((6,))
    x = keras.layers.Dense(4, activation="relu", name="dead", bias_initializer="zeros")(inputs)
    x = keras.layers.Lambda(lambda t: 0.0 * t)(x)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="head")(x))
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(AuditError, match=r"did not move: .*dead/kernel"):
        model.fit(*data(), batch_size=8, verbose=0, callbacks=[Audit()])


def test_audit_waits_for_a_rate_above_zero():
    model = FineTuner.from_model(small())
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([4], [0.0, 0.1])
    model.compile(keras.optimizers.SGD(rate), "sparse_categorical_crossentropy")
    audit = Audit(steps=2)
    model.fit(*data(64), batch_size=8, verbose=0, callbacks=[audit])
    assert audit.phases_checked == 1


def test_audit_counts_a_zero_multiplier_as_still():
    model = FineTuner.from_model(small())
    model.compile("adam", "sparse_categorical_crossentropy", multipliers={"low": 0})
    audit = Audit()
    model.fit(*data(), batch_size=8, verbose=0, callbacks=[audit])
    assert audit.phases_checked == 1


def test_averages_are_evaluated_and_training_does_not_notice():
    x, y = data()
    runs = []
    for validation_data in (None, (x, y)):
        model = FineTuner.from_model(small())
        adam = keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.8)
        model.compile(adam, "sparse_categorical_crossentropy")
        history = model.fit(
            x, y, batch_size=8, shuffle=False, verbose=0, epochs=4,
            validation_data=validation_data,
            callbacks=[GradualUnfreezing(every=1), EvaluateAverages()],
        )  # fmt: skip
        runs.append((model, history.history))
    (alone, losses), (model, history) = runs
    weights_equal(alone, model, **EXACT)
    assert history["loss"] == losses["loss"]
    assert history["val_loss"][-1] == model.evaluate(x, y, verbose=0, batch_size=8)
