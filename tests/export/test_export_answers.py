"""What outputs mean: last layer and loss decide, and accuracy and agreement follow."""

import keras
import numpy as np
import pytest

from kerastl import export
from kerastl.export.answers import Answers, answers_of

L = keras.layers
logits = keras.losses.BinaryCrossentropy(from_logits=True)
X = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")


def model(width, activation=None, loss=None, *after):
    x = keras.Input((4,), name="x")
    y = L.Dense(width, activation=activation, kernel_initializer="glorot_normal", name="head")(x)
    for layer in after:
        y = layer(y)
    made = keras.Model(x, y)
    if loss is not None:
        made.compile(loss=loss)
    return made


sparse = keras.losses.SparseCategoricalCrossentropy
CASES = [
    (model(1, None, logits), Answers("either", True)),
    (model(1, "sigmoid"), Answers("either", False)),
    (model(1, None, None, L.Activation("sigmoid")), Answers("either", False)),
    (model(1, "sigmoid", "binary_crossentropy", L.Reshape((1,))), Answers("either", False)),
    (model(1, None, "mse"), Answers("numbers")),
    (model(1, None, "mse", L.Rescaling(3.0, 1.0)), Answers("numbers")),
    (model(1, None, keras.losses.hinge), Answers("either", True)),
    (model(1), Answers(None, True)),
    (model(3, None, [logits]), Answers("labels", True)),
    (model(3, "sigmoid"), Answers("labels", False)),
    (model(3, "sigmoid", "categorical_crossentropy"), Answers("classes", False)),
    (model(3, None, sparse(from_logits=True)), Answers("classes", True)),
    (model(3, "softmax", "mse"), Answers("classes", False)),
    (model(3, None, {"head": "mae"}), Answers("numbers")),
    (model(3, None, None, L.Softmax()), Answers("classes", False)),
    (keras.Sequential([keras.Input((4,)), model(3, "softmax")]), Answers("classes", False)),
]


@pytest.mark.parametrize(("made", "expected"), CASES)
def test_last_layer_and_loss_decide(made, expected):
    assert answers_of(made) == [expected]
    loss = getattr(made, "loss", None)
    if isinstance(loss, keras.Loss):
        loss = keras.saving.serialize_keras_object(loss)
        made = keras.Model(made.inputs[0], made.outputs[0])  # as it is loaded without compiling
        assert answers_of(made, loss) == [expected]


def test_each_of_several_outputs_has_its_own():
    x = keras.Input((4,))
    two = keras.Model(x, {"a": L.Dense(1, name="a")(x), "b": L.Dense(2, "softmax", name="b")(x)})
    two.compile(loss={"a": "mse", "b": "sparse_categorical_crossentropy"})
    assert answers_of(two) == [Answers("numbers"), Answers("classes", False)]


@pytest.mark.parametrize(
    ("reads", "outputs", "labels", "expected"),
    [
        (Answers("either", True), [[-1], [0.2], [3]], [0, 1, 0], 2 / 3),
        (Answers("either", False), [[0.4], [0.6]], [[0], [1]], 1.0),
        (Answers("either", True), [[-1], [2]], [-1, 1], 1.0),  # as of a hinge
        (Answers("either", True), [[-1], [2]], [[1, 0], [0, 1]], 1.0),
        (Answers("labels", True), [[-1, 1], [2, 3]], [[0, 1], [1, 0]], 0.75),
        (Answers("labels", False), [[0.1, 0.9], [0.6, 0.7]], [[0, 1], [1, 1]], 1.0),
        (Answers("classes", True), [[-9, 1], [2, 3]], [1, 0], 0.5),
        (Answers(None, True), [[-0.1], [0.1]], [0, 1], 1.0),
        (Answers(None, True), [[-1, 1], [2, 3]], [[0, 1], [1, 1]], 1.0),  # several labels a row
        (Answers(None, True), [[-1, 1], [2, 3]], [[0, 1], [1, 0]], 0.5),
        (Answers("numbers"), [[0.4], [0.6]], [0, 1], 1.0),  # learnt 0 and 1
    ],
)
def test_accuracy_by_hand(reads, outputs, labels, expected):
    assert reads.accuracy(np.array(outputs, float), labels) == pytest.approx(expected)


def test_real_numbers_are_no_classes():
    with pytest.raises(ValueError, match=r"say classes by whole numbers.*Pass `score`"):
        Answers("numbers").accuracy(np.ones((2, 1)), [0.5, 1.5])
    assert Answers("numbers").agreement(np.ones((2, 3)), np.ones((2, 3))) is None


@pytest.mark.parametrize(
    ("reads", "outputs", "expected"),
    [
        (Answers("either", False), [[0.25]], [[0.75, 0.25]]),
        (Answers("either", True), [[np.log(3)]], [[0.25, 0.75]]),
        (Answers("classes", True), [[np.log(3), 0]], [[0.75, 0.25]]),
        (Answers("classes"), [[0.7, 0.3]], [[0.7, 0.3]]),
        (Answers("classes"), [[1000.0, 1000.0]], [[0.5, 0.5]]),
        (Answers("labels", True), [[0.0, -900.0]], [[0.5, 0.0]]),
    ],
)
def test_probabilities_by_hand(reads, outputs, expected):
    np.testing.assert_allclose(reads.probabilities(outputs), expected, atol=1e-12)


@pytest.mark.parametrize("made", [CASES[0][0], CASES[7][0], CASES[8][0], CASES[9][0], CASES[11][0]])
def test_parity_and_the_ladder_count_what_the_model_decides(made, tmp_path):
    """A model that is right on all, and a file of the same numbers."""
    scores = made.predict(X, verbose=0)
    half = 0.5 if made.layers[-1].activation is keras.activations.sigmoid else 0.0
    several = made.output_shape[1] == 3 and not isinstance(getattr(made, "loss", 0), sparse)
    labels = (scores > half).astype(int) if several or scores.shape[1] == 1 else scores.argmax(1)
    result = export.to_litert_within(made, tmp_path / "m.tflite", X, labels, ladder=("float16",))
    assert result.model_accuracy == result.baseline.accuracy == 1.0
    found = export.parity(made, result.path, X, labels)
    assert found.model_accuracy == 1.0 and found.file_accuracy > 0.98
    assert export.parity(made, result.path, X, 1 - labels if several else labels).num_examples == 60
