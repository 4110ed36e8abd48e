"""The summary tells, group by group, what trains, how fast, and what batch normalization does."""

import keras
import numpy as np

from kerastl.freezing import freeze, trainable_summary, unfreeze
from kerastl.optimizers import LRMultiplier
from kerastl.training import FineTuner
from tests.training.test_fine_tuner import small


def row_of(model, layer):
    group = model.groups.group_of(model.get_layer(layer))
    return next(row for row in trainable_summary(model).rows if row.group == group)


def test_batch_norm_column_follows_freezing():
    model = FineTuner.from_model(small())
    assert row_of(model, "norm").batch_norm == "training"
    freeze(model, "norm")
    assert row_of(model, "norm").batch_norm == "frozen"
    unfreeze(model, "norm")
    assert row_of(model, "norm").batch_norm == "statistics fixed"


def test_counts_add_up_to_the_model_and_rates_are_the_optimizers():
    model = FineTuner.from_model(small())
    model.compile(keras.optimizers.SGD(0.2), "mse", multipliers={"mid": 0.5})
    freeze(model, "head")
    model.make_train_function()
    summary = trainable_summary(model)
    assert sum(row.weights for row in summary.rows) == model.count_params()
    assert sum(row.trainable for row in summary.rows) == sum(
        np.prod(v.shape) for v in model.trainable_weights
    )
    assert row_of(model, "mid").rate == "0.1"  # 0.5 times 0.2
    assert row_of(model, "head").rate == ""
    text = str(summary).splitlines()
    assert len(text) == 1 + len(summary.rows)
    assert text[0].split()[:2] == ["group", "indices"]


def test_rates_are_told_before_the_first_step_and_of_any_model():
    """The slots of an optimizer are made when training begins; the rates are known before."""
    tuner, plain = FineTuner.from_model(small()), small()
    tuner.compile(keras.optimizers.SGD(0.2), "mse", multipliers={"mid": 0.5, "head": 0})
    scaled = keras.optimizers.LossScaleOptimizer(
        LRMultiplier(keras.optimizers.SGD(0.2), {".*mid.*": 0.5, ".*head.*": 0})
    )
    plain.compile(scaled, "mse")
    for model in (tuner, plain):
        rates = {row.group: row.rate for row in trainable_summary(model).rows}
        assert list(rates.values()) == ["0.2", "0.1", "0"], rates
    plain.compile(keras.optimizers.SGD(0.3), "mse")
    assert {row.rate for row in trainable_summary(plain).rows} == {"0.3"}
