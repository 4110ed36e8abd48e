"""Curves of a run: nothing lies on the edge of a picture, and epochs are whole."""

import pytest
from matplotlib.figure import Figure

from kerastl.report.figures import _draw


def drawn(metric="loss", **history):
    axis = Figure().subplots()
    _draw(axis, history, metric, {})
    return axis


@pytest.mark.parametrize("losses", [[5.2, 3.1, 2.4], [0.463, 0.463, 0.4629], [5.2]])
def test_the_highest_loss_has_room_above_and_the_first_beside(losses):
    axis = drawn(loss=losses)
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    assert bottom == 0 and top == pytest.approx(1.05 * max(losses))
    assert (left, right) == (0.5, len(losses) + 0.5)


def test_a_loss_below_zero_is_not_turned_over():
    low, high = drawn(loss=[-5.2, -5.4]).get_ylim()
    assert low < -5.4 and high > -5.2


@pytest.mark.parametrize("count", [1, 2, 7])
def test_ticks_are_epochs(count):
    axis = drawn("accuracy", accuracy=[0.5] * count)
    ticks = [tick for tick in axis.get_xticks() if 0.5 <= tick <= count + 0.5]
    assert ticks and all(tick == int(tick) for tick in ticks)
