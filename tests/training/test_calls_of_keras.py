"""`compile`, `fit` and saving are called as those of `keras.Model`, or say what differs."""

import warnings

import keras
import numpy as np
import pytest

from kerastl.training import FineTuner

X, Y = np.ones((8, 4), "float32"), np.ones((8, 1), "float32")


def made(cls=FineTuner):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(3, trainable=False, name="body")(inputs)
    return cls(inputs, keras.layers.Dense(1, name="head")(hidden), name="net")


def compiled(optimizer="sgd"):
    model = made()
    model.compile(optimizer, "mse")
    return model


@pytest.mark.parametrize(
    "arguments",
    [
        ("sgd", "mse", None, ["mae"]),
        ("sgd", "mse", [0.5], ["mae"], ["mse"]),
        ("sgd", "mse", None, None, None, True, 2, False, False),
    ],
)
def test_compile_takes_its_arguments_in_the_order_of_keras(arguments):
    histories = []
    for cls in (keras.Model, FineTuner):
        model = made(cls)
        model.compile(*arguments)
        histories.append(model.fit(X, Y, batch_size=2, epochs=2, shuffle=False, verbose=0).history)
    assert histories[0] == histories[1]
    assert (model.run_eagerly, model.steps_per_execution) == (
        len(arguments) > 5,
        1 + (len(arguments) > 5),
    )


def test_fit_takes_its_arguments_in_the_order_of_keras():
    histories = []
    for cls in (keras.Model, FineTuner):
        model = made(cls)
        model.compile("sgd", "mse")
        history = model.fit(X, Y, 4, 3, 0, None, 0.0, (X, Y), False, None, np.arange(8.0), 1)
        histories.append((history.history, history.epoch))
    assert histories[0] == histories[1] and histories[0][1] == [1, 2]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m.compile("sgd", "mse", None, ["mae"], metrics=["mae"]), "multiple values"),
        (lambda m: m.compile("sgd", "mse", metric=["mae"]), "unexpected keyword argument 'metric'"),
        (lambda m: m.fit(X, Y, epoch=3), "unexpected keyword argument 'epoch'"),
        (lambda m: m.fit(X, Y, 4, 3, 0, None, 0.5, validation_split=0.5), "multiple values"),
        (lambda m: m.fit(X, Y, *range(30)), "too many positional"),
    ],
)
def test_arguments_that_keras_does_not_know_are_refused(call, words):
    with pytest.raises(TypeError, match=words):
        call(compiled())


@pytest.mark.parametrize(("optimizer", "told"), [("sgd", []), ("adam", ["Skipping variable"])])
def test_weights_load_into_a_fresh_model_as_with_keras(optimizer, told, tmp_path):
    """Keras tells of an optimizer whose state is left out; ours has nothing to add."""
    model = compiled(optimizer)
    model.fit(X, Y, verbose=0)
    model.save_weights(tmp_path / "net.weights.h5")
    fresh = compiled(optimizer)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        fresh.load_weights(tmp_path / "net.weights.h5")
    assert [str(warning.message)[:17] for warning in seen] == told
    for a, b in zip(fresh.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    model.load_weights(tmp_path / "net.weights.h5")  # whose slots are those of the file


@pytest.mark.filterwarnings("ignore:Skipping variable loading")
def test_weights_of_a_plain_model_load_and_the_optimizer_stays_as_it_is(tmp_path):
    plain = made(keras.Model)
    plain.compile("sgd", "mse")
    plain.fit(X, Y, verbose=0)
    plain.save_weights(tmp_path / "net.weights.h5")
    with pytest.warns(UserWarning, match="No saved state of an LRMultiplier fits"):
        fresh = compiled()
        fresh.load_weights(tmp_path / "net.weights.h5")
    np.testing.assert_array_equal(fresh.predict(X, verbose=0), plain.predict(X, verbose=0))


@pytest.mark.parametrize("name", ["net.h5", "net.hdf5"])
@pytest.mark.parametrize("save", [lambda model, path: model.save(path), keras.saving.save_model])
def test_an_h5_file_is_refused_with_what_to_do(save, name, tmp_path):
    with pytest.raises(ValueError, match=r"a `.keras` file.*Use `model.save\('net.keras'\)`"):
        save(compiled(), tmp_path / name)
    model = compiled()
    model.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
