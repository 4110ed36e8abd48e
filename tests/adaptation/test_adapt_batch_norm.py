"""Statistics of other data in place of those of the pretraining, and nothing else changed."""

import keras
import numpy as np
import pytest
from keras import layers as kl

from kerastl.adaptation import adapt_batch_norm
from kerastl.freezing import freeze, freeze_batch_norm
from kerastl.training import FineTuner
from tests.tolerances import EXACT, REDUCTION


def network():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = kl.BatchNormalization(name="first")(kl.Conv2D(6, 3, name="conv")(inputs))
    x = kl.Dropout(0.5, name="dropout")(kl.ReLU()(x))
    x = kl.BatchNormalization(name="second")(kl.Conv2D(4, 3, name="conv_2")(x))
    return FineTuner(inputs, kl.Dense(2, name="head")(kl.GlobalAveragePooling2D()(x)))


def pictures(count=50):
    return np.random.default_rng(0).normal(2, 3, (count, 8, 8, 3)).astype("float32")


def batches(x, size=20):
    return [x[start : start + size] for start in range(0, len(x), size)]  # the last is smaller


def test_statistics_are_those_of_all_examples():
    """The first layer's inputs depend on no other normalization: a float64 mean and variance."""
    model, x = network(), pictures()
    assert adapt_batch_norm(model, batches(x)) == 2
    seen = model.get_layer("conv")(x).numpy().astype("float64").reshape(-1, 6)
    norm = model.get_layer("first")
    np.testing.assert_allclose(norm.moving_mean, seen.mean(0), **REDUCTION)
    np.testing.assert_allclose(norm.moving_variance, seen.var(0), **REDUCTION)


def test_one_batch_is_what_a_training_pass_normalizes_by():
    model, x = network(), pictures()
    model.get_layer("dropout").rate = 0.0
    expected = keras.Model(model.input, model.output)(x, training=True)
    adapt_batch_norm(model, [x])
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)  # variance + epsilon


@pytest.mark.parametrize("frozen", [False, True])
def test_nothing_else_changes(frozen):
    """Frozen or not; dropout draws nothing, so two passes agree to the bit."""
    model, other = network(), network()
    if frozen:
        freeze(model, slice(0, 3))
        freeze_batch_norm(model, affine=False)
    kept = [v for v in model.variables if "moving" not in v.path]
    before, flags = [v.numpy() for v in kept], [x.trainable for x in model.layers]
    for one in (model, other):
        adapt_batch_norm(one, batches(pictures()))
    assert [x.trainable for x in model.layers] == flags
    assert all(x.momentum == 0.99 for x in model.layers if isinstance(x, kl.BatchNormalization))
    for value, variable in zip(before, kept, strict=True):
        np.testing.assert_allclose(variable, value, **EXACT)
    for mine, theirs in zip(model.variables, other.variables, strict=True):
        np.testing.assert_allclose(mine, theirs, **EXACT)


def test_a_network_without_batch_normalization_reads_no_data():
    model = keras.Sequential([keras.Input((4,)), kl.Dense(2)])
    assert adapt_batch_norm(model, iter(())) == 0


@pytest.mark.parametrize("data, match", [
    ([], "at least one batch"),
    ([np.full((4, 8, 8, 3), np.inf, "float32")], "'first' gets"),
])  # fmt: skip
def test_refusals_leave_the_statistics(data, match):
    model = network()
    before = [v.numpy() for v in model.variables]
    with pytest.raises(ValueError, match=match):
        adapt_batch_norm(model, data)
    for value, variable in zip(before, model.variables, strict=True):
        np.testing.assert_allclose(variable, value, **EXACT)
