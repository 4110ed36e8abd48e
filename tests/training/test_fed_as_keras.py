"""What a FineTuner is fed is judged as Keras judges it, whether features are cached or not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl.data import make_dataset
from kerastl.training import FineTuner
from tests.tolerances import EXACT

RNG = np.random.default_rng(0)
Y = np.ones((8, 1), "float32")


def uniform(*shape):
    return RNG.random(shape).astype("float32")


def made(cls, inputs, features):
    model = cls(inputs, keras.layers.Dense(1, name="head")(features))
    model.compile("sgd", "mse")
    return model


def pictures(cls, channels=3):
    inputs = keras.Input((8, 8, channels), name="pixels")
    features = keras.layers.Conv2D(2, 3, trainable=False, name="body")(inputs)
    return made(cls, inputs, keras.layers.GlobalAveragePooling2D()(features))


def grey(cls):
    return pictures(cls, channels=1)


def tokens(cls):
    inputs = keras.Input((10,), dtype="int32", name="tokens")
    features = keras.layers.Embedding(9, 4, trainable=False, name="body")(inputs)
    return made(cls, inputs, keras.layers.GlobalAveragePooling1D()(features))


def column(cls):
    inputs = keras.Input((1,), name="column")
    return made(cls, inputs, keras.layers.Dense(3, trainable=False, name="body")(inputs))


def named(cls):
    inputs = {name: keras.Input((4,), name=name) for name in "ab"}
    both = keras.layers.Concatenate()(list(inputs.values()))
    return made(cls, inputs, keras.layers.Dense(3, trainable=False, name="body")(both))


RIGHT = {
    pictures: uniform(8, 8, 8, 3),
    grey: uniform(8, 8, 8, 1),
    tokens: np.ones((8, 10), "int32"),
    column: uniform(8, 1),
    named: {"a": uniform(8, 4), "b": uniform(8, 4)},
}
OTHER_SHAPES = [
    (pictures, uniform(8, 16, 16, 3), r"expected shape=\(None, 8, 8, 3\), found .*16, 16, 3\)"),
    (pictures, uniform(8, 8, 8, 4), r"expected shape=\(None, 8, 8, 3\), found .*8, 8, 4\)"),
    (pictures, uniform(8, 8, 8, 1), r"'pixels' .* expected shape=\(None, 8, 8, 3\), found .*, 1\)"),
    (pictures, uniform(8, 8, 8), r"Expected shape \(None, 8, 8, 3\)"),
    (pictures, uniform(8, 8, 3), r"expected shape=\(None, 8, 8, 3\)"),
    (grey, uniform(8, 8, 8, 3), r"expected shape=\(None, 8, 8, 1\)"),
    (tokens, np.ones((8, 20), "int32"), r"expected shape=\(None, 10\), found .*20\)"),
    (column, uniform(8, 2), r"expected shape=\(None, 1\)"),
    (named, {"a": uniform(8, 4)}, 'Missing data for input "b"'),
    (named, {"a": uniform(8, 4), "b": uniform(8, 5)}, r"'b' .*expected shape=\(None, 4\)"),
    (named, [uniform(8, 4)], "received 1 input"),
]


def of_seed(make, cls):
    keras.utils.set_random_seed(0)
    return make(cls)


WAYS = {
    "fit cached": lambda m, x, _: m.fit(x, Y, cache_frozen=True, epochs=2, verbose=0),
    "fit": lambda m, x, _: m.fit(x, Y, cache_frozen=False, epochs=2, verbose=0),
    "train_on_batch": lambda m, x, _: m.train_on_batch(x, Y),
    "evaluate": lambda m, x, _: m.evaluate(x, Y, verbose=0),
    "validation cached": lambda m, x, right: m.fit(
        right, Y, validation_data=(x, Y), cache_frozen=True, epochs=2, verbose=0
    ),
    "validation": lambda m, x, right: m.fit(
        right, Y, validation_data=(x, Y), cache_frozen=False, verbose=0
    ),
}


@pytest.mark.parametrize(("make", "x", "words"), OTHER_SHAPES)
@pytest.mark.parametrize("way", ["fit cached", "evaluate"])
def test_inputs_of_another_shape_are_refused(make, x, words, way):
    with pytest.raises(ValueError, match=words):
        WAYS[way](make(FineTuner), x, RIGHT[make])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", [0, 2])
def test_inputs_of_another_shape_are_refused_everywhere(way, case):
    make, x, words = OTHER_SHAPES[case]
    with pytest.raises(ValueError, match=words):
        WAYS[way](make(FineTuner), x, RIGHT[make])


@pytest.mark.parametrize("size", [16, 8])
def test_pictures_of_a_dataset_too(size):
    channels = 3 if size == 16 else 1
    x = RNG.integers(0, 255, (8, size, size, channels)).astype("uint8")
    dataset = make_dataset(x, [0.5] * 8, batch_size=4)
    with pytest.raises(ValueError, match=r"expected shape=\(None, 8, 8, 3\)"):
        pictures(FineTuner).fit(dataset, epochs=2, verbose=0)


@pytest.mark.slow_but("pictures-x0", "tokens-x4", "named-x6")
@pytest.mark.parametrize(
    ("make", "x"),
    [
        (pictures, uniform(8, 8, 8, 3, 1)),
        (pictures, (uniform(8, 8, 8, 3) * 3).astype("uint8")),
        (pictures, RNG.random((8, 8, 8, 3))),
        (grey, uniform(8, 8, 8)),
        (tokens, uniform(8, 10) * 8),
        (column, uniform(8)),
        (named, {"a": uniform(8, 4), "b": uniform(8, 4), "c": uniform(8, 9)}),
        (named, [uniform(8, 4), uniform(8, 4)]),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Keras's, of other structures
def test_what_keras_takes_trains_as_with_keras(make, x):
    options = {"epochs": 2, "shuffle": False, "verbose": 0}
    plain = of_seed(make, keras.Model)
    wanted = [plain.fit(x, Y, **options).history, plain.evaluate(x, Y, verbose=0)]
    for cache_frozen in (True, False):
        tuner = of_seed(make, FineTuner)
        history = tuner.fit(x, Y, cache_frozen=cache_frozen, **options).history
        assert [history, tuner.evaluate(x, Y, verbose=0)] == wanted
        for mine, theirs in zip(tuner.variables, plain.variables, strict=True):
            np.testing.assert_allclose(mine, theirs, **EXACT)


@pytest.mark.parametrize("x", [np.array(["a"] * 8), np.full((8, 1), None, object)])
def test_what_are_no_numbers_is_refused_as_keras_does(x):
    for make in (keras.Model, FineTuner):
        with pytest.raises(ValueError, match="Invalid dtype"):
            column(make).fit(x, Y, epochs=2, verbose=0)


def small_dataset():
    return make_dataset(np.zeros((8, 8, 8, 3), "uint8"), np.ones((8, 1), "float32"))


@pytest.mark.parametrize(
    "beside", [{"y": Y}, {"sample_weight": np.zeros(8)}, {"y": Y, "sample_weight": np.zeros(8)}]
)
@pytest.mark.parametrize("options", [{}, {"cache_frozen": True, "epochs": 2}])
def test_what_is_given_beside_a_dataset_is_refused(beside, options):
    with pytest.raises(ValueError, match=r"should not be passed\. Instead, the"):
        pictures(FineTuner).fit(small_dataset(), verbose=0, **beside, **options)


@pytest.mark.parametrize("beside", [(Y,), (Y, np.zeros(8)), (None, np.zeros(8))])
def test_so_it_is_for_validation_data_before_training(beside):
    model = pictures(FineTuner)
    with pytest.raises(ValueError, match=r"should not be passed\. Instead, the"):
        model.fit(small_dataset(), validation_data=(small_dataset(), *beside), verbose=0)
    assert model.optimizer.iterations == 0


def batches(number):
    for _ in range(number):
        yield RIGHT[column], Y


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("options", [{}, {"validation_steps": 2}])
def test_a_generator_validates_as_with_keras(options):
    """Also by our passes, of which each epoch is one fit of Keras."""
    histories = []
    for cls in (keras.Model, FineTuner):
        model = of_seed(column, cls)
        given = {"validation_data": batches(20 if options else 3), **options}
        data = RIGHT[column], Y
        histories.append(model.fit(*data, epochs=3, verbose=0, shuffle=False, **given).history)
    assert histories[0] == histories[1] and len(histories[0]["val_loss"]) == 3


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (iter([(uniform(8, 1), Y)]), "Unrecognized data type"),
        (zip([uniform(8, 1)], [Y], strict=True), "Unrecognized data type"),
        (lambda: batches(2), "Unrecognized data type"),
        (batches(0), "at least one batch"),
        ((batches(2), Y), "should not be passed"),
        ((uniform(8, 1), Y, Y, Y), "expected to be in format"),
        ((uniform(0, 1), Y[:0]), "at least one example. Received: `validation_data` of 0 rows"),
        ((uniform(8, 1), Y[:5]), "cardinality"),
    ],
)
def test_validation_data_that_keras_cannot_read_are_refused_before_training(data, words):
    model = column(FineTuner)
    with pytest.raises(ValueError, match=words):
        model.fit(RIGHT[column], Y, epochs=2, validation_data=data, verbose=0)
    assert model.optimizer.iterations == 0


@pytest.mark.parametrize("epochs", [1, 2])
def test_fit_on_no_rows_is_refused(epochs):
    with pytest.raises(ValueError, match=r"at least one example\. Received: `x` of 0 rows"):
        column(FineTuner).fit(uniform(0, 1), Y[:0], epochs=epochs, verbose=0)
    empty = make_dataset(np.zeros((0, 8, 8, 3), "uint8"), np.zeros((0, 1)))
    with pytest.raises(ValueError, match="at least one example"):
        pictures(FineTuner).fit(empty, epochs=epochs, verbose=0)
    none = tf.data.Dataset.from_tensor_slices((uniform(8, 1), Y[:8])).batch(4).take(0)
    with pytest.raises(ValueError, match="at least one example"):
        column(FineTuner).fit(none, epochs=epochs, verbose=0)


@pytest.mark.parametrize("class_weight", [{1: 3.0}, {0: 1.0, 1: 2.0, 2: 0.5}, {7: 2.0}])
def test_weights_of_classes_are_those_of_keras(class_weight):
    """Of arrays a class that is left out has weight 1, which tf.data would refuse."""
    histories = []
    for cls, options in ((keras.Model, {}), (FineTuner, {"cache_frozen": True})):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((4,))
        hidden = keras.layers.Dense(3, trainable=False)(inputs)
        model = cls(inputs, keras.layers.Dense(3, activation="softmax")(hidden))
        model.compile("sgd", "sparse_categorical_crossentropy")
        x, y = np.arange(32.0).reshape(8, 4) / 32, np.arange(8) % 3
        options |= {"class_weight": class_weight, "shuffle": False, "epochs": 2, "verbose": 0}
        histories.append(model.fit(x, y, **options).history)
    assert histories[0] == histories[1]


def test_both_kinds_of_weights_are_refused():
    with pytest.raises(ValueError, match="`class_weight` and `sample_weight`"):
        column(FineTuner).fit(
            RIGHT[column], Y, sample_weight=np.ones(8), class_weight={1: 2.0}, epochs=2, verbose=0
        )
