"""Backward transfer and forgetting of matrices small enough to work out by hand."""

import json

import keras
import numpy as np
import pytest

from kerastl.continual import ForgettingReport, forgetting_report

NAMES = ("a", "b", "c")
ROWS = ((0.9, 0.1, 0.3), (0.95, 0.8, 0.3), (0.5, 0.85, 0.7))


def test_by_hand():
    """`((.5 - .9) + (.85 - .8)) / 2`, `((.95 - .5) + 0) / 2`, and the mean of the last row."""
    report = ForgettingReport(NAMES, ROWS)
    assert report.backward_transfer == pytest.approx((-0.4 + 0.05) / 2)
    assert report.forgetting == pytest.approx(0.45 / 2)
    assert report.accuracy == pytest.approx((0.5 + 0.85 + 0.7) / 3)
    assert str(report).splitlines() == [
        "after     a     b     c",
        "a      90.0  10.0  30.0",
        "b      95.0  80.0  30.0",
        "c      50.0  85.0  70.0",
        "backward transfer -17.5, forgetting 22.5, in points",
    ]
    assert json.loads(json.dumps(report.to_dict()))["accuracies"][2] == list(ROWS[2])


def test_before_the_second_task_nothing_can_be_forgotten():
    report = ForgettingReport(NAMES).with_row(ROWS[0])
    assert report.backward_transfer is None and report.forgetting is None
    assert report.accuracy == 0.9
    assert ForgettingReport(NAMES).accuracy is None


def linear(kernel):
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(3, use_bias=False)(inputs))
    model.set_weights([np.array(kernel, "float32")])
    return model


def test_models_and_data_of_every_kind():
    """Answers are the larger entry: classes 0, 1, 0. Labels as indices, one-hot, in batches."""
    x = np.float32([[1, 0], [0, 1], [2, 1]])
    y = np.array([0, 1, 1])
    model, other = linear([[1, 0, 0], [0, 1, 0]]), linear([[0, 1, 0], [1, 0, 0]])
    tasks = {
        "indices": (x, y),
        "one-hot": (x, np.eye(3)[y]),
        "batches": [(x[:2], y[:2]), (x[2:], y[2:])],
        "head": (other, (x, y)),
    }
    report = forgetting_report(model, tasks)
    np.testing.assert_allclose(report.accuracies, [[2 / 3, 2 / 3, 2 / 3, 1 / 3]])


def test_refusals():
    x, model = np.ones((3, 2), "float32"), linear(np.ones((2, 3)))
    with pytest.raises(ValueError, match="must name one at least"):
        forgetting_report(model, {})
    with pytest.raises(ValueError, match=r"those of the report before.*Received: b; before: a"):
        forgetting_report(model, {"b": (x, np.ones(3, int))}, ForgettingReport(("a",)))
    with pytest.raises(ValueError, match=r"shape \(2,\) for 3 answers in the task 'a'"):
        forgetting_report(model, {"a": (x, np.ones(2, int))})
    with pytest.raises(ValueError, match="none in the task 'a'"):
        forgetting_report(model, {"a": []})
    with pytest.raises(ValueError, match="all were learnt"):
        ForgettingReport(NAMES, ROWS).with_row(ROWS[0])
    with pytest.raises(ValueError, match="3 numbers in"):
        ForgettingReport(NAMES).with_row([0.5, 2.0, 0.1])
