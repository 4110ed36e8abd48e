"""Zeros that a pruning made stay zero, whatever trains the model next."""

import keras
import numpy as np
import pytest

from kerastl.compression import (
    MagnitudePruning,
    constant_sparsity,
    hold_zeros,
    prune_channels,
    prune_weights,
    quantize_aware,
    restore,
    sparsity,
    strip,
)
from kerastl.compression.masks import masks_of
from kerastl.export import to_litert
from kerastl.export.flatbuffer import constants
from kerastl.training import FineTuner

L = keras.layers
RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 8, 8, 3)).astype("float32")
Y = (X.mean((1, 2, 3)) > 0).astype(int)
PRUNED = ("low", "middle", "high", "wide")


def network():
    """A folded normalization, a separable convolution, a dense layer on pictures, a head."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3), name="image")
    x = L.Conv2D(8, 3, use_bias=False, name="low")(inputs)
    x = L.ReLU()(L.BatchNormalization(name="norm")(x))
    x = L.SeparableConv2D(8, 3, activation="relu", name="middle")(x)
    x = L.Dense(8, activation="silu", name="high")(x)
    x = L.EinsumDense("abcd,de->abce", (None, None, 8), name="wide")(x)
    x = L.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, L.Dense(2, activation="softmax", name="head")(x))


def compiled(model, **optimizer):
    optimizer = keras.optimizers.Adam(0.02, **optimizer)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


def fit(model, **kwargs):
    model.fit(X, Y, batch_size=16, verbose=0, **kwargs)


def zeros(model):
    """Where each kernel that was pruned is zero."""
    pruned = ("low/kernel", "middle/pointwise_kernel", "high/kernel", "wide/kernel")
    found = {v.path: v.numpy() == 0 for v in model.variables if v.path.endswith(pruned)}
    assert len(found) == 4
    return found


def assert_same_zeros(got, want):
    assert got.keys() == want.keys() and sum(zero.sum() for zero in want.values()) > 100
    for path, zero in want.items():
        np.testing.assert_array_equal(got[path], zero, err_msg=path)


def tuner():
    return FineTuner.from_model(network())


STEPS = {
    "fit": fit,
    "train_on_batch": lambda model: model.train_on_batch(X[:16], Y[:16]),
    "two fits": lambda model: (fit(model), fit(model)),
}
PATTERNS = {"single": {"sparsity": 0.5}, "2 of 4": {"sparsity": None, "m_by_n": (2, 4)}}


# The slow tier has each step with each kind of model.
@pytest.mark.parametrize(("make", "step"), [
    (network, "fit"),
    (tuner, "train_on_batch"),
    (tuner, "two fits"),
    pytest.param(tuner, "fit", marks=pytest.mark.slow),
    pytest.param(network, "train_on_batch", marks=pytest.mark.slow),
    pytest.param(network, "two fits", marks=pytest.mark.slow),
])  # fmt: skip
def test_a_model_that_was_fit_before_need_not_be_compiled_again(make, step):
    model = compiled(make())
    STEPS[step](model)
    prune_weights(model, **PATTERNS["2 of 4" if make is tuner else "single"], data=X)
    before, kernel = zeros(model), model.get_layer("low").kernel.numpy()
    STEPS[step](model)
    assert_same_zeros(zeros(model), before)
    assert not np.array_equal(model.get_layer("low").kernel.numpy(), kernel)
    strip(model)
    STEPS[step](model)
    assert sparsity(model).sparsity < 0.1


def test_moving_averages_do_not_bring_weights_back():
    model = compiled(network(), use_ema=True, ema_momentum=0.9)
    fit(model)
    prune_weights(model, 0.5, X)
    before, kernel = zeros(model), model.get_layer("high").kernel.numpy()
    fit(model)
    assert_same_zeros(zeros(model), before)
    moved = np.abs(model.get_layer("high").kernel.numpy() - kernel).max()
    assert 0 < moved < 0.06  # three steps of 0.02, averaged: not back to what it was


@pytest.mark.parametrize("kind", ["a FineTuner of it", "a model around it"])
def test_other_models_that_train_the_same_weights_hold_them_too(kind):
    part = network()
    whole = tuner_of(part) if kind == "a FineTuner of it" else keras.Sequential([part, L.Dense(2)])
    compiled(whole, use_ema=True)
    fit(whole)
    prune_weights(part, 0.5, X)
    before = zeros(part)
    fit(whole)
    assert_same_zeros(zeros(part), before)


def tuner_of(model):
    return FineTuner.from_model(model)


def magnitude(model):
    fit(compiled(model), callbacks=[MagnitudePruning(constant_sparsity(0.5))])


def at_once(model):
    prune_weights(model, 0.5, X)


@pytest.mark.slow_but("tuner-at_once-True")
@pytest.mark.parametrize(
    ("make", "prune", "stripped"),
    [(network, magnitude, True), (tuner, at_once, True), (network, at_once, False)],
)
def test_quantization_aware_training_holds_them(make, prune, stripped):
    model = make()
    prune(model)
    if stripped:
        strip(model)
    before = zeros(model)
    quantized = quantize_aware(model, X)
    fit(compiled(quantized))
    fit(quantized)
    assert_same_zeros(zeros(restore(quantized, model)), before)
    shares = {row.path: row.sparsity for row in sparsity(quantized).rows}
    assert {name: round(shares[name], 1) for name in PRUNED} == dict.fromkeys(PRUNED, 0.5)
    assert shares["middle_depthwise"] == 0 and shares["head"] == 0
    strip(quantized)
    assert not masks_of(quantized)


def test_they_are_zeros_in_the_file(tmp_path):
    model = network()
    at_once(model)
    strip(model)
    quantized = quantize_aware(model, X)
    fit(compiled(quantized))
    path = to_litert(quantized, str(tmp_path / "model.tflite"), quantization="int8")
    kernels = [quantized.get_layer(name).kernel.numpy() for name in ("low", "high")]
    wanted = [np.moveaxis(kernel, -1, 0).ravel() for kernel in kernels]  # outputs first
    with open(path, "rb") as file:
        found = [array for array in constants(file.read()) if array.dtype == np.int8]
    for kernel in wanted:
        assert 0.4 < (kernel == 0).mean() < 0.6
        alike = [array for array in found if array.size == kernel.size]
        assert any((array[kernel == 0] == 0).all() for array in alike)


def test_a_filter_that_a_normalization_silences_may_grow_and_a_kernel_of_zeros_too():
    model = network()
    model.get_layer("norm").gamma.assign([0.0] * 4 + [1.0] * 4)
    model.get_layer("high").kernel.assign(np.zeros((8, 8)))
    assert not masks_of(quantize_aware(model, X))


def test_fewer_channels_keep_the_zeros_of_those_that_stay():
    model = compiled(network())
    fit(model)
    prune_weights(model, 0.5, X)
    smaller, _ = prune_channels(model, 0.25, data=X, round_to=2)
    low, small = model.get_layer("low").kernel.numpy(), smaller.get_layer("low").kernel.numpy()
    stay = [np.flatnonzero((low == small[..., [k]]).all((0, 1, 2))) for k in range(small.shape[-1])]
    before = zeros(smaller)
    np.testing.assert_array_equal(before["low/kernel"], low[..., np.concatenate(stay)] == 0)
    assert 0.4 < before["wide/kernel"].mean() < 0.6  # compensation fills no zeros
    fit(compiled(smaller))
    assert_same_zeros(zeros(smaller), before)


def test_zeros_from_a_file_are_held_when_asked_for(tmp_path):
    model = compiled(network(), use_ema=True)
    fit(model)
    prune_weights(model, 0.5, X)
    path = str(tmp_path / "model.keras")
    model.save(path)
    loaded = keras.models.load_model(path)
    before = zeros(loaded)
    fit(hold_zeros(loaded))
    assert_same_zeros(zeros(loaded), before)
    assert len(masks_of(hold_zeros(loaded))) == len(masks_of(strip(loaded))) + 4
