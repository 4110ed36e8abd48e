"""Backbones by name: the registry, the preprocessing inside, what is refused."""

import inspect
import sys

import keras
import numpy as np
import pytest

from kerastl import backbones
from kerastl.backbones.preprocessing import MODES, preprocess
from kerastl.backbones.specs import SPECS
from tests.tolerances import ELEMENTWISE, EXACT, REDUCTION


@pytest.fixture(scope="module")
def pixels():
    """Every value a pixel can have, in each channel, as a decoder gives them."""
    values = np.arange(256, dtype="uint8")
    return np.stack([values, values[::-1], np.roll(values, 99)], axis=-1).reshape(1, 16, 16, 3)


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype("uint8")


def _own_preprocessing(spec):
    """What keras.applications itself offers beside the network's constructor."""
    constructor = getattr(keras.applications, spec.constructor)
    return sys.modules[constructor.__module__].preprocess_input


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_preprocessing_is_that_of_the_networks_own_module(spec, pixels):
    image = keras.Input((16, 16, 3))
    model = keras.Model(image, preprocess(image, spec.preprocessing))
    expected = _own_preprocessing(spec)(pixels.astype("float32"))
    # Two roundings of values up to 152 (caffe) or 2.7 (torch) may differ.
    np.testing.assert_allclose(model(pixels), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mode", list(MODES))
def test_preprocessing_survives_saving(mode, pixels, tmp_path):
    image = keras.Input((16, 16, 3))
    model = keras.Model(image, keras.layers.Flatten()(preprocess(image, mode)))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(pixels), model(pixels), **EXACT)


def test_preprocessing_computes_in_float32_under_mixed_precision(pixels):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        prepared = preprocess(keras.Input((16, 16, 3), dtype="float32"), "tf")
    finally:
        keras.config.set_dtype_policy("float32")
    assert prepared.dtype == "float32"


def test_every_network_of_keras_applications_is_listed():
    constructors = {
        name
        for name in dir(keras.applications)
        if callable(getattr(keras.applications, name)) and name[0].isupper()
    }
    assert {spec.constructor for spec in SPECS} == constructors
    assert len(set(backbones.names())) == len(SPECS)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_smallest_size_is_the_constructors_own(spec):
    small = spec.min_size - 1
    constructor = getattr(keras.applications, spec.constructor)
    with pytest.raises(ValueError, match=f"at least {spec.min_size}x{spec.min_size}"):
        constructor(weights=None, include_top=False, input_shape=(small, 64, 3))
    with pytest.raises(ValueError, match=f"at least {spec.min_size} pixels for {spec.name}"):
        backbones.load(spec.name, weights=None, image_size=(small, 96))


@pytest.mark.parametrize(
    "name", ["mobilenet_v2", "MobileNetV2", "mobilenetv2", "mobilenet-v2", "MOBILENET V2"]
)
def test_names_are_read_tolerantly(name):
    assert backbones.find(name) is backbones.find("mobilenet_v2")


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_networks_that_can_rescale_do_it_by_default_and_only_they(spec):
    constructor = getattr(keras.applications, spec.constructor)
    own = inspect.signature(constructor).parameters.get("include_preprocessing")
    always = spec.name.startswith("efficientnet_b")  # these have no such switch
    assert (spec.preprocessing == "none") is (always or own is not None)
    assert own is None or own.default is True


# One of each kind: scaled to [-1, 1], scaling itself, BGR, and one that normalizes after pooling.
FAMILIES = [
    ("mobilenet_v2", {"alpha": 0.35}),
    ("mobilenet_v3_small", {"alpha": 0.75, "minimalistic": True}),
    ("vgg16", {}),
    ("convnext_tiny", {}),
]


@pytest.mark.parametrize(("name", "options"), FAMILIES, ids=[name for name, _ in FAMILIES])
def test_features_equal_keras_applications_after_its_preprocessing(name, options, pictures):
    spec = backbones.find(name)
    model = backbones.load(name, weights=None, image_size=32, **options)
    reference = getattr(keras.applications, spec.constructor)(
        weights=None, include_top=False, pooling="avg", input_shape=(32, 32, 3), **options
    )
    reference.set_weights(model.get_weights())
    expected = reference(_own_preprocessing(spec)(pictures.astype("float32")), training=False)
    received = model(pictures, training=False)
    scale = float(np.abs(expected).max())
    assert scale > 0
    np.testing.assert_allclose(received / scale, expected / scale, rtol=1e-4, atol=1e-5)
    rescaling = [x for x in model.layers if isinstance(x, keras.layers.Rescaling)]
    if spec.preprocessing == "none":
        assert not any(layer.name == "preprocessing" for layer in rescaling)
    else:
        assert [layer.name for layer in rescaling] == ["preprocessing"]


@pytest.fixture(scope="module")
def small():
    return backbones.load("mobilenet", weights=None, image_size=(32, 64), alpha=0.25)


def test_uint8_and_float32_pixels_are_the_same(small):
    pixels = np.random.default_rng(1).integers(0, 256, (2, 32, 64, 3))
    np.testing.assert_allclose(
        small(pixels.astype("uint8")), small(pixels.astype("float32")), **EXACT
    )


def test_model_is_flat_with_one_named_input(small):
    assert not any(isinstance(layer, keras.Model) for layer in small.layers)
    assert small.input.name == "image"
    assert small.input_shape == (None, 32, 64, 3)
    assert small.output_shape == (None, 256)


def test_poolings(pictures):
    load = {"weights": None, "image_size": 32, "alpha": 0.25}
    feature_map = backbones.load("mobilenet", pooling=None, **load)
    largest = backbones.load("mobilenet", pooling="max", **load)
    largest.set_weights(feature_map.get_weights())
    expected = np.asarray(feature_map(pictures)).max(axis=(1, 2))
    np.testing.assert_allclose(largest(pictures), expected, **ELEMENTWISE)


def test_features_survive_a_round_trip(small, tmp_path):
    pixels = np.random.default_rng(2).integers(0, 256, (2, 32, 64, 3)).astype("uint8")
    small.save(tmp_path / "model.keras")
    loaded = backbones.load(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(pixels), small(pixels), **EXACT)


def test_a_model_of_ones_own_gets_pooling_only():
    image = keras.Input((8, 8, 3))
    own = keras.Model(image, keras.layers.Conv2D(5, 3)(image))
    pixels = np.random.default_rng(3).random((2, 8, 8, 3)).astype("float32")
    model = backbones.load(own)
    np.testing.assert_allclose(
        model(pixels), np.asarray(own(pixels)).mean(axis=(1, 2)), **REDUCTION
    )
    assert backbones.load(own, pooling=None) is own
    vector = keras.Model(own.input, keras.layers.Flatten()(own.output))
    assert backbones.load(vector) is vector


def test_a_sequential_model_and_one_without_a_graph():
    sequential = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(5, 3)])
    assert backbones.load(sequential).output_shape == (None, 5)
    with pytest.raises(ValueError, match="must be functional or Sequential, and built"):
        backbones.load(keras.Sequential([keras.layers.Conv2D(5, 3)]))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("mobilenet_v7", {}, "Closest: 'mobilenet"),
        ("resnet5O", {}, "Closest: 'resnet50'"),
        ("mobilenet", {"image_size": 31}, r"at least 32 pixels.*Received: image_size=\(31, 31\)"),
        ("mobilenet", {"image_size": (96, 96, 3)}, r"Received: image_size=\(96, 96, 3\)"),
        ("mobilenet", {"image_size": 96.0}, "image_size=96.0"),
        ("mobilenet", {"image_size": -1}, "image_size=-1"),
        ("mobilenet", {"alhpa": 0.25}, "takes alpha, depth_multiplier.*Closest: 'alpha'"),
        ("vgg16", {"alpha": 0.25}, "vgg16 takes no further options"),
        ("mobilenet", {"pooling": "mean"}, "`pooling` must be one of"),
        ("mobilenet", {"pooling": "token"}, "needs a backbone of tokens"),
        ("mobilenet", {"pooling": None, "weights": "nowhere.weights.h5"}, "does not exist"),
        ("nowhere.keras", {}, "must be a saved model that exists"),
    ],
)
def test_refusals(name, settings, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        backbones.load(name, **{"weights": None, **settings})


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "model.keras").write_text("not a zip archive")
    with pytest.raises(ValueError, match="could not be loaded as a Keras model"):
        backbones.load(tmp_path / "model.keras")


def test_a_folder_of_a_networks_name_does_not_hide_it(tmp_path, monkeypatch):
    (tmp_path / "mobilenet").mkdir()
    monkeypatch.chdir(tmp_path)
    model = backbones.load("mobilenet", weights=None, image_size=32, alpha=0.25)
    assert model.output_shape == (None, 256)


def test_options_belong_to_keras_applications(small):
    with pytest.raises(ValueError, match=r"take further options.*alpha=0\.5"):
        backbones.load(small, alpha=0.5)


def test_a_failed_download_says_what_and_what_else(monkeypatch):
    def fetch(name, origin, **_):
        raise Exception(f"URL fetch failure on {origin}: None -- no route")

    module = sys.modules[keras.applications.MobileNet.__module__]
    monkeypatch.setattr(module.file_utils, "get_file", fetch)
    with pytest.raises(ConnectionError, match=r"mobilenet_2_5_128_tf_no_top.*weights=PATH"):
        backbones.load("mobilenet", alpha=0.25, image_size=128)


def test_sizes_to_fine_tune_at():
    larger = {spec.name for spec in SPECS if backbones.transfer_size(spec.name) == 288}
    published = {spec.name for spec in SPECS if spec.image_size == 224}
    assert published - larger == {"efficientnet_v2_b0"}  # trained on crops of 192
    own = [spec for spec in SPECS if spec.name not in larger]
    assert len(own) > 10
    assert all(backbones.transfer_size(spec.constructor) == spec.image_size for spec in own)
    assert backbones.transfer_size("hub:vit_base_patch16_224_imagenet") is None


@pytest.mark.parametrize("name", ["mobilenet", "mobilenet_v2"])
def test_pretrained_weights_are_those_of_224_where_pictures_are_larger(name, monkeypatch):
    """These have a file for each size that they were trained at, and 288 is none."""
    fetched = []

    def fetch(name, *_, **__):
        fetched.append(name)
        raise Exception("URL fetch failure on purpose")

    constructor = getattr(keras.applications, backbones.find(name).constructor)
    monkeypatch.setattr(sys.modules[constructor.__module__].file_utils, "get_file", fetch)
    for size in (None, backbones.transfer_size(name)):
        with pytest.raises(ConnectionError):
            backbones.load(name, image_size=size)
    assert len(fetched) == 2 and fetched[0] == fetched[1]
