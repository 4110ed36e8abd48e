"""Quantized files: accuracy on real pictures, dtypes, ranges that come with the model, BERT."""

import keras
import numpy as np
import pytest

from kerastl import backbones, export
from kerastl.backbones.glyphs import class_names, load_glyphnet, render_glyphs
from kerastl.export import conversion, flatbuffer, metadata
from tests.export.test_export import DATA, NOTOP
from tests.tolerances import REDUCTION


@pytest.fixture(scope="module")
def glyphs():
    return render_glyphs(400, seed=(4, 2))  # not a training seed


@pytest.fixture(scope="module")
def classifier():
    return load_glyphnet(include_top=True)


@pytest.fixture(scope="module")
def int8(classifier, glyphs, tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "glyphs.tflite"
    images, labels = glyphs
    return export.to_litert(
        classifier,
        path,
        quantization="int8",
        io_dtype="uint8",
        representative_data=(images[:200], labels[:200]),
        labels=class_names(),
    )


@pytest.fixture(scope="module")
def tiny():
    """Two layers, three classes: quick to convert."""
    pixels = keras.Input((8, 6, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(pixels)
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(pixels, keras.layers.Dense(3, name="scores")(x))


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (24, 8, 6, 3)).astype("float32")


def test_int8_keeps_the_accuracy_in_a_quarter_of_the_size(int8, classifier, glyphs):
    images, labels = (part[200:] for part in glyphs)
    result = export.parity(classifier, int8, images, labels)
    assert result.model_accuracy > 0.95
    assert abs(result.model_accuracy - result.file_accuracy) <= 0.01
    assert result.agreement > 0.97
    # One byte for each of the weights, and the rest of the file.
    assert 1.0 < result.size_bytes / classifier.count_params() < 1.15
    assert result.gzip_bytes < result.size_bytes


def test_every_operation_of_an_int8_file_is_integer(int8):
    with open(int8, "rb") as file:
        table = flatbuffer.operation_table(file.read())
    rows = {row.op: row for row in table}
    assert (rows["CONV_2D"].dtype, rows["CONV_2D"].weights) == ("int8", "int8")
    assert rows["CONV_2D"].count == 10  # the stem, and three in each of three stages
    assert not any(row.in_float for row in table)


def test_layers_and_weights_have_their_names_in_a_file(tiny, pixels, tmp_path):
    path = tmp_path / "m.tflite"
    export.to_litert(tiny, path, quantization="int8", representative_data=pixels)
    content = path.read_bytes()
    graph = flatbuffer._parse(flatbuffer._schema(), content).subgraphs[0]
    names = [tensor.name.decode() for tensor in graph.tensors]
    convolution = next(op for op in graph.operators if len(op.inputs) == 3)
    _, kernel, bias = (names[k] for k in convolution.inputs)
    assert (names[convolution.outputs[0]], kernel, bias) == ("conv", "conv:2", "conv:2")
    assert len(set(names)) == len(names) - 1  # all others have names of their own


def test_real_values_go_in_and_come_out_of_integer_files(int8, glyphs):
    lite = export.LiteRTModel(int8, threads=1)
    assert (lite.inputs[0].dtype, lite.outputs[0].dtype) == ("uint8", "uint8")
    images = glyphs[0][:20]
    scores = lite.predict(images)
    assert scores.dtype == np.float32
    # Probabilities: a softmax in 8 bits has 256 steps.
    np.testing.assert_allclose(scores.sum(1), 1.0, atol=49 / 256)
    assert np.array_equal(lite.predict(images.astype("float32")), scores)


@pytest.mark.parametrize(
    ("quantization", "io_dtype", "batch_size", "least_db"),
    [
        ("float16", "float32", 1, 50),
        ("dynamic", "float32", None, 25),
        ("int8", "int8", 2, 25),
        ("int16x8", "int16", 1, 35),
    ],
)
def test_each_way_to_quantize(tiny, pixels, tmp_path, quantization, io_dtype, batch_size, least_db):
    path = export.to_litert(
        tiny,
        tmp_path / "tiny.tflite",
        quantization=quantization,
        io_dtype=io_dtype,
        representative_data=pixels,
        batch_size=batch_size,
    )
    lite = export.LiteRTModel(path)
    assert lite.inputs[0].shape == (batch_size, 8, 6, 3)
    assert lite.inputs[0].dtype == lite.outputs[0].dtype == io_dtype
    ours, theirs = tiny.predict(pixels[:5], verbose=0), lite.predict(pixels[:5])
    error = np.square(ours - theirs).sum()
    assert 10 * np.log10(np.square(ours).sum() / error) > least_db
    assert export.parity(tiny, lite, pixels).int8_share == float(quantization.startswith("int"))


def test_an_open_batch_takes_any_number(tiny, pixels, tmp_path):
    lite = export.LiteRTModel(export.to_litert(tiny, tmp_path / "any.tflite", batch_size=None))
    assert lite.batch_size is None
    for count in (1, 5, 24):
        np.testing.assert_allclose(
            lite.predict(pixels[:count]), tiny.predict(pixels[:count], verbose=0), **REDUCTION
        )
    assert lite.milliseconds(pixels, runs=1) > 0


class FakeQuant(keras.layers.Layer):
    """An activation in 8 bits between fixed ends, as quantization-aware training leaves it."""

    def __init__(self, low, high):
        super().__init__()
        self.low, self.high = low, high

    def call(self, x):
        return keras.quantizers.fake_quant_with_min_max_vars(x, self.low, self.high, 8)


def test_a_model_that_brings_its_ranges_needs_no_data(tmp_path, pixels):
    inputs = keras.Input((8, 6, 3), name="pixels")
    x = FakeQuant(0.0, 255.0)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = FakeQuant(0.0, 255.0)(x)
    scores = FakeQuant(-400.0, 400.0)(keras.layers.Dense(3, name="dense")(x))
    model = keras.Model(inputs, scores)
    path = export.to_litert(model, tmp_path / "m.tflite", quantization="int8", io_dtype="int8")
    result = export.parity(model, path, pixels)
    assert result.int8_share == 1.0
    # Both round the same numbers, the file its weights too: a few steps of 800 / 255.
    assert result.max_abs_error <= 3 * 800 / 255


def test_a_tf_keras_model_is_exported_too(tmp_path, pixels):
    tf_keras = pytest.importorskip("tf_keras")
    inputs = tf_keras.Input((8, 6, 3), name="pixels")
    x = tf_keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    x = tf_keras.layers.GlobalAveragePooling2D()(x)
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(3, name="scores")(x))
    path = export.to_litert(
        model, tmp_path / "m.tflite", quantization="int8", representative_data=pixels
    )
    result = export.parity(model, path, pixels)
    assert (result.agreement, result.int8_share) == (1.0, 1.0)
    lite = export.LiteRTModel(path)
    assert (lite.inputs[0].name, lite.outputs[0].name) == ("pixels", "scores")


@pytest.fixture(scope="module")
def bert():
    from keras_hub.models import BertBackbone

    names = ("token_ids", "segment_ids", "padding_mask")
    inputs = {name: keras.Input((8,), dtype="int32", name=name) for name in names}
    backbone = BertBackbone(
        vocabulary_size=50,
        num_layers=1,
        num_heads=2,
        hidden_dim=32,
        intermediate_dim=64,
        max_sequence_length=8,
    )
    pooled = backbone(inputs)["pooled_output"]
    return keras.Model(inputs, keras.layers.Dense(3, name="scores")(pooled))


@pytest.fixture(scope="module")
def sentences():
    rng = np.random.default_rng(0)
    return {
        "token_ids": rng.integers(0, 50, (30, 8)),
        "segment_ids": np.zeros((30, 8), int),
        "padding_mask": np.ones((30, 8), int),
    }


def test_dynamic_range_bert_with_its_vocabulary(bert, sentences, tmp_path):
    path = export.to_litert(
        bert, tmp_path / "bert.tflite", quantization="dynamic", labels=["bad", "fair", "good"]
    )
    result = export.parity(bert, path, sentences)
    assert result.agreement > 0.9
    heavy = {row.weights for row in result.ops if row.op == "FULLY_CONNECTED"}
    assert "int8" in heavy and result.int8_share < 0.05
    words = ["[PAD]", "[UNK]", "café", "\u2028"]
    export.add_vocabulary(path, words)
    content = (tmp_path / "bert.tflite").read_bytes()
    assert metadata.read_vocabulary(content) == tuple(words)
    assert export.LiteRTModel(path).labels == ("bad", "fair", "good")
    assert export.parity(bert, path, sentences).max_abs_error == result.max_abs_error


def test_float16_bert_with_inputs_in_any_order(bert, sentences, tmp_path):
    path = export.to_litert(bert, tmp_path / "bert.tflite", quantization="float16")
    result = export.parity(bert, path, dict(reversed(sentences.items())))
    assert (result.agreement, result.int8_share) == (1.0, 0.0)
    # Sums of 32 numbers with 11 bits each.
    assert result.max_abs_error < 32 * 2**-11


def test_int16x8_refuses_integer_inputs_by_name(bert, sentences, tmp_path):
    with pytest.raises(ValueError, match="integer inputs padding_mask, segment_ids, token_ids"):
        export.to_litert(
            bert,
            tmp_path / "bert.tflite",
            quantization="int16x8",
            representative_data=sentences,
        )


def test_operations_without_an_int8_kernel_are_named(tmp_path, pixels):
    inputs = keras.Input((8, 6, 3), name="pixels")
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.ops.floor(keras.ops.cos(x))))
    with pytest.warns(UserWarning, match="stayed float32, because LiteRT has no int8 kernel.*COS"):
        path = export.to_litert(
            model, tmp_path / "m.tflite", quantization="int8", representative_data=pixels
        )
    assert 0 < export.parity(model, path, pixels).int8_share < 1


def test_a_quantized_file_that_lost_its_weights_is_refused(tiny, pixels, tmp_path, monkeypatch):
    def without_weights(content, **names):
        parsed = flatbuffer._parse(flatbuffer._schema(), renamed(content, **names))
        for buffer in parsed.buffers:
            if buffer.data is not None and len(buffer.data) in (12, 108):  # both layers' kernels
                buffer.data = np.zeros_like(buffer.data)
        return flatbuffer.packed(parsed, len(content))

    renamed = flatbuffer.renamed
    monkeypatch.setattr(conversion.flatbuffer, "renamed", without_weights)
    with pytest.raises(RuntimeError, match="dB of signal over error and the same class"):
        export.to_litert(
            tiny, tmp_path / "m.tflite", quantization="int8", representative_data=pixels
        )
    assert not list(tmp_path.iterdir())


def photographs(split, every):
    files = sorted((DATA / "flowers" / split).glob("*/*.jpg"))[::every]
    names = sorted({file.parent.name for file in files})
    images = [np.asarray(keras.utils.load_img(file, target_size=(96, 96))) for file in files]
    return np.stack(images), np.array([names.index(file.parent.name) for file in files])


@pytest.mark.skipif(not NOTOP.exists(), reason=f"{NOTOP} is not here")
def test_a_real_backbone_on_photographs(tmp_path):
    images, labels = photographs("train", 5)
    base = backbones.load("mobilenet", weights=NOTOP, alpha=0.25, image_size=96)
    features = base.predict(images, verbose=0)
    # The nearest class mean, as a dense layer: argmin |f - m|² = argmax (f·m - |m|²/2).
    means = np.stack([features[labels == k].mean(0) for k in range(5)])
    head = keras.layers.Dense(5, name="flower")
    model = keras.Model(base.input, head(base.output))
    head.set_weights([means.T, -0.5 * np.square(means).sum(1)])
    path = export.to_litert(
        model, tmp_path / "m.tflite", quantization="int8", representative_data=(images, labels)
    )
    result = export.parity(model, path, *photographs("test", 2))
    assert result.model_accuracy > 0.5
    assert result.file_accuracy > result.model_accuracy - 0.04  # 3 of 75
    assert result.int8_share == 1.0
    # A byte a weight, 4 a bias, 4 a scale of each channel of each kernel and bias; 13 kB of names.
    assert result.size_bytes < 1.3 * model.count_params()
