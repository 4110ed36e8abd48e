"""KerasHub, KerasNLP and KerasCV backbones, from presets made here."""

import sys

import keras
import numpy as np
import pytest

from kerastl import backbones
from kerastl.backbones import cv, hub
from tests.tolerances import ELEMENTWISE, EXACT, REDUCTION

keras_hub = pytest.importorskip("keras_hub")

SCALE, OFFSET = [0.017, 0.018, 0.019], [-2.1, -2.0, -1.8]


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("uint8")


@pytest.fixture(scope="module")
def resnet():
    model = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64],
        stackwise_num_blocks=[1],
        stackwise_num_strides=[1],
        block_type="basic_block",
        image_shape=(None, None, 3),
    )
    random = np.random.default_rng(1)  # no weight stays what an initializer would make it
    model.set_weights([w + 0.1 * random.random(w.shape) for w in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def image_preset(resnet, tmp_path_factory):
    folder = tmp_path_factory.mktemp("resnet")
    resnet.save_to_preset(folder)
    converter = keras_hub.layers.ImageConverter(image_size=(48, 40), scale=SCALE, offset=OFFSET)
    converter.save_to_preset(folder)
    return folder


@pytest.fixture(scope="module")
def bert():
    # Through the older package name: it must be the same class.
    keras_nlp = pytest.importorskip("keras_nlp")
    return keras_nlp.models.BertBackbone(
        vocabulary_size=30,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=16,
    )


@pytest.fixture(scope="module")
def tokens():
    return {
        "token_ids": np.array([[1, 5, 9, 0, 0], [2, 3, 4, 6, 7]]),
        "segment_ids": np.zeros((2, 5), "int32"),
        "padding_mask": np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]),
    }


@pytest.mark.parametrize("prefix", ["", "hub:"])
def test_image_preset_has_its_converters_scaling_inside(prefix, image_preset, resnet, pixels):
    model = backbones.load(f"{prefix}{image_preset}", image_size=32)
    prepared = pixels.astype("float32") * np.array(SCALE, "float32") + np.array(OFFSET, "float32")
    expected = np.asarray(resnet(prepared, training=False)).mean(axis=(1, 2))
    np.testing.assert_allclose(model(pixels), expected, rtol=1e-4)


def test_image_preset_takes_its_converters_size_unless_told(image_preset):
    assert backbones.load(image_preset).input_shape == (None, 48, 40, 3)


def test_preset_without_converter_takes_pixels_as_they_are(resnet, pixels, tmp_path):
    resnet.save_to_preset(tmp_path)
    model = backbones.load(tmp_path, pooling="max", image_size=32)
    expected = np.asarray(resnet(pixels.astype("float32"), training=False)).max(axis=(1, 2))
    np.testing.assert_allclose(model(pixels), expected, **REDUCTION)


def test_preset_without_weights_and_with_a_weights_file(image_preset, resnet, tmp_path):
    kernel = resnet.weights[0]
    fresh = backbones.load(image_preset, weights=None)
    assert not np.array_equal(fresh.weights[0], kernel)
    resnet.save_weights(tmp_path / "own.weights.h5")
    loaded = backbones.load(image_preset, weights=tmp_path / "own.weights.h5")
    np.testing.assert_allclose(loaded.weights[0], kernel, **EXACT)


def test_encoder_gives_its_own_pooled_output(bert, tokens, tmp_path):
    bert.save_to_preset(tmp_path)
    model = backbones.load(tmp_path)
    assert isinstance(model.input, dict)
    np.testing.assert_allclose(model(tokens), bert(tokens)["pooled_output"], **ELEMENTWISE)
    with pytest.raises(ValueError, match="takes text"):
        backbones.load(tmp_path, image_size=32)


@pytest.mark.parametrize("pooling", ["avg", "max", "token", None])
def test_poolings_of_a_keras_nlp_model_leave_padding_out(pooling, bert, tokens, tmp_path):
    sequence = np.asarray(bert(tokens)["sequence_output"])
    first = sequence[0, :3]  # three real tokens, two of padding
    expected = {
        "avg": np.stack([first.mean(0), sequence[1].mean(0)]),
        "max": np.stack([first.max(0), sequence[1].max(0)]),
        "token": sequence[:, 0],
        None: sequence,
    }[pooling]
    model = backbones.load(bert, pooling=pooling)
    np.testing.assert_allclose(model(tokens), expected, **REDUCTION)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(tokens), model(tokens), **EXACT)


def test_image_tokens_and_a_fixed_image_size(pixels):
    vit = keras_hub.models.ViTBackbone(
        image_shape=(32, 32, 3),
        patch_size=(8, 8),
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        mlp_dim=16,
    )
    model = backbones.load(vit, pooling="token")
    np.testing.assert_allclose(
        model(pixels), np.asarray(vit(pixels.astype("float32")))[:, 0], **ELEMENTWISE
    )
    with pytest.raises(ValueError, match=r"must be \(32, 32\).*Received: image_size=\(64, 64\)"):
        backbones.load(vit, image_size=64)


def test_unknown_presets_are_refused_with_the_nearest(tmp_path):
    with pytest.raises(ValueError, match="Closest: 'resnet_50_imagenet'"):
        backbones.load("hub:resnet_50_imagenett")
    with pytest.raises(ValueError, match=r"must hold a config\.json"):
        backbones.load(tmp_path)


@pytest.mark.parametrize(
    ("module", "package", "name"),
    [(hub, "keras-hub", "hub:resnet_18_imagenet"), (cv, "keras-cv", "cv:resnet18")],
)
def test_an_absent_package_is_named_with_its_pip_line(module, package, name, monkeypatch):
    monkeypatch.setitem(sys.modules, package.replace("-", "_"), None)
    with pytest.raises(ImportError, match=f"pip install {package}"):
        backbones.load(name)


def test_no_connection_is_told_once(monkeypatch):
    def refuse(*_, **__):
        raise OSError("Failed to resolve 'api.kaggle.com'")

    monkeypatch.setattr(keras_hub.models.Backbone, "from_preset", refuse)
    with pytest.raises(ConnectionError, match=r"resnet_18_imagenet.*weights=PATH"):
        backbones.load("hub:resnet_18_imagenet")


@pytest.mark.parametrize("include_rescaling", [True, False])
def test_keras_cv_backbone_is_scaled_once(include_rescaling, pixels, tmp_path):
    keras_cv = pytest.importorskip("keras_cv")
    from keras_cv.src.utils.preset_utils import save_to_preset

    network = keras_cv.models.ResNetBackbone(
        stackwise_filters=[8],
        stackwise_blocks=[1],
        stackwise_strides=[1],
        include_rescaling=include_rescaling,
    )
    save_to_preset(network, str(tmp_path))
    model = backbones.load(f"cv:{tmp_path}", image_size=32)
    given = pixels.astype("float32") / (1 if include_rescaling else 255)
    expected = np.asarray(network(given, training=False)).mean(axis=(1, 2))
    np.testing.assert_allclose(model(pixels), expected, **REDUCTION)


def test_unknown_keras_cv_preset_is_refused_with_the_nearest():
    pytest.importorskip("keras_cv")
    with pytest.raises(ValueError, match="Closest: 'efficientnetv1_b0'"):
        backbones.load("cv:efficientnetv1_b00")
