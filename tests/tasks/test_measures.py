"""Measures by hand, as scikit-learn and scipy have them, and where they are not defined."""

import json
import pathlib
import warnings

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    matthews_corrcoef,
    r2_score,
    roc_auc_score,
)

from kerastl.tasks import (
    Classification,
    MultiLabel,
    PreparePictures,
    Regression,
    TrainedFor,
    objective_of,
    paired,
    said_of,
)
from kerastl.tasks.measures import CLASSES, LABELS, NUMBERS
from tests.tolerances import ELEMENTWISE

RNG = np.random.default_rng(0)
COUNTS = RNG.integers(0, 3, (5, 60))


def shares(count, classes):
    """Probabilities with many ties, so that these count as they should."""
    raw = RNG.integers(1, 5, (count, classes)).astype(float)
    return raw / raw.sum(axis=1, keepdims=True)


def one_vs_rest(labels, given):
    columns = range(given.shape[1])
    return np.mean([roc_auc_score(labels == i, given[:, i]) for i in columns])


BY_SKLEARN = {
    "accuracy": lambda labels, given: accuracy_score(labels, given.argmax(1)),
    "macro_f1": lambda labels, given: f1_score(labels, given.argmax(1), average="macro"),
    "matthews": lambda labels, given: matthews_corrcoef(labels, given.argmax(1)),
    "auc": one_vs_rest,
}
OF_LABELS = {
    "mean_average_precision": average_precision_score,
    "macro_f1": lambda there, given: f1_score(there, given > 0.5, average="macro", zero_division=1),
}
OF_NUMBERS = {
    "r2": r2_score,
    "spearman": lambda true, given: spearmanr(true, given).statistic,
    "pearson": lambda true, given: pearsonr(true, given).statistic,
}


def cases():
    """`(measure, scores, targets, reference)` of each measure of each objective."""
    for classes in (2, 4):
        labels, given = RNG.integers(0, classes, 60), shares(60, classes)
        for key, measure in CLASSES.items():
            yield f"{key}-{classes}", measure, given, labels, BY_SKLEARN[key]
    there, given = RNG.integers(0, 2, (60, 3)).astype(bool), RNG.integers(0, 5, (60, 3)) / 4
    for key, measure in LABELS.items():
        yield f"labels-{key}", measure, given, there, OF_LABELS[key]
    true = RNG.integers(0, 9, 60) + 1e4  # a large mean, and equal numbers
    for key, measure in NUMBERS.items():
        yield key, measure, true + RNG.normal(0, 3, 60).round(), true, OF_NUMBERS[key]


@pytest.mark.parametrize("case", list(cases()), ids=lambda case: case[0])
def test_each_measure_is_that_of_others_and_so_is_each_resample(case):
    _, measure, scores, targets, reference = case
    once = np.ones((1, 60), int)
    assert measure.of(scores, targets, once)[0] == pytest.approx(reference(targets, scores))
    rows = [np.repeat(np.arange(60), counts) for counts in COUNTS]
    expected = [reference(targets[drawn], scores[drawn]) for drawn in rows]
    np.testing.assert_allclose(measure.of(scores, targets, COUNTS), expected, **ELEMENTWISE)


def test_classes_by_hand():
    """Of a, a, b, b, b one a is called b.

    F1 of a is 2·1/(2+1), of b 2·3/(3+4); Matthews (2·3 - 0)/√(1·4·2·3) of one true and no false
    positive of a; of 2·3 pairs the a's stand above the b's in 5, and in none they are equal.
    """
    a = np.array([0.9, 0.4, 0.3, 0.2, 0.45])
    said = Classification().judge(np.stack([a, 1 - a], 1), [0, 0, 1, 1, 1], ["a", "b"]).details
    assert said["accuracy"] == 0.8
    assert said["macro_f1"] == pytest.approx((2 / 3 + 6 / 7) / 2)
    assert said["matthews"] == pytest.approx(3 / np.sqrt(24))
    assert said["auc"] == pytest.approx(5 / 6)


def test_ranks_by_hand():
    """1, 2, 2, 4 has ranks 1, 2.5, 2.5, 4; against 1, 2, 3, 4: 4.5 / √(4.5 · 5)."""
    said = Regression().judge([1.0, 20.0, 20.0, 400.0], [1.0, 2.0, 3.0, 4.0]).details
    assert said["spearman"] == pytest.approx(4.5 / np.sqrt(4.5 * 5))


def test_what_is_not_defined_is_told_as_a_dash():
    given = np.array([[0.9, 0.1], [0.2, 0.8]])
    for scored_by, score in (("accuracy", 0.5), ("auc", None)):
        objective = Classification(scored_by=scored_by)
        judged = objective.judge(given, [0, 0], ["a", "b"])
        assert judged.score == score
        assert judged.details["auc"] is judged.details["matthews"] is None
        assert judged.details["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)
        (_, _, rows), _ = objective.tables(judged.details)
        assert ("AUC", "-") in rows and ("accuracy", "50.0 %") in rows
        json.dumps(judged.details, allow_nan=False)
    alike = Regression().judge([[1.0], [2.0]], [[3.0], [3.0]])
    assert alike.score is alike.details["spearman"] is alike.details["pearson"] is None
    assert alike.details["mean_absolute_error"] == 1.5
    (_, _, rows), _ = Regression().tables(alike.details)
    assert ("Spearman correlation", "-") in rows


def test_answers_that_are_all_alike_say_nothing():
    """scikit-learn has 0 for Matthews there, too; scipy a warning and no number for ranks."""
    constant = np.tile([0.7, 0.3], (4, 1))
    assert Classification(scored_by="matthews").score(constant, [0, 0, 1, 1]) == 0
    assert Classification(scored_by="auc").score(constant, [0, 0, 1, 1]) == 0.5
    assert Regression("spearman").score(np.ones((4, 1)), [1.0, 2.0, 3.0, 4.0]) == 0


def test_one_answer_for_two_classes_is_measured_like_two():
    from kerastl.export.answers import Answers

    share, labels = RNG.random((30, 1)), RNG.integers(0, 2, 30)
    one = Classification(Answers("either", logits=False)).judge(share, labels, "ab").details
    two = Classification().judge(np.hstack([1 - share, share]), labels, "ab").details
    for key in CLASSES:
        assert one[key] == pytest.approx(two[key])


@pytest.mark.parametrize(
    ("objective", "scores", "targets"),
    [
        (Classification(scored_by="auc"), shares(60, 3), RNG.integers(0, 3, 60)),
        (Classification(scored_by="macro_f1"), shares(60, 3), RNG.integers(0, 3, 60)),
        (MultiLabel(scored_by="macro_f1"), RNG.random((60, 3)), RNG.integers(0, 2, (60, 3))),
        (Regression("spearman"), RNG.normal(size=(60, 1)), RNG.normal(size=(60, 1))),
    ],
    ids=["auc", "macro_f1", "labels", "spearman"],
)
def test_a_difference_is_of_the_score_that_was_asked_for(objective, scores, targets):
    """Between a model and one that is right: the interval of a paired bootstrap around it."""
    best = {"classification": lambda: np.eye(3)[targets], "multi_label": lambda: targets * 0.9}
    right = best.get(objective.name, lambda: targets)()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = paired(objective, right, scores, targets)
    gain = objective.score(right, targets) - objective.score(scores, targets)
    assert found.difference == pytest.approx(gain)
    assert found.low < found.difference < found.high and found.low > 0
    assert found.p is None and found.gained is None


def test_the_metric_travels_with_the_run(tmp_path):
    known = TrainedFor(Classification(scored_by="auc"), PreparePictures((8, 8)), ("a", "b"), 3)
    again = TrainedFor.from_json(known.to_json(), pathlib.Path(tmp_path))
    assert (again.objective.scored_by, again.objective.score_name) == ("auc", "AUC")
    said = said_of(known.objective)
    assert objective_of(said).is_share and objective_of(said).score_name == "AUC"
    older = {name: value for name, value in said.items() if name != "metric"}
    assert objective_of(older).scored_by == "accuracy"


@pytest.mark.parametrize(
    ("objective", "metric"),
    [(Classification(), "spearman"), (MultiLabel(), "accuracy"), (Regression(), "auc")],
)
def test_a_metric_of_another_objective_is_refused_by_name(objective, metric):
    with pytest.raises(ValueError, match=rf"`metric` \(--metric\) must be .*metric='{metric}'"):
        objective.by(metric)
