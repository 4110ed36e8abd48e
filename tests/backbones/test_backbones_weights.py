"""Weights files: loaded whole, or refused with what differs."""

import logging
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from kerastl import backbones
from kerastl.backbones import weights as weights_module
from tests.tolerances import EXACT

DATA = Path(__file__).parents[3] / "shared" / "data"
MOBILENET = DATA / "mobilenet_0.25_224"
NOTOP = MOBILENET / "mobilenet_v1_0.25_224_notop.weights.h5"
TOP = MOBILENET / "mobilenet_v1_0.25_224.weights.h5"
needs_data = pytest.mark.skipif(not NOTOP.exists(), reason=f"{NOTOP} is not here")

SMALL = {"image_size": 32, "alpha": 0.25}


@pytest.fixture(scope="module")
def full():
    """A network with its classifier and weights that are not the initial ones."""
    model = keras.applications.MobileNet(weights=None, alpha=0.25)
    random = np.random.default_rng(0)
    model.set_weights([w + random.random(w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def files(full, tmp_path_factory):
    """The same weights in each format, with and without the classifier."""
    folder = tmp_path_factory.mktemp("weights")
    notop = keras.Model(full.input, full.get_layer("conv_pw_13_relu").output)
    logging.getLogger("absl").setLevel(logging.ERROR)  # Keras warns of its own old format
    for name, model in (("top", full), ("notop", notop)):
        model.save_weights(folder / f"{name}.weights.h5")
        model.save(folder / f"{name}.keras")
        model.save(folder / f"{name}.h5")  # the Keras 2 layout, inside a whole model
    logging.getLogger("absl").setLevel(logging.WARNING)
    (folder / "plain.h5").write_bytes((folder / "top.weights.h5").read_bytes())
    return folder


FORMATS = "top.weights.h5 notop.weights.h5 top.keras notop.keras top.h5 notop.h5 plain.h5"


@pytest.mark.parametrize("name", FORMATS.split())
def test_every_format_with_and_without_classifier(name, files, full):
    model = backbones.load("mobilenet", weights=files / name, **SMALL)
    backbone_weights = full.weights[: len(model.weights)]
    assert len(model.weights) == 135  # 27 convolutions, and 27 norms with four weights each
    for ours, theirs in zip(model.weights, backbone_weights, strict=True):
        np.testing.assert_allclose(ours, theirs, **EXACT)


@pytest.mark.parametrize("name", ["notop.keras", "notop.h5"])
def test_another_width_is_refused_with_the_shapes(name, files):
    with pytest.raises(ValueError, match=r"another shape.*\(8,\) in the file.*alpha=0.5") as caught:
        backbones.load("mobilenet", weights=files / name, image_size=32, alpha=0.5)
    assert "nothing was loaded" in str(caught.value)


def test_another_network_is_refused_with_what_is_missing(files):
    with pytest.raises(ValueError, match="are missing in the file"):
        backbones.load("mobilenet_v2", weights=files / "top.weights.h5", image_size=32, alpha=0.35)


def test_a_deeper_network_is_refused_with_what_is_left_over(tmp_path):
    image = keras.Input((32, 32, 3))
    shallow = keras.Model(image, keras.layers.Conv2D(3, 1)(image))
    layers = [keras.layers.Conv2D(3, 1) for _ in range(3)]
    keras.Sequential([image, *layers]).save_weights(tmp_path / "deep.weights.h5")
    with pytest.raises(ValueError, match=r"4 are only in the file: layers/conv2d_1/vars/0"):
        weights_module.load_weights(shallow, tmp_path / "deep.weights.h5", head_arrays=2)


def test_a_refused_file_changes_nothing(files):
    model = keras.applications.MobileNet(
        weights=None, alpha=0.5, include_top=False, input_shape=(32, 32, 3)
    )
    before = model.get_weights()
    for name in ("top.weights.h5", "top.h5"):
        with pytest.raises(ValueError, match="nothing was loaded"):
            weights_module.load_weights(model, files / name, head_arrays=2)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_allclose(new, old, **EXACT)


def test_a_file_cut_short_is_refused(files, tmp_path):
    for name in ("top.weights.h5", "top.keras"):
        (tmp_path / name).write_bytes((files / name).read_bytes()[:50_000])
        with pytest.raises(ValueError, match="not a readable Keras weights file"):
            backbones.load("mobilenet", weights=tmp_path / name, **SMALL)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="is a folder"):
        backbones.load("mobilenet", weights=tmp_path, **SMALL)


def test_a_loader_that_does_nothing_is_found_out(files, monkeypatch):
    monkeypatch.setattr(weights_module, "_load_as_keras", lambda model, path: None)
    with pytest.raises(RuntimeError, match="weights of the model hold other values"):
        backbones.load("mobilenet", weights=files / "top.weights.h5", **SMALL)


def test_published_efficientnet_file_by_path_equals_weights_imagenet(tmp_path, monkeypatch):
    """keras.applications mends that file's Normalization only for weights="imagenet"."""
    path = tmp_path / "efficientnetb0_notop.h5"
    _save_like_published(path)
    module = sys.modules[keras.applications.EfficientNetB0.__module__]
    monkeypatch.setattr(module.file_utils, "get_file", lambda *_, **__: str(path))
    expected = backbones.load("efficientnet_b0", weights="imagenet", image_size=32)
    received = backbones.load("efficientnet_b0", weights=path, image_size=32)
    assert len(expected.layers) == len(received.layers) + 1
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("uint8")
    features = np.asarray(expected(pixels))
    scale = np.abs(features).max()  # near 1e-6 behind fresh weights
    assert scale > 0
    np.testing.assert_allclose(received(pixels) / scale, features / scale, atol=1e-4)


def _save_like_published(path):
    """EfficientNetB0 in the Keras 2 layout, its Normalization as in the published files."""
    model = keras.applications.EfficientNetB0(
        weights=None, include_top=False, input_shape=(32, 32, 3)
    )
    [normalization] = [x for x in model.layers if isinstance(x, keras.layers.Normalization)]
    normalization.weights[0].assign([0.485, 0.456, 0.406])
    normalization.weights[1].assign([0.229, 0.224, 0.225])
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            ordered = layer.trainable_weights + layer.non_trainable_weights
            group.attrs["weight_names"] = [f"w{k}" for k in range(len(ordered))]
            for k, weight in enumerate(ordered):
                group[f"w{k}"] = keras.ops.convert_to_numpy(weight)


@needs_data
@pytest.mark.parametrize("path", [NOTOP, TOP], ids=["notop", "top"])
def test_real_features_on_photographs_equal_keras_applications(path):
    photographs = sorted((DATA / "flowers" / "test").glob("*/*.jpg"))[::25]
    pixels = np.stack(
        [np.asarray(keras.utils.load_img(p, target_size=(96, 96))) for p in photographs]
    )
    model = backbones.load("mobilenet", weights=path, image_size=96, alpha=0.25)
    reference = keras.applications.MobileNet(
        alpha=0.25, weights=NOTOP, include_top=False, pooling="avg", input_shape=(96, 96, 3)
    )
    prepared = keras.applications.mobilenet.preprocess_input(pixels.astype("float32"))
    np.testing.assert_allclose(
        model(pixels), reference(prepared, training=False), rtol=1e-5, atol=1e-5
    )


@needs_data
def test_the_real_file_of_alpha_025_is_refused_at_another_alpha():
    with pytest.raises(ValueError, match=r"another shape.*alpha=1.0: is the file's the same"):
        backbones.load("mobilenet", weights=NOTOP, image_size=32)
