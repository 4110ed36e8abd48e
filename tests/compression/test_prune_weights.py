"""`prune_weights`: TFMOT's zeros, and weights that stay fitted to what the network gave."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl.backbones import glyphs
from kerastl.compression import MagnitudePruning, prune_weights, sparsity, strip
from kerastl.compression.least_squares import rows_of
from kerastl.compression.masks import masks_of
from kerastl.training import FineTuner
from tests.tolerances import REDUCTION

L = keras.layers


def network(seed=0):
    """A strided, padded convolution with a norm, one with a bias and an activation, two heads."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 3), name="image")
    x = L.Conv2D(12, 3, strides=2, padding="same", use_bias=False, name="low")(inputs)
    x = L.ReLU()(L.BatchNormalization(name="norm")(x))
    shortcut = x
    x = L.Conv2D(12, 1, activation="relu", name="middle")(x)
    x = L.Add()([x, shortcut])
    x = L.Conv2D(16, 3, name="high")(x)
    x = L.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, [L.Dense(4, name="head")(x), L.Dense(2, name="other")(x)])


def pictures(n=48, seed=1):
    return np.random.default_rng(seed).normal(size=(n, 8, 8, 3)).astype("float32")


def body(model):
    return [model.get_layer(name) for name in ("low", "middle", "high")]


def test_the_weights_that_stay_are_those_of_least_squares():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6)) + 1.0
    layer = L.Dense(3, name="body")
    model = keras.Sequential([keras.Input((6,)), layer])
    kernel, bias = rng.normal(size=(6, 3)), rng.normal(size=3)
    layer.set_weights([kernel, bias])
    report = prune_weights(model, 0.5, x.astype("float32"), where=layer)
    new_kernel, new_bias = layer.get_weights()
    keep = new_kernel != 0
    np.testing.assert_array_equal(
        keep, np.abs(kernel) >= np.sort(np.abs(kernel).ravel())[9]
    )  # 9 of 18 go
    for k in range(3):
        design = np.concatenate([x[:, keep[:, k]], np.ones((200, 1))], axis=1)
        best = np.linalg.lstsq(design, x @ kernel[:, k], rcond=None)[0]
        np.testing.assert_allclose(new_kernel[keep[:, k], k], best[:-1], rtol=0.02, atol=0.02)
        np.testing.assert_allclose(new_bias[k], bias[k] + best[-1], rtol=0.05, atol=0.05)
    wanted = x @ kernel + bias
    off = np.square(model.predict(x.astype("float32"), verbose=0) - wanted).sum()
    expected = off / np.square(wanted - wanted.mean(0)).sum()
    assert report.layers[0].error == pytest.approx(expected, rel=1e-3)
    assert report.layers[0].error < report.layers[0].error_masked


def test_what_can_be_told_from_the_rest_costs_nothing():
    """Each input comes twice, once with a small weight: without that the outputs are the same."""
    rng = np.random.default_rng(0)
    once = rng.normal(size=(300, 4)).astype("float32")
    x = np.concatenate([once, once], axis=1)
    layer = L.Dense(3, name="body", use_bias=False)
    norm = L.BatchNormalization(name="norm")
    model = keras.Sequential([keras.Input((8,)), layer, norm, L.Dense(2, name="head")])
    large = rng.uniform(1, 2, size=(4, 3))
    layer.set_weights([np.concatenate([large, 0.3 * large])])
    before = model.predict(x, verbose=0)
    report = prune_weights(model, 0.5, x)
    assert (layer.kernel.numpy()[4:] == 0).all()
    np.testing.assert_allclose(model.predict(x, verbose=0), before, atol=1e-2)
    assert report.layers[0].error_masked > 0.01 and report.layers[0].error < 1e-5


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (L.Dense(5), (2, 6)),
        (L.Dense(5), (2, 3, 6)),
        (L.Conv2D(5, 1), (2, 7, 6, 3)),
        (L.Conv2D(5, (3, 2), strides=2, padding="same"), (2, 7, 6, 3)),
        (L.Conv2D(5, 3, padding="valid", dilation_rate=2), (2, 9, 8, 3)),
        (L.Conv1D(5, 3, padding="same"), (2, 9, 4)),
        (L.SeparableConv2D(5, 3, strides=2, padding="same", depth_multiplier=2), (2, 9, 8, 3)),
    ],
)
def test_rows_times_kernel_is_the_layer(layer, shape):
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    given = layer(x).numpy()
    kernel = layer.pointwise_kernel if isinstance(layer, L.SeparableConv2D) else layer.kernel
    matrix = tf.reshape(tf.convert_to_tensor(kernel), (-1, kernel.shape[-1]))
    computed = (rows_of(layer, x) @ matrix).numpy().reshape(given.shape)
    np.testing.assert_allclose(computed, given, **REDUCTION)


def test_each_layer_makes_up_for_those_below_and_nothing_else_changes():
    model, masked, whole = network(), network(), network()
    x = pictures()
    before = {w.path: w.numpy().copy() for w in model.weights}
    report = prune_weights(model, 0.5, x)
    assert [row.path for row in report.layers] == ["low", "middle", "high"]
    assert report.num_examples == 48 and report.sparsity == pytest.approx(0.5, abs=0.01)
    for row in report.layers:
        assert row.error < row.error_masked and not row.note
    changed = {w.path for w in model.weights if (w.numpy() != before[w.path]).any()}
    taking = {"norm/moving_mean", "middle/bias", "high/bias"}
    assert changed == {"low/kernel", "middle/kernel", "high/kernel"} | taking
    for mine, other in zip(body(model), body(masked), strict=True):
        other.kernel.assign(other.kernel * (mine.kernel.numpy() != 0))
    unseen = pictures(seed=2)
    outputs = [m.predict(unseen, verbose=0)[0] for m in (model, masked, whole)]
    fitted, alone = (np.square(out - outputs[2]).mean() for out in outputs[:2])
    assert fitted < 0.7 * alone


def test_masks_are_those_of_tfmot_and_are_held_until_strip():
    model, other = network(), network()
    x = pictures()
    prune_weights(model, 0.7, x)
    other.compile(keras.optimizers.SGD(0.0), "mse")
    y = [np.zeros((48, 4)), np.zeros((48, 2))]
    other.fit(x, y, epochs=3, verbose=0, callbacks=[MagnitudePruning(0.7)])
    zeros = [layer.kernel.numpy() == 0 for layer in body(model)]
    for one, layer in zip(zeros, body(other), strict=True):
        np.testing.assert_array_equal(one, layer.kernel.numpy() == 0)
    assert len(masks_of(model)) == 3
    model.compile(keras.optimizers.Adam(0.01), "mse")
    model.fit(x, y, epochs=2, verbose=0)
    for one, layer in zip(zeros, body(model), strict=True):
        np.testing.assert_array_equal(one, layer.kernel.numpy() == 0)
    strip(model)
    assert not masks_of(model)
    model.fit(x, y, verbose=0)
    assert sparsity(model)["low"].sparsity < 0.1


def test_no_zeros_no_change():
    model = network()
    before = model.get_weights()
    report = prune_weights(model, 0.0, pictures())
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert [row.error for row in report.layers] == pytest.approx([0, 0, 0], abs=1e-6)


@pytest.mark.parametrize("pattern", [{"m_by_n": (2, 4)}, {"block_size": (2, 2)}])
def test_patterns(pattern):
    keras.utils.set_random_seed(0)
    layer = L.Dense(8, name="body")
    model = keras.Sequential([keras.Input((16,)), layer, L.Dense(2, name="head")])
    x = np.random.default_rng(0).normal(size=(100, 16)).astype("float32")
    share = None if "m_by_n" in pattern else 0.5
    report = prune_weights(model, share, x, **pattern)
    zeros = layer.kernel.numpy() == 0
    if share is None:
        assert (zeros.T.reshape(8, 4, 4).sum(-1) == 2).all()
    else:
        blocks = zeros.reshape(8, 2, 4, 2).sum((1, 3))
        assert set(np.unique(blocks)) == {0, 4}
    assert report.sparsity == 0.5 and report.layers[0].error < report.layers[0].error_masked


def test_layers_used_twice_nested_models_and_what_is_not_fitted():
    keras.utils.set_random_seed(0)
    shared = L.Dense(6, activation="tanh", name="shared")
    inner = keras.Sequential([keras.Input((5, 6)), L.Dense(6, name="inner"), L.ReLU()], name="net")
    words = keras.Input((5,), dtype="int32", name="words")
    x = L.Embedding(20, 6, name="table")(words)
    x = shared(shared(x))
    x = L.EinsumDense("abc,cd->abd", (None, 6), name="einsum")(x)
    x = L.GlobalAveragePooling1D()(inner(x))
    model = FineTuner.from_model(keras.Model(words, L.Dense(2, name="head")(x)))
    tokens = np.random.default_rng(0).integers(0, 20, (64, 5))
    report = prune_weights(model, 0.5, tokens)
    notes = {row.path: row.note for row in report.layers}
    fitted = {path for path, note in notes.items() if not note}
    assert fitted == {"shared", "inner"}, notes
    assert "Embedding" in notes["table"] and "EinsumDense" in notes["einsum"]
    assert all(row.zeros == row.size // 2 for row in report.layers)
    assert "not fitted" in str(report) and "Left dense: head" in str(report)


@pytest.mark.slow
def test_a_pretrained_network_answers_nearly_as_before():
    """The embedded network, on pictures that it was not fitted to."""
    rng = np.random.default_rng(0)
    model, whole, masked = (glyphs.load_glyphnet() for _ in range(3))
    smooth = tf.image.resize(rng.uniform(0, 255, (96, 8, 8, 3)), (32, 32)).numpy()
    wanted = whole.predict(smooth[64:], verbose=0)
    prune_weights(model, 0.6, smooth[:64])
    other = {w.path: w for w in masked.weights}
    for weight in model.weights:
        if (weight.numpy() == 0).mean() > 0.3 and len(weight.shape) > 1:
            other[weight.path].assign(other[weight.path] * (weight.numpy() != 0))
    fitted, alone = (
        np.square(m.predict(smooth[64:], verbose=0) - wanted).sum() / np.square(wanted).sum()
        for m in (model, masked)
    )
    assert fitted < 0.1 and fitted < 0.3 * alone


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sparsity": 1.0}, "sparsity in \\[0, 1\\)"),
        ({"sparsity": 0.5, "m_by_n": (1, 4)}, "constant_sparsity"),
        ({"data": np.zeros((0, 8, 8, 3))}, "at least one example"),
        ({"data": np.zeros((4, 8, 9, 3))}, "batches of inputs of shape"),
        ({"num_examples": 0}, "num_examples"),
        ({"where": "norm"}, "layer that can be pruned"),
        ({"where": "nothing"}, "nothing"),
    ],
)
def test_bad_input_is_refused_and_nothing_has_changed(settings, words):
    model = network()
    before = model.get_weights()
    with pytest.raises(ValueError, match=words):
        prune_weights(model, **{"sparsity": 0.5, "data": pictures(), **settings})
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_an_interrupted_pruning_leaves_the_model_as_it_was():
    model = network()
    before = model.get_weights()

    def interrupted(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prune_weights(model, 0.5, pictures(), progress=interrupted)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert not masks_of(model)


def test_no_more_examples_than_asked_for_and_progress_is_told():
    told = []
    report = prune_weights(
        network(),
        0.5,
        tf.data.Dataset.from_tensor_slices(pictures()).batch(10),
        num_examples=25,
        progress=lambda done, total: told.append((done, total)),
    )
    assert report.num_examples == 25 and told == [(1, 3), (2, 3), (3, 3)]
