"""The int8 file computes what the fake-quantized model does: measured on the file itself."""

import keras
import numpy as np
import pytest
from keras import layers as kl

from kerastl.compression import quantize_aware
from kerastl.compression.quantize import ranges_of
from kerastl.export import LiteRTModel, parity, to_litert, to_litert_within
from tests.compression import quantize_cases as cases
from tests.compression.quantize_cases import conv

# A sum in float32 falls on the other side of a half step about once in 2,000 values. Through the
# mean over 64 places and the layer after it some 3 % of the scores are a step off.
HALVES = 0.1  # share of the scores that may be off
WIDEST = 2  # steps, of any


def exported(quantized, folder, **settings):
    return to_litert(quantized, folder / "model.tflite", quantization="int8", **settings)


def steps_off(quantized, path, x):
    """Differences of the scores, in steps of their range."""
    last = ranges_of(quantized)[-1]
    step = float(last.maximum - last.minimum) / 255
    return np.abs(quantized.predict(x, verbose=0) - LiteRTModel(path).predict(x)) / step


def is_the_model(quantized, path, x):
    """The same scores but for halves, so the same class but for ties; everything in int8."""
    off = steps_off(quantized, path, x)
    assert off.max() < WIDEST + 0.1
    assert np.mean(off > 0.5) < HALVES
    found = parity(quantized, path, x)
    assert found.int8_share == 1
    assert quantized.predict(x, verbose=0).std() > 0
    return found


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """A network with every kind of step, quantized, trained a little, and its file."""
    model, x = cases.network("everything"), cases.pictures(100)
    quantized = quantize_aware(model, x)
    quantized.compile(keras.optimizers.Adam(1e-3), "mse")
    quantized.fit(x, np.random.default_rng(0).normal(0, 1, (100, 5)), verbose=0)
    return quantized, exported(quantized, tmp_path_factory.mktemp("everything")), x


def test_the_file_is_the_model(everything):
    is_the_model(*everything)


def test_a_file_of_another_range_is_not(everything):
    """The measure sees a range that is a hundredth too wide."""
    quantized, path, x = everything
    layer = ranges_of(quantized)[1]
    before = float(layer.maximum)
    layer.maximum.assign(1.01 * before)
    try:
        with pytest.raises(AssertionError):
            is_the_model(quantized, path, x)
    finally:
        layer.maximum.assign(before)


@pytest.mark.slow_but("transposed")
@pytest.mark.parametrize("name", ["transposed", "constants", "a pool with four readers"])
def test_files_of_other_steps_are_their_models(name, tmp_path):
    quantized, x = quantize_aware(cases.network(name), cases.pictures(100)), cases.pictures(100)
    is_the_model(quantized, exported(quantized, tmp_path), x)


def test_pixels_scaled_to_one_are_not_halves(tmp_path):
    """In [-1, 1] each of 256 pixel values would lie between two values of int8."""
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, kl.Dense(5)(kl.GlobalAveragePooling2D()(conv()(inputs))))
    pixels = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3))
    x = (pixels / 127.5 - 1).astype("float32")
    x[:, 0, 0], x[:, 1, 1] = -1, 1
    quantized = quantize_aware(model, x)
    layer = ranges_of(quantized)[0]
    assert (float(layer.minimum), float(layer.maximum)) == (-1, 1)
    is_the_model(quantized, exported(quantized, tmp_path), x)


@pytest.mark.slow
def test_a_small_mobilenet_with_integers_in_and_out(tmp_path):
    """Top-1 of the file is that of the model on every picture, but where its best two tie."""
    model = cases.small_mobilenet(size=32)
    model = keras.Model(model.input, model.layers[-2].output)  # scores without softmax
    x = np.random.default_rng(0).uniform(-1, 1, (64, 32, 32, 3)).astype("float32")
    x += np.linspace(-0.5, 0.5, 64, dtype="float32")[:, None, None, None]
    x = np.clip(x, -1, 1)
    quantized = quantize_aware(model, x)
    path = exported(quantized, tmp_path, io_dtype="int8")
    file = LiteRTModel(path)
    assert (file.inputs[0].dtype, file.outputs[0].dtype) == ("int8", "int8")
    ours, theirs = quantized.predict(x, verbose=0), file.predict(x)
    picked = ours[np.arange(64), theirs.argmax(1)]
    assert np.mean(ours.argmax(1) == theirs.argmax(1)) > 0.95
    assert (ours.max(1) - picked).max() <= 2.1 * file.outputs[0].scale
    assert parity(quantized, path, x).int8_share == 1


def test_layers_kept_in_float_are_float_in_the_file(tmp_path):
    inputs = keras.Input(cases.SHAPE)
    x = conv(name="third")(conv(name="second")(conv(name="first")(inputs)))
    model = keras.Model(inputs, kl.Dense(3, name="head")(kl.GlobalAveragePooling2D()(x)))
    cases.enliven(model)
    quantized = quantize_aware(model, cases.pictures(), keep_float="second")
    with pytest.warns(UserWarning, match=r"stayed float32.* 2 CONV_2D"):
        path = exported(quantized, tmp_path)
    found = parity(quantized, path, cases.pictures())
    counts = {(op.op, op.in_float): op.count for op in found.ops}
    assert counts["CONV_2D", True] == 2 and counts["CONV_2D", False] == 1
    assert np.mean(steps_off(quantized, path, cases.pictures()) > 0.5) < HALVES


def test_a_constant_channel_is_constant_in_the_file(tmp_path):
    """Its bias in steps of so small a filter would not fit into 32 bits, and would be cut."""
    inputs = keras.Input((8, 8, 3))
    first = conv(name="first")
    model = keras.Model(inputs, kl.Dense(5)(kl.GlobalAveragePooling2D()(first(inputs))))
    cases.enliven(model)
    kernel, bias = first.get_weights()
    kernel[..., 0], bias[0] = 1e-9, 2.0
    first.set_weights([kernel, bias])
    x = np.random.default_rng(0).uniform(0, 1, (64, 8, 8, 3)).astype("float32")
    quantized = quantize_aware(model, x)
    found = is_the_model(quantized, exported(quantized, tmp_path), x)
    assert found.max_abs_error < 0.05 * np.abs(quantized.predict(x, verbose=0)).max()


def test_data_at_export_changes_nothing(everything, tmp_path):
    """What was learned holds, not what other data would say."""
    quantized, path, x = everything
    again = exported(quantized, tmp_path, representative_data=3 * x)
    np.testing.assert_array_equal(LiteRTModel(again).predict(x), LiteRTModel(path).predict(x))


@pytest.mark.parametrize("quantization", [None, "float16", "dynamic", "int16x8"])
def test_other_numbers_are_refused(everything, tmp_path, quantization):
    with pytest.raises(ValueError, match=r"must be 'int8'.*compression.restore"):
        to_litert(everything[0], tmp_path / "model.tflite", quantization=quantization)


def test_a_model_without_ranges_is_refused(tmp_path):
    with pytest.raises(RuntimeError, match=r"no data was seen"):
        exported(quantize_aware(cases.network("norm")), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_ladder_is_for_float_models(everything, tmp_path):
    x, labels = cases.pictures(8), np.zeros(8)
    with pytest.raises(ValueError, match=r"a float one for a ladder.*quantization='int8'"):
        to_litert_within(everything[0], tmp_path / "model.tflite", x, labels)
