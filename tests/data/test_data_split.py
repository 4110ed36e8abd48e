"""Stratified splits and class weights, by hand and by their properties."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from kerastl.data import class_weights, imbalance
from kerastl.data.split import split_counts, stratified_split
from tests.tolerances import ELEMENTWISE


@pytest.mark.parametrize(
    ("n", "counts"),
    # Held out together: n × 0.3 rounded half up; test: n × 0.15 rounded half up; at least one each.
    [
        (1, (1, 0, 0)),
        (2, (1, 0, 1)),
        (3, (1, 1, 1)),
        (4, (2, 1, 1)),
        (10, (7, 1, 2)),
        (20, (14, 3, 3)),
        (100, (70, 15, 15)),
        (101, (71, 15, 15)),
    ],
)
def test_counts_by_hand(n, counts):
    assert split_counts(n) == counts


def test_counts_without_a_test_part():
    # 15 % of 100, of 10 (half up) and of 1, where nothing is left to hold out.
    assert [split_counts(n, test_share=0) for n in (100, 10, 1)] == [
        (85, 15, 0),
        (8, 2, 0),
        (1, 0, 0),
    ]


def test_every_picture_once_every_class_everywhere():
    labels = np.repeat([0, 1, 2], [50, 7, 3])
    parts = stratified_split(labels, ["a", "b", "c"], seed=5)
    assert sorted(np.concatenate(parts).tolist()) == list(range(60))
    for part in parts:
        assert set(labels[part]) == {0, 1, 2}


def test_the_seed_decides_and_classes_are_independent():
    labels = np.repeat([0, 1], 20)
    first = stratified_split(labels, ["a", "b"], seed=1)
    again = stratified_split(labels, ["a", "b"], seed=1)
    other = stratified_split(labels, ["a", "b"], seed=2)
    assert all(np.array_equal(x, y) for x, y in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    # A class between them moves the rows of "b" by 10 and nothing else.
    more = stratified_split(np.repeat([0, 1, 2], [20, 10, 20]), ["a", "aa", "b"], seed=1)
    for before, after in zip(first, more, strict=True):
        np.testing.assert_array_equal(before[before < 20], after[after < 20])
        np.testing.assert_array_equal(before[before >= 20] + 10, after[after >= 30])
    # Two classes of one size are not drawn alike.
    assert not np.array_equal(first[2][first[2] < 20] + 20, first[2][first[2] >= 20])


def test_class_weights_by_hand_and_against_sklearn():
    labels = [0] * 6 + [1] * 3 + [2]
    # n / (k × count): 10 / 18, 10 / 9, 10 / 3.
    assert class_weights(labels) == {0: 10 / 18, 1: 10 / 9, 2: 10 / 3}
    assert class_weights(np.eye(3)[labels]) == class_weights(labels)
    reference = compute_class_weight("balanced", classes=np.arange(3), y=np.array(labels))
    np.testing.assert_allclose(list(class_weights(labels).values()), reference, **ELEMENTWISE)
    assert sum(class_weights(labels)[label] for label in labels) == pytest.approx(len(labels))
    assert imbalance(labels) == 6.0 and imbalance([0, 1]) == 1.0


@pytest.mark.parametrize("labels", [[], [0, 2], np.zeros(0, int)])
def test_a_class_without_labels_is_refused(labels):
    with pytest.raises(ValueError, match="every class at least once"):
        class_weights(labels)
    with pytest.raises(ValueError, match="num_classes=3"):
        imbalance([0, 1], num_classes=3)
