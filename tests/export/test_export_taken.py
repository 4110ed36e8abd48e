"""What can be exported is; what cannot is refused before, by one sentence that is true."""

import warnings

import keras
import numpy as np
import pytest

from kerastl import compression, export
from kerastl.export import calibration
from kerastl.export.naming import graph_of
from tests.tolerances import REDUCTION

L = keras.layers


@pytest.fixture(scope="module")
def series():
    return np.random.default_rng(0).normal(size=(48, 6, 5)).astype("float32")


class Block(L.Layer):
    """A composite layer with a recurrent one inside."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inside = L.GRU(3, name="inside")

    def build(self, shape):
        self.inside.build(shape)

    def call(self, inputs):
        return self.inside(inputs)


RECURRENT = {
    "lstm": lambda: L.LSTM(3, name="loop"),
    "gru": lambda: L.GRU(3, name="loop"),
    "simple": lambda: L.SimpleRNN(3, name="loop"),
    "cell": lambda: L.RNN(L.LSTMCell(3), name="loop"),
    "cells": lambda: L.RNN([L.GRUCell(3), L.GRUCell(2)], name="loop"),
    "both_ways": lambda: L.Bidirectional(L.LSTM(3), name="loop"),
    "in_a_layer": lambda: Block(name="loop"),
    "in_a_model": lambda: keras.Sequential([keras.Input((6, 5)), L.LSTM(3)], name="loop"),
}


def recurrent(layer, outputs=2):
    t = keras.Input((6, 5), name="t")
    return keras.Model(t, L.Dense(outputs, activation="softmax", name="head")(layer(t)))


@pytest.mark.parametrize("name", RECURRENT)
def test_ranges_in_loops_are_refused_by_the_name_of_the_layer(name, series, tmp_path):
    """The converter's calibrator would end the process (a segmentation fault)."""
    with pytest.raises(ValueError, match=r"loop over time\. Received: loop.* unroll=True.*dynamic"):
        export.to_litert(
            recurrent(RECURRENT[name]()),
            tmp_path / "m.tflite",
            quantization="int8",
            representative_data=series,
        )
    assert not list(tmp_path.iterdir())


def test_what_the_refusal_recommends_works(series, tmp_path):
    model, path = recurrent(L.LSTM(3, name="loop")), tmp_path / "m.tflite"
    with pytest.raises(ValueError, match=r"'int16x8'. cannot be had.*loop"):
        export.to_litert(model, path, quantization="int16x8", representative_data=series)
    with pytest.raises(ValueError, match=r"cannot be had.*loop"):
        export.layer_errors(model, series)
    export.to_litert(model, path, quantization="dynamic")
    aware = compression.quantize_aware(model, series)
    with pytest.warns(UserWarning, match="These operations stayed float32"):
        export.to_litert(aware, path, quantization="int8")
    with pytest.raises(
        ValueError, match=r"Received: batch_size=None, and loop\. Pass batch_size=1"
    ):
        export.to_litert(model, path, batch_size=None)
    unrolled = recurrent(L.LSTM(3, unroll=True, name="loop"))
    unrolled.set_weights(model.get_weights())
    with warnings.catch_warnings():
        # The converter folds the split of the bias in some processes and leaves it in others.
        warnings.filterwarnings("ignore", ".*stayed float32.* 1 SPLIT")
        export.to_litert(unrolled, path, quantization="int8", representative_data=series)
    assert export.parity(model, path, series).max_abs_error < 0.05


def test_the_ladder_goes_on_past_what_the_converter_refuses(series, tmp_path):
    model = recurrent(L.LSTM(3, name="loop"))
    labels = model.predict(series, verbose=0).argmax(1)
    ladder = export.to_litert_within(
        model, tmp_path / "m.tflite", series, labels, representative_data=series, max_drop=0.05
    )
    assert [rung.name for rung in ladder.rungs] == ["int8", "int8_mixed", "dynamic"]
    assert ladder.chosen is ladder.rungs[-1]
    assert all("Received: loop" in rung.note for rung in ladder.rungs[:2])


def test_a_rung_whose_file_does_not_run_is_passed_too(tmp_path, monkeypatch):
    from kerastl.export import ladder

    i = keras.Input((4,), name="i")
    model, x = keras.Model(i, L.Dense(2)(i)), np.random.default_rng(0).random((16, 4), "float32")
    measured = ladder._Task._measured

    def failing(self, name, content, kept=()):
        if name == "dynamic":
            raise ValueError("m.tflite cannot be run by this LiteRT runtime")
        return measured(self, name, content, kept)

    monkeypatch.setattr(ladder._Task, "_measured", failing)
    labels = model.predict(x, verbose=0).argmax(1)
    steps = ("dynamic", "float16")
    found = export.to_litert_within(model, tmp_path / "m.tflite", x, labels, ladder=steps)
    assert found.chosen.name == "float16" and "cannot be run" in found.rungs[0].note


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "float64"])
def test_a_model_of_another_policy_is_written_in_float32(policy, tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        image = keras.Input((8, 8, 3), name="image")
        x = L.BatchNormalization()(L.Conv2D(4, 3, activation="relu")(L.Rescaling(1 / 255)(image)))
        x = L.MultiHeadAttention(2, 2)(*(2 * [L.Reshape((-1, 4))(x)]))
        model = keras.Model(image, L.Dense(3)(L.GlobalAveragePooling1D()(x)))
    finally:
        keras.config.set_dtype_policy(before)
    same = keras.models.clone_model(model, clone_function=in_float32)
    same.set_weights([weight.astype("float32") for weight in model.get_weights()])
    pixels = np.random.default_rng(0).random((4, 8, 8, 3), "float32") * 255
    answers = model.predict(pixels, verbose=0)
    expected = same.predict(pixels, verbose=0)  # by plain Keras
    path = export.to_litert(model, tmp_path / "m.tflite")
    received = export.LiteRTModel(path).predict(pixels)
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-6)
    assert model.layers[2].compute_dtype == keras.DTypePolicy(policy).compute_dtype
    np.testing.assert_array_equal(model.predict(pixels, verbose=0), answers)


def in_float32(layer):
    settings = layer.get_config()
    return type(layer).from_config({**settings, "dtype": "float32"})


def test_a_mixed_model_that_learned_rounding_is_written(tmp_path):
    image = keras.Input((8, 8, 3), name="image")
    x = L.Conv2D(4, 3, activation="relu", dtype="mixed_float16")(image)
    model = keras.Model(image, L.Dense(3, dtype="float32")(L.GlobalAveragePooling2D()(x)))
    pixels = np.random.default_rng(0).random((32, 8, 8, 3), "float32")
    aware = compression.quantize_aware(model, pixels)
    path = export.to_litert(aware, tmp_path / "m.tflite", quantization="int8")
    assert export.parity(aware, path, pixels).max_abs_error < 0.02


def test_a_model_that_keras_quantized_is_refused_by_name(tmp_path):
    model = keras.Sequential([keras.Input((6,)), L.Dense(8, name="a"), L.Dense(3, name="b")])
    for layer in model.layers:
        layer.quantize("int8")
    with pytest.raises(ValueError, match=r"layers a, b Keras has quantized by `model\.quantize\("):
        export.to_litert(model, tmp_path / "m.tflite")


def test_strings_and_open_sizes(tmp_path):
    import tensorflow as tf

    text = keras.Input((), dtype="string", name="text")
    words = L.TextVectorization(vocabulary=["good", "film"], output_sequence_length=4)(text)
    reader = keras.Model(text, L.Dense(2)(L.Flatten()(L.Embedding(5, 3)(words))))
    image = keras.Input((None, None, 3), name="image")
    seen = keras.Model(image, L.Dense(2)(L.GlobalAveragePooling2D()(L.Conv2D(3, 3)(image))))
    for model, received in ((reader, "input 'text' of strings"), (seen, "input 'image' of shape")):
        with pytest.raises(ValueError, match=received):
            export.to_litert(model, tmp_path / "m.tflite")
    loaded = tf.saved_model.load(export.to_saved_model(reader, tmp_path / "reader"))
    line = tf.constant(["good film"])
    np.testing.assert_allclose(loaded.serve(line), reader(line), **REDUCTION)
    loaded = tf.saved_model.load(export.to_saved_model(seen, tmp_path / "seen"))
    pixels = np.random.default_rng(0).random((2, 9, 7, 3), "float32")
    np.testing.assert_allclose(loaded.serve(pixels), seen(pixels), **REDUCTION)


@pytest.mark.parametrize("targets", [None, "one", "several"])
def test_calibration_reads_generators_by_name(targets):
    zoom, angle = keras.Input((1,), name="zoom"), keras.Input((1,), name="angle")
    graph = graph_of(keras.Model([zoom, angle], zoom + angle))
    x = np.arange(1.0, 31, dtype="float32")[:, None]
    y = None if targets is None else np.arange(30) % 2

    def batches():
        for k in range(0, 30, 10):
            rows = slice(k, k + 10)
            fed = {"zoom": x[rows], "angle": -x[rows]}
            yield fed if y is None else (fed, y[rows] if targets == "one" else {"a": x[rows]})

    found = calibration.draw(graph, batches)
    np.testing.assert_array_equal(found["zoom"], -found["angle"])
    assert found["zoom"].min() > 0 and len(found["zoom"]) == 30


def test_the_cause_is_shown_and_not_where_it_was_met(tmp_path):
    class Host(L.Layer):
        def call(self, inputs):
            return keras.ops.convert_to_tensor(keras.ops.convert_to_numpy(inputs))

        def compute_output_spec(self, inputs):
            return keras.KerasTensor(inputs.shape, inputs.dtype)

    i = keras.Input((6,), name="i")
    with pytest.raises(RuntimeError, match=r"LiteRT: Cannot convert a symbolic.* \(in Host\.call"):
        export.to_litert(keras.Model(i, Host()(i)), tmp_path / "m.tflite")


def test_ranges_of_operations_that_only_flex_has_are_refused_by_layer(tmp_path):
    number = keras.Input((1,), dtype="int32", name="number")
    model = keras.Model(number, L.Dense(2)(L.CategoryEncoding(4, name="codes")(number)))
    data = np.arange(16).reshape(16, 1) % 4
    with pytest.raises(ValueError, match=r"does not have: DenseBincount.*use them: codes"):
        export.to_litert(
            model, tmp_path / "m.tflite", quantization="int8", representative_data=data
        )
