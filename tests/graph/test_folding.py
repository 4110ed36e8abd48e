"""Batch normalizations that infer are computed inside the convolutions before them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as kl

from kerastl.freezing import freeze, freeze_batch_norm
from kerastl.graph.run import folded_pairs, run_evaluation
from kerastl.training import FineTuner
from kerastl.training.frozen import find_frontier
from tests.tolerances import EXACT, REDUCTION


def in_use(model):
    """`model` with statistics and parameters that are not those of a new layer."""
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, kl.BatchNormalization):
            for weight, low in ((layer.gamma, 0.5), (layer.beta, -0.5)):
                if weight is not None:
                    weight.assign(rng.uniform(low, low + 1, weight.shape))
            layer.moving_mean.assign(rng.normal(0, 0.3, layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.5, 2, layer.moving_variance.shape))
    return model


def frozen(*body, shape=(9, 9, 4)):
    """A `FineTuner` over a frozen `body` of layers and a head."""
    inputs = keras.Input(shape)
    x = inputs
    for layer in body:
        x = layer(x)
    outputs = kl.Dense(2, name="head")(kl.Flatten()(x))
    model = in_use(FineTuner(inputs, outputs))
    freeze(model, [layer.name for layer in body])
    return model


def folded(model):
    return [conv.operation.name for conv, _ in folded_pairs(model)]


def gradients(run, model, x):
    with tf.GradientTape() as tape:
        outputs = run(x)
        loss = tf.reduce_sum(outputs * tf.sin(tf.cast(tf.range(outputs.shape[-1]) + 1, "float32")))
    return outputs, tape.gradient(loss, [v.value for v in model.trainable_variables])


def assert_same(model, x):
    """Outputs and features are those of the layers one by one; returns the folded convolutions."""
    one_by_one = model(x, training=False)
    np.testing.assert_allclose(run_evaluation(model, x), one_by_one, **REDUCTION)
    np.testing.assert_allclose(model(x, training=True), one_by_one, **REDUCTION)
    frontier = find_frontier(model)
    wanted = frontier.lower(x, training=False)
    got = frontier.compute(x)
    for mine, theirs in zip(got.tensors, tf.nest.flatten(wanted), strict=True):
        np.testing.assert_allclose(mine, theirs, **REDUCTION)
    return folded(model)


CONVOLUTIONS = {
    "plain": kl.Conv2D(6, 3, name="conv"),
    "strided": kl.Conv2D(6, 3, strides=2, padding="same", use_bias=False, name="conv"),
    "dilated": kl.Conv2D(6, 3, dilation_rate=2, bias_initializer="normal", name="conv"),
    "grouped": kl.Conv2D(6, 1, groups=2, bias_initializer="normal", name="conv"),
    "depthwise": kl.DepthwiseConv2D(3, bias_initializer="normal", name="conv"),
    "depthwise by two": kl.DepthwiseConv2D(3, strides=2, depth_multiplier=2, name="conv"),
    "depthwise dilated": kl.DepthwiseConv2D(3, dilation_rate=2, use_bias=False, name="conv"),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("settings", [{}, {"scale": False}, {"center": False, "epsilon": 0.1}])
def test_one_convolution(name, settings):
    conv = type(CONVOLUTIONS[name]).from_config(CONVOLUTIONS[name].get_config())
    model = frozen(conv, kl.BatchNormalization(name="norm", **settings), kl.ReLU(name="relu"))
    x = np.random.default_rng(0).normal(size=(5, 9, 9, 4)).astype("float32")
    assert assert_same(model, x) == ["conv"]


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_gradients_of_what_trains_with_fixed_statistics(name):
    conv = type(CONVOLUTIONS[name]).from_config(CONVOLUTIONS[name].get_config())
    model = frozen(conv, kl.BatchNormalization(name="norm"), kl.ReLU(name="relu"))
    x = np.random.default_rng(0).normal(size=(5, 9, 9, 4)).astype("float32")
    for layer in model.layers:
        layer.trainable = True
    freeze_batch_norm(model, affine=False)
    assert folded(model) == ["conv"]
    mine = gradients(lambda x: model(x, training=True), model, x)
    theirs = gradients(lambda x: model(x, training=False), model, x)
    np.testing.assert_allclose(mine[0], theirs[0], **REDUCTION)
    assert len(mine[1]) == len(model.trainable_variables) >= 5
    for a, b in zip(mine[1], theirs[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)  # sums over 405 places and more


def test_whole_networks():
    for make, count in ((keras.applications.MobileNetV2, 52), (keras.applications.ResNet50, 53)):
        base = make(weights=None, include_top=False, input_shape=(64, 64, 3), pooling="avg")
        model = FineTuner(base.input, kl.Dense(2, name="head")(base.output))
        freeze(model, slice(0, -1))
        x = np.random.default_rng(0).uniform(-1, 1, (4, 64, 64, 3)).astype("float32")
        model(x, training=True)
        assert len(assert_same(in_use(model), x)) == count


def test_what_is_left_as_it_is():
    x = np.random.default_rng(0).normal(size=(5, 9, 9, 4)).astype("float32")
    shared = kl.Conv2D(4, 3, padding="same", name="conv")
    half = keras.DTypePolicy("mixed_bfloat16")
    bodies = {
        "an activation between": [
            kl.Conv2D(6, 3, activation="relu", name="conv"),
            kl.BatchNormalization(name="norm"),
        ],
        "another axis": [kl.Conv2D(6, 3, name="conv"), kl.BatchNormalization(axis=1, name="norm")],
        "a layer used twice": [shared, shared, kl.BatchNormalization(name="norm")],
        "a dense layer": [kl.Dense(6, name="dense"), kl.BatchNormalization(name="norm")],
        "half precision": [
            kl.Conv2D(6, 3, dtype=half, name="conv"),
            kl.BatchNormalization(dtype=half, name="norm"),
        ],
    }
    for why, body in bodies.items():
        if why == "half precision":
            assert folded(frozen(*body)) == [], why
        else:
            assert assert_same(frozen(*body), x) == [], why
    model = frozen(kl.Conv2D(6, 3, name="conv"), kl.BatchNormalization(name="norm"))
    model.get_layer("norm").trainable = True  # its statistics follow the batches
    assert folded(model) == []
    freeze_batch_norm(model, affine=False)  # they stand still, but a frontier parts the two
    assert assert_same(model, x) == []


def test_a_loss_of_activations_is_still_seen():
    conv = kl.Conv2D(6, 3, activity_regularizer="l2", name="conv")
    model = frozen(conv, kl.BatchNormalization(name="norm"))
    assert folded(model) == []
    model.compile("sgd", "mse")
    x, y = np.ones((4, 9, 9, 4), "float32"), np.ones((4, 2), "float32")
    with pytest.raises(ValueError, match="adds a loss"):
        model.fit(x, y, cache_frozen=True, verbose=0)


def test_a_tensor_that_crosses_keeps_its_value():
    """The convolution's own output is needed above, so nothing may change it."""
    inputs = keras.Input((9, 9, 4))
    conv = kl.Conv2D(6, 3, name="conv")(inputs)
    norm = kl.BatchNormalization(name="norm")(conv)
    both = kl.Concatenate()([kl.Conv2D(2, 1, name="a")(conv), kl.Conv2D(2, 1, name="b")(norm)])
    model = in_use(FineTuner(inputs, both))
    freeze(model, ["conv", "norm"])
    x = np.random.default_rng(0).normal(size=(5, 9, 9, 4)).astype("float32")
    assert assert_same(model, x) == []


def test_moved_features_are_those_of_the_inputs_bit_for_bit():
    """A run that goes on after a kill computes from inputs what the first one had moved up."""
    body = [kl.Conv2D(6, 3, name="conv"), kl.BatchNormalization(name="norm")]
    more = [kl.Conv2D(6, 3, name="conv_2"), kl.BatchNormalization(name="norm_2")]
    model = frozen(*body, *more)
    x = np.random.default_rng(0).normal(size=(5, 9, 9, 4)).astype("float32")
    model.get_layer("conv_2").trainable = model.get_layer("norm_2").trainable = True
    old = find_frontier(model)
    freeze(model, ["conv_2", "norm_2"])
    new = find_frontier(model)
    moved = new.above(old)(old.compute(x), training=False)
    assert folded(model) == ["conv", "conv_2"]
    np.testing.assert_allclose(moved.tensors[0], new.compute(x).tensors[0], **EXACT)


def test_no_move_where_a_pair_would_be_parted():
    body = [kl.Conv2D(6, 3, name="conv"), kl.BatchNormalization(name="norm")]
    model = frozen(*body)
    model.get_layer("norm").trainable = True
    old = find_frontier(model)
    freeze(model, ["norm"])
    assert old.tensors[0].shape == (None, 7, 7, 6)
    assert find_frontier(model).above(old) is None
