"""The roundings themselves, against float64 references."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as kl

from kerastl.compression.quantize import FakeQuantize
from kerastl.compression.quantize.layers import QUANTIZED, rounded, rounded_pair
from tests.tolerances import ELEMENTWISE, REDUCTION


def reference(x, low, high):
    """Jacob et al., 2018, equation 12, on a range that is widened to have zero on the grid."""
    below = np.floor(0.5 - low / (high - low) * 255)
    step = max(-low / below, high / (255 - below))
    position = x / step + below
    values = (np.clip(np.floor(position + 0.5), 0, 255) - below) * step
    # Halves are left out: there float32 and float64 may round to different sides.
    return values, np.abs(position - np.floor(position) - 0.5) > 0.001, step


def test_activations_are_rounded_to_the_reference():
    x = np.random.default_rng(0).normal(1, 3, 1000).astype("float32")
    ours = FakeQuantize()(x, training=True).numpy()
    theirs, clear, step = reference(x.astype("float64"), float(x.min()), float(x.max()))
    np.testing.assert_allclose(ours[clear], theirs[clear], rtol=1e-5, atol=1e-4 * step)
    assert clear.mean() > 0.99 and len(np.unique(ours)) > 100


def test_ranges_start_with_the_first_batch_and_then_move():
    layer = FakeQuantize(decay=0.9)
    layer(np.float32([-1.0, 2.0]), training=True)
    assert (float(layer.minimum), float(layer.maximum)) == (-1.0, 2.0)
    layer(np.float32([1.0, 7.0]), training=True)  # zero belongs to every range
    np.testing.assert_allclose([layer.minimum, layer.maximum], [-0.9, 2.5], **ELEMENTWISE)
    layer(np.float32([-50.0, 50.0]), training=False)
    np.testing.assert_allclose([layer.minimum, layer.maximum], [-0.9, 2.5], **ELEMENTWISE)
    assert float(layer.batches) == 2


def test_a_frozen_range_stands_still():
    layer = FakeQuantize()
    layer(np.float32([-1.0, 2.0]), training=True)
    layer.trainable = False
    layer(np.float32([-5.0, 5.0]), training=True)
    assert (float(layer.minimum), float(layer.maximum)) == (-1.0, 2.0)


def test_a_tensor_of_zeros_stays_zero():
    assert FakeQuantize()(np.zeros(3, "float32"), training=True).numpy().tolist() == [0, 0, 0]


def test_the_gradient_is_one_inside_the_range_and_zero_outside():
    layer = FakeQuantize(low=-1.0, high=1.0)
    x = tf.constant([-2.0, -0.3, 0.4, 3.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    assert tape.gradient(y, x).numpy().tolist() == [0, 1, 1, 0]


def test_halves_of_another_call_go_away_from_the_integer_zero():
    """As in the int8 kernel of the average pool: -128 to 127, so 127.5 steps are a half below."""
    layer = FakeQuantize()
    layer(np.float32([0.0, 255.0]), training=True)
    again = layer(np.float32([0.5, 100.5, 200.5, 7.0]), training=False, observe=False)
    assert again.numpy().tolist() == [0, 100, 201, 7]
    assert layer(np.float32([100.5]), training=False).numpy().tolist() == [101]


def test_inference_without_a_range_is_refused():
    model = keras.Sequential([keras.Input((2,)), FakeQuantize(name="out_range")])
    with pytest.raises(RuntimeError, match=r"'out_range' must be known .* `quantize_aware"):
        model(np.ones((1, 2)))
    with pytest.raises(RuntimeError, match=r"no data was seen"):
        model.predict(np.ones((1, 2)), verbose=0)
    model(np.ones((1, 2)), training=True)
    model.predict(np.ones((1, 2)), verbose=0)


@pytest.mark.parametrize("low, high", [(None, 1.0), (0.5, 1.0), (0.0, 0.0)])
def test_a_fixed_range_must_be_one(low, high):
    with pytest.raises(ValueError, match=r"`low` and `high`"):
        FakeQuantize(low=low, high=high)


@pytest.mark.parametrize("axis", [None, -1])
def test_kernels_are_rounded_to_the_reference(axis):
    kernel = np.random.default_rng(0).normal(0, [1, 5, 0.1, 0], (3, 3, 2, 4)).astype("float32")
    width = np.abs(kernel).max(axis=None if axis is None else (0, 1, 2))
    step = np.maximum(width, 1e-8).astype("float64") / 127
    theirs = np.round(kernel / step) * step
    ours = rounded(keras.ops.convert_to_tensor(kernel), axis=axis).numpy()
    np.testing.assert_allclose(ours, theirs, **REDUCTION)
    steps = np.round(ours / step)
    assert np.abs(steps).max() == 127 and (ours[..., 3] == 0).all()


def test_the_gradient_of_a_rounded_kernel_is_that_of_the_kernel():
    kernel = tf.constant(np.random.default_rng(0).normal(0, 1, (3, 3, 2, 4)).astype("float32"))
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        loss = tf.reduce_sum(rounded(kernel, axis=-1) * 2.0)
    assert (tape.gradient(loss, kernel).numpy() == 2).all()


@pytest.mark.parametrize("axis", [None, -1])
def test_biases_are_whole_numbers_of_steps(axis):
    rng = np.random.default_rng(0)
    kernel = rng.normal(0, [1, 5, 0.1], (3, 3, 2, 3)).astype("float32")
    bias, step = rng.normal(0, 2, 3).astype("float32"), 0.02
    width = step * np.abs(kernel).max(axis=None if axis is None else (0, 1, 2)) / 127
    _, ours = rounded_pair(*map(keras.ops.convert_to_tensor, (kernel, bias)), step, axis)
    ours = ours.numpy()
    np.testing.assert_allclose(ours, np.round(bias / width) * width, **REDUCTION)
    assert (np.abs(ours - bias) <= width / 2 * 1.001).all() and (ours != bias).all()


def test_a_filter_that_is_nearly_zero_has_steps_that_its_bias_fits_in():
    """Folded from a channel whose batch normalization made it constant, as MobileNet has some."""
    kernel, bias = keras.ops.convert_to_tensor([[1e-7, 1.0]]), keras.ops.convert_to_tensor([5.0, 5])
    rounded_kernel, rounded_bias = rounded_pair(kernel, bias, 0.02, -1)
    width = 127 * 5 / (2.0**30 * 0.02)  # of 127 steps of the first filter
    assert rounded_kernel[0, 0] == 0 and rounded_kernel[0, 1] == 1
    assert width > 1e-7 and 5 / (0.02 * width / 127) <= 2**30 * 1.001
    np.testing.assert_allclose(rounded_bias, [5, 5], rtol=1e-4)


def test_the_gradient_of_a_rounded_bias_is_that_of_the_bias():
    kernel, bias = tf.constant([[0.3, 1.0]]), tf.constant([1.0, -1.0])
    with tf.GradientTape() as tape:
        tape.watch(bias)
        loss = tf.reduce_sum(rounded_pair(kernel, bias, 0.1, -1)[1] * 3.0)
    assert (tape.gradient(loss, bias).numpy() == 3).all()


def test_the_step_of_a_range_is_the_distance_of_its_values():
    layer = FakeQuantize()
    x = layer(np.linspace(-1, 2, 1000, dtype="float32"), training=True)
    step = float(layer(x, step_only=True))
    np.testing.assert_allclose(np.diff(np.unique(x)), step, rtol=1e-4)
    assert float(FakeQuantize(0.0, 51.0)(x, step_only=True)) == pytest.approx(0.2)


@pytest.mark.parametrize("plain", [
    kl.Conv2D(6, 3, strides=2, padding="same", activation="relu"),
    kl.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False),
    kl.Conv2DTranspose(3, 3, strides=2, padding="same"),
    kl.Dense(5, activation="relu6"),
], ids=lambda layer: type(layer).__name__)  # fmt: skip
def test_a_quantized_layer_is_its_layer_with_a_rounded_kernel(plain):
    kind = type(plain).__name__
    x = np.random.default_rng(0).normal(0, 1, (2, 8, 8, 4)).astype("float32")
    plain.build(x.shape)
    for weight in plain.weights:
        weight.assign(np.random.default_rng(1).normal(0, 1, weight.shape))
    made = QUANTIZED[kind].from_config(plain.get_config())
    made.build(x.shape)
    made.set_weights(plain.get_weights())
    different = np.abs(made(x) - plain(x)).max()
    kernel = plain.kernel.numpy()
    if kind == "DepthwiseConv2D":
        width = np.abs(kernel).max((0, 1))  # one for each output channel: in × multiplier
    else:
        width = np.abs(kernel).max((0, 1, 2)) if kind == "Conv2D" else np.abs(kernel).max()
    plain.kernel.assign(np.round(kernel / (width / 127)) * (width / 127))
    np.testing.assert_allclose(made(x), plain(x), rtol=1e-4, atol=1e-5)  # sums of 36 products
    assert different > 1e-3


def test_layers_come_back_from_their_settings():
    layer = FakeQuantize(low=-1.0, high=0.5, decay=0.5)
    again = FakeQuantize.from_config(layer.get_config())
    assert (again.low, again.high, again.decay) == (-1.0, 0.5, 0.5)


def test_half_precision_stays_half():
    layer = FakeQuantize(dtype="mixed_float16")
    out = layer(keras.ops.cast([1.0, -2.0], "float16"), training=True)
    assert out.dtype == "float16" and layer.minimum.dtype == "float32"
    assert layer(out, training=False, observe=False).dtype == "float16"
