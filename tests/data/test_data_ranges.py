"""Which range a model says that it takes, and data of another one."""

import keras
import numpy as np
import pytest

from kerastl import backbones
from kerastl.backbones.glyphs import load_glyphnet, render_glyphs
from kerastl.compression import quantize_aware
from kerastl.data.ranges import PIXELS, SIGNED, UNIT, check_ranges, scaled, taken_ranges

L = keras.layers
A = keras.applications
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (32, 16, 16, 3)).astype("float32")


def conv(x):
    return L.GlobalAveragePooling2D()(L.Conv2D(4, 3)(x))


def taken(layers, tail=conv):
    x = keras.Input((32, 32, 3), name="x")
    return taken_ranges(keras.Model(x, tail(layers(x)))).get("x")


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (L.Rescaling(1 / 255), PIXELS),
        (L.Rescaling(1 / 127.5, -1), PIXELS),
        (L.Rescaling(1.0, [-104.0, -117.0, -124.0]), PIXELS),
        (L.Rescaling(2.0, -1), UNIT),
        (L.Rescaling(255.0), UNIT),
        (L.Rescaling(127.5, 127.5), SIGNED),
        (L.Normalization(mean=[120, 110, 100], variance=[3000, 3000, 3200]), PIXELS),
        (L.Normalization(mean=[0.5, 0.4, 0.4], variance=[0.06, 0.05, 0.05]), UNIT),
        (lambda x: L.Rescaling(2.0, -1)(L.Rescaling(1 / 255)(x)), PIXELS),  # in two steps
        (lambda x: L.Rescaling(1 / 255)(L.RandomFlip()(L.Resizing(32, 32)(x))), PIXELS),
        (lambda x: x / 255.0, PIXELS),
        (lambda x: (x - 127.5) * (1 / 127.5), PIXELS),
        (lambda x: x * 2.0 - 1.0, UNIT),
        (A.mobilenet_v2.preprocess_input, PIXELS),
        (A.resnet.preprocess_input, PIXELS),
        (A.densenet.preprocess_input, PIXELS),
        (keras.Sequential([L.RandomFlip(), L.Rescaling(1 / 255)]), PIXELS),
        (L.Identity(), None),
        (L.Rescaling(1.0), None),
        (lambda x: L.Rescaling(1 / 255)(L.Conv2D(3, 1)(x)), None),  # not of the input
    ],
)
def test_what_stands_at_the_input_says_it(layers, expected):
    assert taken(layers) == expected
    inner = keras.Sequential([keras.Input((32, 32, 3)), L.Conv2D(2, 3)])
    assert taken(layers, lambda x: L.Flatten()(inner(x))) == expected


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "efficientnet_b0"])
def test_networks_with_their_preparation_inside_take_pixels(name):
    assert list(taken_ranges(backbones.load(name, weights=None, image_size=32)).values()) == [
        PIXELS
    ]
    assert list(taken_ranges(load_glyphnet()).values()) == [PIXELS]


def test_the_layer_of_numbers_at_the_end_says_nothing_of_pixels():
    assert taken(L.Identity(), lambda x: L.Rescaling(0.02)(conv(x))) is None


def test_only_pictures_are_asked():
    x, t = keras.Input((8,), name="x"), keras.Input((4, 4, 3), name="t", dtype="int32")
    assert taken_ranges(keras.Model(x, L.Rescaling(1 / 255)(x))) == {}
    assert taken_ranges(keras.Model(t, L.Rescaling(1 / 255)(t))) == {}


@pytest.fixture(scope="module", params=["flat", "nested"])
def trained(request):
    """Networks with a batch normalization that were trained on each range, none rescaling."""
    made = {}
    for name, (low, high) in {"pixels": PIXELS, "unit": UNIT, "signed": SIGNED}.items():
        x = keras.Input((16, 16, 3), name="x")
        y = L.BatchNormalization(momentum=0.8)(L.Conv2D(6, 3, use_bias=False)(x))
        base = keras.Model(x, L.GlobalAveragePooling2D()(L.ReLU()(y)))
        if request.param == "nested":
            x = keras.Input((16, 16, 3), name="x")
            base = keras.Model(x, L.Dense(2)(base(x)))
        base(scaled(NOISE, (low, high)), training=True)
        for _ in range(20):
            base(scaled(NOISE, (low, high)), training=True)
        made[name] = base
    return made


@pytest.mark.parametrize("trained_on", ["pixels", "unit", "signed"])
@pytest.mark.parametrize("given", ["pixels", "unit", "signed"])
def test_statistics_of_the_training_tell_pixels_from_the_others(trained, trained_on, given):
    data = scaled(NOISE, {"pixels": PIXELS, "unit": UNIT, "signed": SIGNED}[given])
    model = trained[trained_on]
    if (trained_on == "pixels") == (given == "pixels"):
        assert check_ranges(model, {"x": data}, "`data`") == {"x"}
        assert check_ranges(model, {"x": 0.3 * data}, "`data`") == {"x"}  # dark pictures
    else:
        with pytest.raises(ValueError, match="times as far spread as in the training"):
            check_ranges(model, {"x": data}, "`data`")


def test_networks_that_say_nothing_refuse_nothing():
    x = keras.Input((16, 16, 3), name="x")
    for y in (conv(x), conv(L.BatchNormalization()(x))):  # without statistics, and not trained
        for data in (NOISE, NOISE / 255):
            assert check_ranges(keras.Model(x, y), {"x": data}, "`data`") == set()


@pytest.mark.parametrize("scale", [1.0, 1 / 255])
@pytest.mark.parametrize("steps", [1, 10])
def test_statistics_of_a_short_training_refuse_nothing_that_is_right(scale, steps):
    x = keras.Input((16, 16, 3), name="x")
    model = keras.Model(x, L.BatchNormalization()(L.Conv2D(6, 3)(x)))  # a momentum of 0.99
    for _ in range(steps):
        model(NOISE * scale, training=True)
    check_ranges(model, {"x": NOISE * scale}, "`data`")
    check_ranges(model, {"x": 0.2 * NOISE * scale}, "`data`")


def test_the_embedded_network_takes_its_own_pictures_and_no_others():
    images, _ = render_glyphs(16, seed=(9, 9))
    model = load_glyphnet()
    assert check_ranges(model, {"pixels": images}, "`data`") == {"pixels"}
    with pytest.raises(ValueError, match=r"lies in \[0, 1\], and the model takes \[0, 255\]"):
        check_ranges(model, {"pixels": np.asarray(images) / 255}, "`data`")
    base = keras.Model(model.layers[1].output, model.output)  # without its rescaling
    name = base.inputs[0].name
    assert check_ranges(base, {name: np.asarray(images) / 127.5 - 1}, "`data`") == {name}
    with pytest.raises(ValueError, match="times as far spread"):
        check_ranges(base, {name: images}, "`data`")


@pytest.mark.parametrize("data", [RNG.uniform(-1, 1, NOISE.shape), RNG.normal(0, 30, NOISE.shape)])
def test_what_a_normalization_was_adapted_to_is_right(data):
    layer = L.Normalization(axis=-1)
    layer.adapt(data)
    x = keras.Input((16, 16, 3), name="x")
    model = keras.Model(x, conv(layer(x)))
    assert check_ranges(model, {"x": data}, "`data`") == {"x"}
    with pytest.raises(ValueError, match="times as far spread"):
        check_ranges(model, {"x": data / 255}, "`data`")


@pytest.mark.parametrize(
    ("scale", "data"), [(0.01, 4 * NOISE), (2.0, RNG.normal(size=NOISE.shape))]
)
def test_what_is_no_range_of_pictures_is_warned_of(scale, data):
    x = keras.Input((16, 16, 3), name="x")
    with pytest.warns(UserWarning, match="see that this is so in training"):
        check_ranges(keras.Model(x, conv(L.Rescaling(scale)(x))), {"x": data}, "`data`")


def test_a_picture_beside_another_input_is_compared_too():
    x, more = keras.Input((16, 16, 3), name="x"), keras.Input((2,), name="more")
    seen = conv(L.BatchNormalization(momentum=0.5)(x))
    model = keras.Model([x, more], L.Concatenate()([seen, more]))
    for _ in range(10):
        model([NOISE / 255, np.ones((len(NOISE), 2))], training=True)
    assert check_ranges(model, {"x": NOISE / 255}, "`data`") == {"x"}
    assert check_ranges(model, {"x": NOISE[:1] * 0 + 0.5}, "`data`") == set()  # of one value
    with pytest.raises(ValueError, match="times as far spread as in the training"):
        check_ranges(model, {"x": NOISE}, "`data`")


def test_one_example_says_nothing_of_a_spread_over_examples():
    x = keras.Input((16, 16, 3), name="x")
    model = keras.Model(x, L.BatchNormalization(momentum=0.5)(conv(x)))
    for _ in range(10):
        model(NOISE / 255, training=True)
    assert check_ranges(model, {"x": NOISE[:1] / 255}, "`data`") == set()


def test_roundings_of_quantization_aware_training_change_no_range():
    x = keras.Input((16, 16, 3), name="x")
    model = keras.Model(x, conv(L.Rescaling(1 / 127.5, -1)(x)))
    assert taken_ranges(quantize_aware(model, NOISE)) == taken_ranges(model) == {"x": PIXELS}
