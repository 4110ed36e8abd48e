"""Files hold the model in inference mode, whatever its layers do by default."""

import keras
import numpy as np
import pytest

from kerastl import compression, export
from kerastl.export import litert_file
from tests.tolerances import REDUCTION

L = keras.layers


class Cut(L.Layer):
    """A composite layer with no `training` of its own around one that trains by default."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.crop = L.CenterCrop(8, 8)

    def call(self, inputs):
        return self.crop(inputs)


class Subclass(keras.Model):
    """A functional model by inheritance."""


def network(inputs, first):
    """A batch normalization, of which training and inference differ, behind `first`."""
    x = L.Conv2D(4, 3, strides=2)(first(inputs))
    norm = L.BatchNormalization()
    x = norm(x)
    norm.moving_mean.assign([3.0, -2.0, 1.0, 0.5])
    norm.moving_variance.assign([900.0, 400.0, 100.0, 1600.0])
    return L.Dense(3, name="scores")(L.GlobalAveragePooling2D()(L.Dropout(0.5)(x)))


FIRST = {
    "resizing": lambda: L.Resizing(8, 8),
    "center_crop": lambda: L.CenterCrop(8, 8),
    "random_crop": lambda: L.RandomCrop(8, 8),
    "flip_and_rotation": lambda: keras.Sequential([L.RandomFlip(), L.RandomRotation(0.2)]),
    "composite": Cut,
}


def functional(first):
    image = keras.Input((12, 12, 3), name="image")
    return keras.Model(image, network(image, FIRST[first]()))


def nested():
    """The layer is the first of a model inside the model."""
    inner = functional("resizing")
    image = keras.Input((12, 12, 3), name="image")
    return keras.Model(image, L.Activation("softmax")(inner(image)))


def sequential():
    model = keras.Sequential([keras.Input((12, 12, 3), name="image"), L.Resizing(8, 8)])
    model.add(L.Rescaling(1 / 255))
    model.add(L.Conv2D(4, 3))
    model.add(L.BatchNormalization())
    model.add(L.Flatten())
    model.add(L.Dense(3))
    return model


def subclass():
    image = keras.Input((12, 12, 3), name="image")
    return Subclass(image, network(image, FIRST["resizing"]()))


MODELS = {**{name: lambda name=name: functional(name) for name in FIRST}}
MODELS |= {"nested": nested, "sequential": sequential, "subclass": subclass}


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).random((16, 12, 12, 3), "float32") * 255


@pytest.mark.parametrize("name", MODELS)
def test_a_file_repeats_predict(name, pixels, tmp_path):
    model = MODELS[name]()
    expected = model.predict(pixels, verbose=0)
    path = export.to_litert(model, tmp_path / "m.tflite")
    np.testing.assert_allclose(export.LiteRTModel(path).predict(pixels), expected, **REDUCTION)


def test_a_saved_model_repeats_predict(pixels, tmp_path):
    import tensorflow as tf

    model = functional("flip_and_rotation")
    loaded = tf.saved_model.load(export.to_saved_model(model, tmp_path / "saved"))
    expected = model.predict(pixels, verbose=0)
    np.testing.assert_allclose(loaded.serve(pixels), expected, **REDUCTION)


def test_a_model_that_learned_rounding_repeats_predict(pixels, tmp_path):
    aware = compression.quantize_aware(functional("resizing"), pixels)
    path = export.to_litert(aware, tmp_path / "m.tflite", quantization="int8")
    expected, received = aware.predict(pixels, verbose=0), export.LiteRTModel(path).predict(pixels)
    step = export.LiteRTModel(path).outputs[0].scale or np.ptp(expected) / 255
    assert np.abs(received - expected).max() <= 2 * step


def test_int8_ranges_are_those_of_inference(pixels, tmp_path):
    model = functional("resizing")
    path = export.to_litert(
        model, tmp_path / "m.tflite", quantization="int8", representative_data=pixels
    )
    expected, received = model.predict(pixels, verbose=0), export.LiteRTModel(path).predict(pixels)
    # 12.6 dB before, where batch normalization took each picture for a batch.
    assert 10 * np.log10(np.square(expected).sum() / np.square(expected - received).sum()) > 25


def test_what_needs_flex_is_compared_too(tmp_path, monkeypatch):
    number = keras.Input((1,), dtype="int32", name="number")
    model = keras.Model(number, L.Dense(2)(L.CategoryEncoding(4)(number)))
    assert export.to_litert(model, tmp_path / "m.tflite", allow_flex=True)
    monkeypatch.setattr(
        litert_file, "run_saved_model", lambda path: lambda named: [np.full((1, 2), 9.0)]
    )
    with pytest.raises(RuntimeError, match="does not repeat the model"):
        export.to_litert(model, tmp_path / "other.tflite", allow_flex=True)
    assert [file.name for file in tmp_path.iterdir()] == ["m.tflite"]
    with pytest.raises(ValueError, match=r"FlexDenseBincount.*use them: category_encoding"):
        export.to_litert(model, tmp_path / "other.tflite")
