"""What objectives judge, by hand, and what they refuse; heads that start at zero."""

import keras
import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import f1_score, r2_score

from kerastl.tasks import Classification, MultiLabel, Regression, objective_named
from kerastl.tasks.settings import TuneSettings
from tests.tasks.cases import task_data
from tests.tolerances import ELEMENTWISE

RNG = np.random.default_rng(0)


def test_several_labels_by_hand():
    """Label a: ranks put its two positives first and third, so (1/1 + 2/3) / 2. Label b: 1."""
    outputs = [[0.9, 0.1], [0.8, 0.6], [0.7, 0.2], [0.2, 0.3]]
    targets = [[1, 0], [0, 1], [1, 0], [0, 0]]
    said = MultiLabel().judge(outputs, targets, ["a", "b"])
    assert said.details["per_label"]["a"]["average_precision"] == pytest.approx(5 / 6)
    assert said.score == pytest.approx((5 / 6 + 1) / 2)
    assert said.details["exact"] == 0.75 and said.details["label_accuracy"] == 7 / 8
    near = [0.9, 0.9, 0.2, 0.6, 0.7, 0.8, 0.8, 0.7]  # probabilities of what is so
    assert said.loss == pytest.approx(-np.log(near).mean())


def test_several_labels_as_scikit_learn():
    outputs, targets = RNG.random((50, 4)), RNG.integers(0, 2, (50, 4))
    said = MultiLabel().judge(outputs, targets, list("abcd"))
    expected = f1_score(targets, outputs > 0.5, average="macro")
    assert said.details["macro_f1"] == pytest.approx(expected)
    loss = keras.losses.BinaryCrossentropy()(targets.astype("float32"), outputs.astype("float32"))
    assert said.loss == pytest.approx(float(loss), rel=1e-5)


def test_a_label_that_nobody_has_is_left_out_of_the_score():
    said = MultiLabel().judge([[0.9, 0.5], [0.1, 0.4]], [[1, 0], [0, 0]], ["a", "none"])
    assert said.score == 1.0
    assert said.details["per_label"]["none"]["average_precision"] is None
    with pytest.raises(ValueError, match="must have a label"):
        MultiLabel().judge([[0.9]], [[0]], ["a"])


def test_numbers_as_scikit_learn():
    true = RNG.normal(50, 20, 30)
    given = true + RNG.normal(0, 5, 30)
    said = Regression().judge(given[:, None], true[:, None])
    assert said.score == pytest.approx(r2_score(true, given))
    assert said.loss == pytest.approx(np.square(given - true).mean())
    assert said.details["mean_absolute_error"] == pytest.approx(np.abs(given - true).mean())
    assert pearsonr(given, true).statistic > 0.9  # the case is one where R² means something
    with pytest.raises(ValueError, match="must differ"):
        Regression().score([[1.0], [2.0]], [[3.0], [3.0]])


@pytest.mark.parametrize("name, given", [
    ("classification", 1 / 3), ("multi_label", 0.5), ("regression", None),
])  # fmt: skip
def test_a_head_starts_at_zero(name, given):
    """Every class alike, every label at 1/2, every number at the mean of those to learn."""
    objective, data = objective_named(name), task_data(name)
    features = keras.Input((5,))
    model = keras.Model(features, objective.head(features, data))
    outputs = model.predict(RNG.normal(size=(4, 5)), verbose=0)
    expected = data.train.targets.mean() if given is None else given
    np.testing.assert_allclose(outputs, expected, **ELEMENTWISE)
    objective.check_model("model.keras", model.output_shape, data.outputs)


def test_the_loss_of_numbers_is_in_units_of_their_variance():
    """So that one learning rate suits grams and tons: at the mean it is 1."""
    data, objective = task_data("regression"), Regression()
    inputs = keras.Input((5,))
    model = keras.Model(inputs, objective.head(inputs, data))
    model.compile("sgd", **objective.compile_args(data, TuneSettings()))
    x = np.zeros((len(data.train), 5), "float32")
    loss, error = model.evaluate(x, data.train.targets, verbose=0)
    assert loss == pytest.approx(1.0, rel=1e-4)
    deviations = np.abs(data.train.targets - data.train.targets.mean())
    assert error == pytest.approx(deviations.mean(), rel=1e-4)


def test_targets_are_brought_into_the_order_of_a_model():
    classes = Classification().aligned(np.array([0, 1, 1]), ("b", "c"), ("a", "b", "c"))
    assert classes.tolist() == [1, 2, 2]
    labels = MultiLabel().aligned(np.array([[1, 0], [0, 1]]), ("b", "c"), ("c", "a", "b"))
    assert labels.tolist() == [[0, 0, 1], [1, 0, 0]]


def test_how_often_two_decide_alike():
    ours, theirs = np.array([[0.6, 0.4], [0.3, 0.7]]), np.array([[0.7, 0.6], [0.1, 0.9]])
    assert Classification().agreement(ours, theirs) == 1.0
    assert MultiLabel().agreement(ours, theirs) == 0.75
    assert Regression().agreement(ours[:, :1], theirs[:, :1]) is None


def test_answers():
    names = ("a", "b", "c")
    one = Classification().answer(np.array([0.2, 0.7, 0.1]), names, top=2)
    assert [c["label"] for c in one["top"]] == ["b", "a"]
    many = MultiLabel().answer(np.array([0.9, 0.1, 0.6]), names, top=1)
    assert many["labels"] == ["a", "c"] and len(many["top"]) == 1
    assert MultiLabel().sentence(MultiLabel().answer(np.zeros(3), names, 1)).startswith("no label")
    number = Regression().answer(np.array([1234.56]), (), top=3)
    assert number == {"value": 1234.56} and Regression().sentence(number) == "1235"


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("classification", (None, 1), "one score for each of two classes"),
        ("classification", (None, 7, 7, 3), "one score for each"),
        ("classification", (None, 4), "one line for each of the 4 outputs"),
        ("multi_label", (None, 5), "one line for each of the 5 outputs"),
        ("multi_label", (None, 3, 3), "one probability a label"),
        ("regression", (None, 2), "one number"),
    ],
)
def test_models_of_another_kind_are_refused(name, shape, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        objective_named(name).check_model(tmp_path / "model.keras", shape, ("a", "b", "c"))


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("classification", [[2.0, -1.0]]),
        ("multi_label", [[1.2, 0.1]]),
        ("regression", [[np.nan]]),
    ],
)
def test_outputs_that_cannot_be_trained_on_are_refused(name, outputs):
    with pytest.raises(ValueError, match=r"mine\.keras"):
        objective_named(name).check_outputs("mine.keras", np.array(outputs))


def test_an_unknown_objective_names_the_closest():
    with pytest.raises(ValueError, match="Closest: 'regression'"):
        objective_named("regresion")
