"""Data become the inputs of a model in one place, by name."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl.graph import inputs

X = np.arange(40 * 2, dtype="float32").reshape(40, 2)
Y = np.arange(40) % 3


@pytest.fixture(scope="module")
def two():
    """Inputs in another order than that of the alphabet."""
    zoom, angle = keras.Input((2,), name="zoom"), keras.Input((2,), name="angle")
    return keras.Model([zoom, angle], zoom - angle)


@pytest.fixture(scope="module")
def one():
    x = keras.Input((2,), name="x")
    return keras.Model(x, keras.layers.Dense(1)(x))


def test_a_dict_goes_by_name(two):
    data = {"angle": X, "zoom": -X, "unused": Y}  # `predict` passes over what is too much
    zoom, angle = inputs.in_order(two, data)
    assert zoom is data["zoom"] and angle is X
    expected = two.predict({"angle": X, "zoom": -X}, verbose=0)
    np.testing.assert_array_equal(two.predict([zoom, angle], verbose=0), expected)


def test_a_dict_may_have_the_keys_that_the_model_was_built_with():
    b, a = keras.Input((2,), name="first"), keras.Input((2,), name="second")
    with pytest.warns(UserWarning, match="all keys"):
        model = keras.Model({"b": b, "a": a}, b - a)
    for data in ({"b": X, "a": -X}, {"first": X, "second": -X}):
        found = dict(zip((t.name for t in model.inputs), inputs.in_order(model, data), strict=True))
        assert found["first"] is X
    with pytest.raises(ValueError, match=r"must be a dict of b, a.*Received: 2 arrays"):
        inputs.in_order(model, [X, X])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"zoom": X, "angel": X}, r"names of the model's inputs: zoom, angle\. Received: zoom, an"),
        ({"zoom": X}, r"zoom, angle\. Received: zoom\."),
        ({}, "Received: no name"),
        ([X, X, X], r"has 2 inputs: zoom, angle\. Received: 3 arrays"),
        (X, r"Received: 1 arrays"),
    ],
)
def test_wrong_names_and_numbers_are_refused(two, data, message):
    with pytest.raises(ValueError, match=f"`given` .*{message}"):
        inputs.in_order(two, data, "given")


def test_a_wrong_name_of_one_input_is_refused_too(one):
    with pytest.raises(ValueError, match=r"inputs: x\. Received: nonsense"):
        inputs.in_order(one, {"nonsense": X})
    assert inputs.in_order(one, {"x": X})[0] is inputs.in_order(one, [X])[0] is X


class Sequence(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, k):
        return X[16 * k : 16 * k + 16], Y[16 * k : 16 * k + 16]


def generator():
    for k in range(0, 40, 16):
        yield X[k : k + 16], Y[k : k + 16]


FORMS = {
    "arrays": lambda: (X, Y),
    "weights": lambda: (X, Y, Y),
    "dict": lambda: ({"x": X}, Y),
    "dataset": lambda: tf.data.Dataset.from_tensor_slices((X, Y)).batch(16),
    "unbatched": lambda: tf.data.Dataset.from_tensor_slices((X, Y)),
    "dataset of dicts": lambda: tf.data.Dataset.from_tensor_slices(({"x": X}, Y)).batch(16),
    "PyDataset": Sequence,
    "generator": generator,
    "function": lambda: generator,
    "singles": lambda: lambda: iter(zip(X, Y, strict=True)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_data_gives_the_same_examples(one, form):
    found = list(inputs.batches(one, FORMS[form]()))
    np.testing.assert_array_equal(np.concatenate([x for (x,), _ in found]), X)
    np.testing.assert_array_equal(np.concatenate([y for _, y in found]), Y)


def test_lists_of_one_batch_are_what_converters_are_fed(one):
    found = [x for (x,), y in inputs.batches(one, lambda: ([row[None]] for row in X)) if y is None]
    np.testing.assert_array_equal(np.concatenate(found), X)


def test_two_inputs_in_a_tuple_are_no_targets(two):
    ((zoom, _), y), *others = inputs.batches(two, (X, -X))
    assert zoom is X and y is None and not others
    ((zoom, _), y), *_ = inputs.batches(two, ({"angle": -X, "zoom": X}, Y))
    assert zoom is X and y is Y


def test_what_is_no_data_is_refused(one):
    with pytest.raises(TypeError, match=r"iterable of batches\. Received: builtins\.int"):
        list(inputs.batches(one, 3))
