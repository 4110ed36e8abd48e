"""Two models on the same examples: by hand, as scipy and scikit-learn, and by simulation."""

import time

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, r2_score

from kerastl.tasks import Classification, MultiLabel, Paired, Regression, paired, pooled
from tests.tolerances import ELEMENTWISE


def answers(right):
    """Outputs for targets of class 1 that are right where `right` says so."""
    right = np.asarray(right, int)
    return np.stack([1 - right, right], axis=1).astype("float32")


def told(ours, theirs):
    return paired(Classification(), answers(ours), answers(theirs), np.ones(len(ours), int))


def test_right_and_wrong_by_hand():
    """Of 20, 3 gained and 1 lost: (3 - 1) / 20 with √(4 - 4 / 20) / 20."""
    ours = [1, 1, 1, 0, *[1] * 10, *[0] * 6]
    theirs = [0, 0, 0, 1, *[1] * 10, *[0] * 6]
    found = told(ours, theirs)
    error = 1.959964 * np.sqrt(4 - 4 / 20) / 20
    assert found.difference == pytest.approx(0.1)
    assert (found.low, found.high) == pytest.approx((0.1 - error, 0.1 + error))
    assert (found.gained, found.lost, found.num_examples) == (3, 1, 20)
    assert found.p == pytest.approx(binomtest(1, 4).pvalue)
    assert not found.resolves and found.verdict() == "does not resolve at n = 20"
    back = told(theirs, ours)
    assert (back.difference, back.low, back.high) == (-found.difference, -found.high, -found.low)
    assert (back.gained, back.lost, back.p) == (1, 3, found.p)
    assert Paired(**found.to_dict()) == found


def test_four_gained_and_none_lost_is_chance_once_in_eight_times():
    few = told([1] * 100, [0] * 4 + [1] * 96)
    assert few.low > 0 and few.p == pytest.approx(1 / 8) and not few.resolves
    assert few.verdict() == "does not resolve at n = 100: McNemar's p = 0.12"
    plain = told([1] * 100, [0] * 10 + [1] * 90)
    assert plain.resolves and plain.verdict() == "better"
    assert told([0] * 10 + [1] * 90, [1] * 100).verdict() == "worse"


@pytest.mark.parametrize("objective, targets, p", [
    (Classification(), np.array([0, 1, 1]), 1.0),
    (MultiLabel(), np.array([[0, 1], [1, 1], [1, 0]]), None),
    (Regression(), np.array([1.0, 2.0, 4.0]), None),
])  # fmt: skip
def test_the_same_outputs_differ_by_nothing(objective, targets, p):
    outputs = np.random.default_rng(0).random((3, 1 if objective.name == "regression" else 2))
    found = paired(objective, outputs, outputs, targets)
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, p)


def test_intervals_hold_the_truth_as_often_as_they_say():
    """400 samples of 150 with shares 0.85 and 0.80 right, half of it in common."""
    random = np.random.default_rng(0)
    held = []
    for _ in range(400):
        common, ours, theirs = random.random((3, 150)) < [[0.5], [0.70], [0.60]]
        found = told(common | ours, common | theirs)
        held.append(found.low <= 0.05 <= found.high)
    assert 0.92 <= np.mean(held) <= 0.98  # 0.95 ± 2.7 standard errors of 400


def test_a_number_s_interval_holds_the_truth():
    """R² of noise 0.5 and 0.6 on values of variance 1: 0.75 and 0.64, so 0.11."""
    random = np.random.default_rng(0)
    held = []
    for _ in range(100):
        true, ours, theirs = random.normal(size=(3, 150)) * [[1], [0.5], [0.6]]
        found = paired(Regression(), true + ours, true + theirs, true)
        held.append(found.low <= 0.11 <= found.high)
    assert np.mean(held) >= 0.89  # 0.95 less 2.7 standard errors of 100


def test_scores_of_resamples_are_scikit_learn_s():
    """Counts are sample weights; labels of which none is drawn are left out; rounded: with ties."""
    random = np.random.default_rng(1)
    counts = random.integers(0, 3, (5, 30))
    there = random.random((30, 4)) < [0.5, 0.2, 0.1, 0]
    outputs = (there * 0.3 + random.random((30, 4)) * 0.7).round(1)
    found = MultiLabel().scores(outputs, there, counts)
    for draw, score in zip(counts, found, strict=True):
        rows = np.repeat(np.arange(30), draw)
        known = there[rows].any(axis=0)
        by_label = average_precision_score(there[rows][:, known], outputs[rows][:, known])
        assert score == pytest.approx(by_label)
        assert score == pytest.approx(MultiLabel().score(outputs[rows], there[rows]))
    true = 1e5 + random.normal(size=30)
    given = true + random.normal(size=30)
    expected = [r2_score(true, given, sample_weight=draw) for draw in counts]
    np.testing.assert_allclose(Regression().scores(given, true, counts), expected, rtol=1e-6)
    labels = there[:, 0].astype(int)
    shares = Classification().scores(answers(outputs[:, 0] > 0.5), labels, counts)
    right = (outputs[:, 0] > 0.5) == labels
    np.testing.assert_allclose(shares, counts @ right / counts.sum(1), **ELEMENTWISE)


def test_resamples_without_a_score_are_drawn_again():
    one = np.eye(40)[:, :1]  # one of 40 has the label: a third of the resamples have none
    random = np.random.default_rng(0)
    found = paired(MultiLabel(), one * 0.5 + random.random((40, 1)) / 2, one * 0 + 0.5, one)
    assert np.isfinite([found.low, found.high]).all() and found.p is None
    assert np.isnan(MultiLabel().scores(one, one, 1 - one.T.astype(int))).all()
    assert np.isnan(Regression().scores([1.0, 2], [0.1, 0.7], np.array([[3, 0], [0, 3]]))).all()


def test_examples_too_few_for_an_interval_are_refused():
    """Of 30 runs on two examples each, hardly a resample leaves all with two values."""
    run = np.array([1.0, 2.0])
    with pytest.raises(ValueError, match=r"of 20,000 resamples of 60 examples .* had a R²"):
        pooled(Regression(), [(run, run, run)] * 30, list(np.arange(60).reshape(30, 2)))
    with pytest.raises(ValueError, match="both must give numbers"):
        paired(Regression(), run * np.nan, run, run)


def test_several_runs_count_an_example_once():
    """The same answers twice tell no more than once; a seed's own luck averages out."""
    ours, theirs = answers([1, 1, 1, 0, 1, 0]), answers([0, 1, 0, 1, 0, 0])
    targets = np.ones(6, int)
    once = paired(Classification(), ours, theirs, targets)
    twice = pooled(Classification(), [(ours, theirs, targets)] * 2)
    assert (twice.gained, twice.lost, twice.num_examples) == (2 * once.gained, 2 * once.lost, 6)
    assert (twice.low, twice.high, twice.p) == pytest.approx((once.low, once.high, once.p))
    there = (once.difference, once.low, once.high)
    parts = [(ours[part], theirs[part], targets[part]) for part in (slice(4), slice(4, 6))]
    whole = pooled(Classification(), parts, [np.arange(4), np.arange(4, 6)])
    assert (whole.difference, whole.low, whole.high) == pytest.approx(there)
    true = np.arange(6.0)
    run = (true + 0.1, true * 0.5, true)
    assert pooled(Regression(), [run, run]) == paired(Regression(), *run)


@pytest.mark.parametrize("ours, theirs, words", [
    (3, 2, "3 and 2 answers for 2 targets"), (0, 0, "0 and 0 answers for 2"),
])  # fmt: skip
def test_other_numbers_of_answers_are_refused(ours, theirs, words):
    with pytest.raises(ValueError, match=words):
        paired(Classification(), answers([1] * ours), answers([1] * theirs), np.ones(2, int))


def test_many_labels_take_a_second_at_most():
    random = np.random.default_rng(0)
    there = random.random((1500, 10)) < 0.3
    ours, theirs = (random.random((1500, 10)) for _ in range(2))
    started = time.process_time()
    paired(MultiLabel(), ours, theirs, there)
    assert time.process_time() - started < 3  # about 0.7 s; a loop over resamples takes 30 s
