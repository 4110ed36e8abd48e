"""Quantization-aware training: what is rounded where, how it trains, and what is refused."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as kl

from kerastl.compression import quantization_report, quantize_aware
from kerastl.compression.island import tfmot
from kerastl.compression.quantize import FakeQuantize, fold
from kerastl.freezing import freeze
from kerastl.graph import layer_groups
from kerastl.training import FineTuner
from tests.compression import quantize_cases as cases
from tests.compression.quantize_cases import conv


def over(make):
    """A model of a convolution called entry, what `make` makes of it, and five scores."""
    inputs = keras.Input(cases.SHAPE, name="pixels")
    x = make(conv(name="entry")(inputs))
    x = kl.Dense(5, name="scores")(kl.Flatten(name="flat")(x))
    return keras.Model(inputs, x, name="net")


def rounded_after(model):
    """Names of the layers and inputs that something rounds."""
    names = [layer.name for layer in model.layers if isinstance(layer, FakeQuantize)]
    return {name.removesuffix("_range") for name in names}


def test_a_fused_relu_has_the_only_range():
    quantized = quantize_aware(over(kl.ReLU(name="relu")))
    assert rounded_after(quantized) == {"pixels", "relu", "scores"}


def test_a_sum_before_a_relu_has_none():
    quantized = quantize_aware(
        over(lambda x: kl.ReLU(name="relu")(kl.Add(name="sum")([x, conv(name="side")(x)])))
    )
    assert rounded_after(quantized) == {"pixels", "entry", "side", "relu", "scores"}


def test_a_relu_that_is_not_alone_is_a_step_of_its_own():
    quantized = quantize_aware(over(lambda x: kl.Add(name="sum")([x, kl.ReLU(name="relu")(x)])))
    assert rounded_after(quantized) == {"pixels", "entry", "relu", "sum", "scores"}


def test_what_goes_into_a_concatenation_alone_has_its_range():
    quantized = quantize_aware(
        over(lambda x: kl.Concatenate(name="all")([conv(name="a")(x), conv(name="b")(x)]))
    )
    assert rounded_after(quantized) == {"pixels", "entry", "all", "scores"}


def test_pools_share_the_range_before_them():
    quantized = quantize_aware(
        over(lambda x: kl.AveragePooling2D(2, name="mean")(kl.MaxPooling2D(2, name="max")(x)))
    )
    assert rounded_after(quantized) == {"pixels", "entry", "scores"}
    layer = quantized.get_layer("entry_range")
    readers = {node.operation.name for node in quantized.get_layer("mean")._outbound_nodes}
    assert readers == {layer.name}, "the mean is rounded to the range of what it was taken of"
    assert float(layer.batches) == 0
    quantized(cases.pictures(8), training=True)
    assert float(layer.batches) == 1, "and moves it not"


@pytest.mark.parametrize("name, low, high", [("sigmoid", 0, 255 / 256), ("tanh", -1, 127 / 128)])
def test_sigmoid_and_tanh_have_fixed_ranges(name, low, high):
    quantized = quantize_aware(over(kl.Activation(name, name="bend")))
    layer = quantized.get_layer("bend_range")
    assert (layer.low, layer.high) == (low, high)


def test_the_last_softmax_is_not_rounded():
    """Its gradient would be zero wherever the network is sure."""
    model = over(kl.ReLU())
    model = keras.Model(model.input, kl.Softmax(name="chances")(model.output))
    assert "chances" not in rounded_after(quantize_aware(model))


def test_augmentation_comes_before_the_first_rounding():
    inputs = keras.Input(cases.SHAPE, name="pixels")
    x = kl.RandomFlip(name="flip")(inputs)
    model = keras.Model(inputs, kl.Dense(2, name="scores")(kl.Flatten()(conv(name="entry")(x))))
    quantized = quantize_aware(model)
    assert rounded_after(quantized) == {"flip", "entry", "scores"}
    assert "flip" not in [row.path for row in quantization_report(quantized).rows]


def test_ranges_come_from_the_data():
    x = cases.pictures(700)
    by_array = quantize_aware(over(kl.ReLU()), x).get_layer("pixels_range")
    assert -6 < float(by_array.minimum) < -3 < 3 < float(by_array.maximum) < 6
    assert float(by_array.batches) == 16
    dataset = tf.data.Dataset.from_tensor_slices((x, np.zeros(700))).batch(10)
    by_dataset = quantize_aware(over(kl.ReLU()), dataset).get_layer("pixels_range")
    assert float(by_dataset.batches) == 16
    with_labels = quantize_aware(over(kl.ReLU()), (x, np.zeros(700))).get_layer("pixels_range")
    assert float(with_labels.maximum) == float(by_array.maximum)
    first = quantize_aware(over(kl.ReLU()), x[:32]).get_layer("pixels_range")
    np.testing.assert_allclose([first.minimum, first.maximum], [x[:32].min(), x[:32].max()])


def test_without_data_the_first_step_gives_the_ranges():
    quantized = quantize_aware(cases.network("everything"))
    x = cases.pictures(32)
    with pytest.raises(RuntimeError, match=r"no data was seen"):
        quantized.predict(x, verbose=0)
    quantized.compile("sgd", "mse")
    quantized.fit(x, np.zeros((32, 5)), batch_size=32, verbose=0)
    layer = quantized.get_layer(f"{quantized.input.name}_range")
    assert float(layer.maximum) == x.max()
    assert np.isfinite(quantized.predict(x, verbose=0)).all()


def test_rounding_is_small_at_the_start_and_training_makes_it_smaller():
    """A network that was trained stays what it was to some percent, and learns on."""
    rng = np.random.default_rng(0)
    x = cases.pictures(256)
    y = (x.mean((1, 2)) @ rng.normal(0, 1, (4, 5))).argmax(1)
    model = cases.network("gate")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
    model.fit(x, y, epochs=12, verbose=0)
    before = model.predict(x, verbose=0)
    quantized = quantize_aware(model, x)
    after = quantized.predict(x, verbose=0)
    error = np.abs(after - before).mean() / before.std()
    assert 1e-4 < error < 0.2
    quantized.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    untrained = quantized.evaluate(x, y, verbose=0)[0]
    quantized.fit(x, y, epochs=4, verbose=0)
    assert quantized.evaluate(x, y, verbose=0)[0] < untrained


def test_a_fine_tuner_stays_one_with_groups_and_multipliers():
    model = FineTuner.from_model(cases.small_mobilenet(size=32))
    freeze(model, slice(0, 40))  # and no more, so that both kinds are seen
    x, y = np.random.default_rng(0).uniform(-1, 1, (16, 32, 32, 3)), np.arange(16) % 5
    quantized = quantize_aware(model, x)
    assert type(quantized) is FineTuner
    names = list(layer_groups(quantized))
    assert [str(n) for n in names] == [str(n) for n in layer_groups(model)]
    head = names[-1]
    quantized.compile("adam", "sparse_categorical_crossentropy", multipliers={head: 10.0})
    weights = {w.path: w.numpy() for w in quantized.weights}
    quantized.fit(x, y, batch_size=8, verbose=0)
    moved = {w.path for w in quantized.weights if (w.numpy() != weights[w.path]).any()}
    assert not any(path.startswith(("conv1/", "conv1_relu_range/")) for path in moved)
    assert any(path.startswith("conv_pw_13/") for path in moved)
    assert any(path.startswith("conv_pw_13_relu_range/") for path in moved)


def test_frozen_ranges_need_data():
    model = FineTuner.from_model(over(kl.ReLU(name="relu")))
    freeze(model, ["entry", "relu"])
    live = quantize_aware(model)
    assert live.get_layer("relu_range").trainable, "nothing else would show it data"
    assert not quantize_aware(model, cases.pictures(8)).get_layer("relu_range").trainable


@pytest.mark.slow
def test_a_saved_model_goes_on_in_a_fresh_process(tmp_path):
    quantized, x = quantize_aware(cases.network("silu"), cases.pictures()), cases.pictures(8)
    quantized.compile("adam", "mse")
    quantized.save(tmp_path / "quantized.keras")
    np.save(tmp_path / "x.npy", x)
    program = (
        "import keras, kerastl, numpy as np\n"
        f"model = keras.saving.load_model({str(tmp_path / 'quantized.keras')!r})\n"
        f"x = np.load({str(tmp_path / 'x.npy')!r})\n"
        f"np.save({str(tmp_path / 'y.npy')!r}, model.predict(x, verbose=0))\n"
        "model.fit(x, np.zeros((8, 5)), verbose=0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), quantized.predict(x, verbose=0))


def test_stock_tfmot_takes_no_keras_3_model():
    """Where this fails, TFMOT speaks Keras 3, and this package may ask it."""
    model = cases.network("norm")
    with pytest.raises(ValueError, match=r"`to_quantize` can only either be a keras"):
        tfmot().quantization.keras.quantize_model(model)
    assert quantization_report(quantize_aware(model)).int8_share == 1


def test_the_report_says_what_stays_float_and_why():
    quantized = quantize_aware(
        over(lambda x: kl.LayerNormalization(name="ln")(conv(name="kept")(conv(name="before")(x)))),
        keep_float="kept",
    )
    report = quantization_report(quantized)
    assert report.floats == {
        "kept": "is in `keep_float`",
        "ln": "LayerNormalization has no int8 kernel, or none that is known",
    }
    assert report["before"].dtype == "int8" and report["flat"].dtype == "int8"
    assert report.int8_share == 4 / 6
    assert "kept" in str(report) and str(report).splitlines()[-1].split() == ["int8", "67%"]


def test_what_reads_a_layer_kept_in_float_is_float_too():
    """Between two ranges the converter would compute the kept layer in int8 after all."""
    quantized = quantize_aware(
        over(lambda x: conv(name="after")(kl.MaxPooling2D(2, name="pool")(x))), keep_float="entry"
    )
    floats = quantization_report(quantized).floats
    assert floats["after"] == "reads entry, which stays float"
    assert set(floats) == {"entry", "pool", "after"}
    assert type(quantized.get_layer("after")) is kl.Conv2D
    assert "entry" not in rounded_after(quantized) and "after" in rounded_after(quantized)


def test_the_report_survives_a_file(tmp_path):
    quantized = quantize_aware(over(conv(name="kept")), keep_float="kept")
    quantized.save(tmp_path / "quantized.keras")
    loaded = keras.saving.load_model(tmp_path / "quantized.keras")
    assert quantization_report(loaded) == quantization_report(quantized)


def test_a_folded_normalization_keeps_its_convolution_in_float():
    model = over(lambda x: kl.BatchNormalization(name="bn")(conv(name="a")(x)))
    assert set(quantization_report(quantize_aware(model, keep_float="bn")).floats) >= {"a"}


@keras.saving.register_keras_serializable("tests")
class Composite(kl.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = kl.Dense(4)

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)


def test_what_is_inside_a_composite_layer_stays_float():
    inputs = keras.Input((4,))
    block = keras.Model(inputs, Composite(name="block")(inputs), name="blocks")
    with pytest.raises(ValueError, match=r"composite layer .*quantization='dynamic'"):
        quantize_aware(block)
    x = kl.Add(name="sum")([inputs, inputs])
    model = keras.Model(inputs, kl.Dense(2, name="head")(Composite(name="block")(x)))
    quantized = quantize_aware(model)
    report = quantization_report(quantized)
    assert report["head"].dtype == "int8" and "composite" in report["block"].reason
    assert report["sum"].reason == "stands between layers that stay float"
    assert rounded_after(quantized) == {"block", "head"}


def test_refusals():
    model = over(kl.ReLU(name="relu"))
    with pytest.raises(TypeError, match=r"`model` must be a keras.Model"):
        quantize_aware("model.keras")
    with pytest.raises(ValueError, match=r"must be built"):
        quantize_aware(keras.Sequential([kl.Dense(2)]))
    with pytest.raises(ValueError, match=r"quantized already"):
        quantize_aware(quantize_aware(model))
    with pytest.raises(ValueError, match=r"No layer of 'net' matches.*Closest: 'entry'"):
        quantize_aware(model, keep_float="entri")
    with pytest.raises(ValueError, match=r"at least one example. Received: none"):
        quantize_aware(model, np.zeros((0, *cases.SHAPE)))
    with pytest.raises(ValueError, match=r"of shape \(None, 8, 8, 4\).*\(2, 9, 8, 4\)"):
        quantize_aware(model, np.zeros((2, 9, 8, 4)))
    with pytest.raises(ValueError, match=r"has 1 inputs.*Received: 2"):
        quantize_aware(model, [np.zeros((2, 8, 8, 4))] * 2)
    with pytest.raises(ValueError, match=r"must be finite. Received: 1 values"):
        x = cases.pictures(2)
        x[0, 0, 0, 0] = np.nan
        quantize_aware(model, x)
    with pytest.raises(ValueError, match=r"must be one that `quantize_aware` returned"):
        quantization_report(fold(model).model)
