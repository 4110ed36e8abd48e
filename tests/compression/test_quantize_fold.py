"""Folding changes no output, and what was learned in the folded model comes back."""

import keras
import numpy as np
import pytest
from keras import layers as kl

from kerastl.compression import quantize_aware, restore
from kerastl.compression.quantize import fold
from kerastl.freezing import freeze
from kerastl.training import FineTuner
from tests.compression import quantize_cases as cases
from tests.compression.quantize_cases import CASES
from tests.compression.twin_cases import NETWORKS, network
from tests.tolerances import REDUCTION

ELEVEN = [name for name in NETWORKS if name not in (
    "MobileNetV3Large", "NASNetMobile", "ConvNeXtTiny")]  # fmt: skip


def same(ours, theirs):
    """Equal to float32 rounding, relative to the largest value."""
    scale = np.abs(ours).max()
    assert ours.std() > 0
    np.testing.assert_allclose(theirs / scale, ours / scale, **REDUCTION)


def jolt(model, seed=1):
    """Other weights wherever something trains, as training leaves them."""
    rng = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        noise = rng.normal(0, 0.01, weight.shape)
        weight.assign(weight * rng.uniform(0.8, 1.2, weight.shape) + noise)


@pytest.mark.parametrize("name", CASES)
def test_a_folded_network_computes_the_same(name):
    model, x = cases.network(name), cases.pictures()
    folded = fold(model)
    same(model(x, training=False).numpy(), folded.model(x, training=False).numpy())
    classes = {type(layer) for layer in folded.model.layers}
    assert not classes & {kl.BatchNormalization, kl.SeparableConv2D, kl.Normalization}


@pytest.mark.parametrize("name", CASES)
def test_what_the_folded_network_learned_comes_back(name):
    model, x = cases.network(name), cases.pictures()
    folded = fold(model)
    before = model(x, training=False).numpy()
    jolt(folded.model)
    after = folded.model(x, training=False).numpy()
    assert np.abs(after - before).max() > 0.01 * np.abs(before).max()
    assert restore(folded.model, model) is model
    same(after, model(x, training=False).numpy())


def test_restoring_what_did_not_train_changes_nothing():
    model, x = cases.network("everything"), cases.pictures()
    before = [weight.numpy() for weight in model.weights]
    restore(quantize_aware(model, x), model)
    for old, weight in zip(before, model.weights, strict=True):
        # There and back is a product and a quotient in float64, rounded to float32 in between.
        np.testing.assert_allclose(weight.numpy(), old, rtol=1e-5, atol=1e-6)


def test_a_dead_channel_that_grew_comes_back():
    model, x = cases.network("norm"), cases.pictures()
    norm = next(layer for layer in model.layers if isinstance(layer, kl.BatchNormalization))
    norm.gamma.assign([0.0, 1, 1, 1, 1, 1])
    folded = fold(model)
    jolt(folded.model)
    after = folded.model(x, training=False).numpy()
    restore(folded.model, model)
    same(after, model(x, training=False).numpy())
    assert np.isfinite(np.concatenate([w.numpy().ravel() for w in model.weights])).all()


def test_dropout_still_acts_in_training():
    folded = fold(cases.network("everything")).model
    x = cases.pictures(4)
    assert np.any(folded(x, training=True) != folded(x, training=False))


def test_flags_names_and_class_stay():
    model = FineTuner.from_model(cases.small_mobilenet(size=32))
    freeze(model, slice(0, 40))
    folded = fold(model).model
    assert type(folded) is FineTuner
    frozen = {layer.name for layer in model.layers if not layer.trainable}
    kept = {x.name: x for x in folded.layers if not isinstance(x, kl.InputLayer)}
    assert {n for n, layer in kept.items() if not layer.trainable} == frozen & set(kept)
    assert 5 < len(frozen & set(kept)) < len(kept) - 5


def test_the_model_itself_stays_as_it_is():
    model, x = cases.network("everything"), cases.pictures()
    before, weights = model(x, training=False).numpy(), model.get_weights()
    jolt(fold(model).model)
    jolt(quantize_aware(model, x))
    np.testing.assert_array_equal(model(x, training=False), before)
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_adapted_normalization_of_vectors_is_copied():
    """It computes with constants that it derives from its weights."""
    layer = kl.Normalization()
    layer.adapt(np.random.default_rng(0).normal(3, 2, (50, 4)).astype("float32"))
    model = keras.Sequential([keras.Input((4,)), layer, kl.Dense(3)])
    x = np.ones((2, 4), "float32")
    same(model(x).numpy(), fold(model).model(x).numpy())


def test_a_model_that_was_not_quantized_from_this_one_is_refused():
    model, other = cases.network("norm"), cases.network("lone norm")
    with pytest.raises(ValueError, match=r"has no layer 'conv2d.*Closest"):
        restore(quantize_aware(other), model)
    wide = keras.Sequential([keras.Input((4,)), kl.Dense(3, name="head")])
    narrow = keras.Sequential([keras.Input((4,)), kl.Dense(2, name="head")])
    with pytest.raises(ValueError, match=r"'head'.*\(4, 3\).*\(4, 2\)"):
        restore(quantize_aware(wide), narrow)


@pytest.mark.parametrize("name", ["MobileNetV3Small", "EfficientNetB0"])
def test_networks_fold(name):
    model, x = network(name)
    same(model(x, training=False).numpy(), fold(model).model(x, training=False).numpy())


@pytest.mark.slow
@pytest.mark.parametrize("name", ELEVEN)
def test_networks_fold_and_come_back(name):
    model, x = network(name)
    folded = fold(model).model
    same(model(x, training=False).numpy(), folded(x, training=False).numpy())
    jolt(folded)
    after = folded(x, training=False).numpy()
    restore(folded, model)
    same(after, model(x, training=False).numpy())
