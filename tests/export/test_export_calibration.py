"""Calibration data: which examples are drawn, what is refused, what is warned of."""

import keras
import numpy as np
import pytest

from kerastl.export import calibration
from kerastl.export.calibration import expected_ranges


@pytest.fixture(scope="module")
def graph():
    pixels = keras.Input((2, 2, 3), name="pixels")
    return keras.Model(pixels, keras.layers.Rescaling(1 / 255)(pixels))


@pytest.fixture(scope="module")
def plain():
    x = keras.Input((1,), name="x")
    return keras.Model(x, keras.layers.Dense(1)(x))


def numbered(count):
    """Examples that carry their own number, of a model that knows no range."""
    return np.arange(count, dtype="float32")[:, None]


def test_classes_are_drawn_alike(plain):
    y = np.array([0] * 900 + [1] * 60 + [2] * 20)
    drawn = calibration.draw(plain, (numbered(980), y))["x"][:, 0].astype(int)
    assert len(drawn) == len(set(drawn)) == 100
    # By hand: 20 turns of three, then the last class has none left: 20 turns of two.
    assert np.bincount(y[drawn]).tolist() == [40, 40, 20]


def test_one_hot_classes_are_classes(plain):
    y = np.eye(2)[[0] * 300 + [1] * 50]
    drawn = calibration.draw(plain, (numbered(350), y), count=20)["x"][:, 0]
    assert np.count_nonzero(drawn >= 300) == 10


def test_the_seed_decides_what_is_drawn(plain):
    first, again, other = (
        calibration.draw(plain, numbered(1000), seed=seed)["x"] for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert calibration.draw(plain, numbered(7))["x"].shape == (7, 1)  # all there are


def test_datasets_are_read_up_to_a_limit_and_drawn_by_class(plain):
    import tensorflow as tf

    y = np.array([0, 0, 0, 1] * 200)
    batches = tf.data.Dataset.from_tensor_slices((numbered(800), y)).batch(32)
    drawn = calibration.draw(plain, batches)["x"][:, 0].astype(int)
    assert np.bincount(y[drawn]).tolist() == [50, 50]
    endless = tf.data.Dataset.from_tensor_slices(numbered(800)).batch(32).repeat()
    assert calibration.draw(plain, endless)["x"].shape == (100, 1)
    with pytest.raises(ValueError, match=r"must hold batches\. Received: an empty dataset"):
        calibration.draw(plain, batches.take(0))


def test_a_tuple_of_two_inputs_is_no_pair_of_examples_and_classes():
    a, b = keras.Input((1,), name="a"), keras.Input((1,), name="b")
    two = keras.Model([a, b], a + b)
    drawn = calibration.draw(two, (numbered(4), -numbered(4)))
    assert np.array_equal(drawn["a"], -drawn["b"])
    paired = calibration.draw(two, ([numbered(4), -numbered(4)], np.zeros(4)))
    assert np.array_equal(paired["a"], -paired["b"])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "Received: None. About 100 examples are enough"),
        (np.zeros((0, 2, 2, 3)), "at least one example.* Received: {'pixels': 0}"),
        (np.zeros((4, 2, 3)), r"shape \(examples, 2, 2, 3\). Received: shape=\(4, 2, 3\)"),
        (np.full((4, 2, 2, 3), np.nan), "must be finite. Received: 48 values"),
        ((np.ones((4, 2, 2, 3)), np.zeros(3)), "Received: 4 examples, 3 classes"),
        ([np.ones(3), np.ones(3), np.ones(3)], "has 1 inputs: pixels. Received: 3 arrays"),
    ],
)
def test_data_that_does_not_fit_is_refused(graph, data, message):
    with pytest.raises(ValueError, match=message):
        calibration.draw(graph, data)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (0, 3, r"lies in \[0, 3\], a small part of the \[0, 255\] that the model takes"),
        (7, 7, r"lies in \[7, 7\], which is one value"),
    ],
)
def test_another_range_than_in_training_is_told(graph, low, high, message):
    data = np.full((4, 2, 2, 3), low, "float32")
    data[0] = high
    with pytest.warns(UserWarning, match=message):
        calibration.draw(graph, data)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (-128, 127)])
def test_another_range_than_the_first_layers_take_is_refused(graph, low, high):
    data = np.full((4, 2, 2, 3), low, "float32")
    data[0] = high
    words = rf"lies in \[{low}, {high}\], and the model takes \[0, 255\], as its first layers say"
    with pytest.raises(ValueError, match=words):
        calibration.draw(graph, data)


def test_dark_pictures_are_pictures(graph):
    data = np.zeros((4, 2, 2, 3))
    data[0] = 90
    calibration.draw(graph, data)  # a warning would be an error here


def test_what_takes_pixels_is_known_by_its_rescaling():
    def ranges(scale, offset):
        pixels = keras.Input((2, 2, 3), name="pixels")
        return expected_ranges(keras.Model(pixels, keras.layers.Rescaling(scale, offset)(pixels)))

    pixels = {"pixels": (0, 255)}
    assert ranges(1 / 127.5, -1.0) == ranges(1 / 255, 0.0) == pixels
    assert ranges([1 / 58, 1 / 57, 1 / 57], [-2.1, -2.0, -1.8]) == pixels  # as of PyTorch
    assert ranges(1.0, [-103.9, -116.8, -123.7]) == pixels  # as of Caffe
    assert ranges(1.0, 0.0) == ranges(300.0, 0.0) == {}
