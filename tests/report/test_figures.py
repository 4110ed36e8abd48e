"""Pictures of a run: nothing lies on the edge or is cut off, and epochs are whole."""

import pytest
from matplotlib.figure import Figure

from kerastl.report.figures import _draw, draw_comparison, draw_stages


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


@pytest.mark.parametrize("shares", [[0.804, 0.804, 0.794], [0.2, 0.2], [1.0], [0.0]])
def test_the_lowest_accuracy_has_room_below(shares):
    axis = drawn("accuracy", accuracy=shares)
    bottom, top = axis.get_ylim()
    assert top == 1.02 and 0.999 < max(axis.get_yticks()) < 1.001
    assert min(shares) - bottom == pytest.approx(0.05 * (1.02 - min(shares)))


@pytest.fixture
def axes(monkeypatch):
    """The axes of each picture that is drawn, a list for each."""
    found = []
    made = Figure.subplots

    def subplots(self, *args, **options):
        found.append(made(self, *args, **options))
        return found[-1]

    monkeypatch.setattr(Figure, "subplots", subplots)
    return found


@pytest.mark.parametrize("count", [18, 1800])
def test_bars_of_stages_end_inside_the_picture(count, axes, tmp_path):
    row = {"name": "float", "score": 0.61, "bytes": 9000, "gzip": 8000, "num_examples": count}
    draw_stages([row, {**row, "name": "int8", "bytes": 3000}], tmp_path / "stages.png")
    error = 100 * (0.61 * 0.39 / count) ** 0.5
    low, high = axes[0].get_ylim()
    assert low < 61 - error and high > 61 + error


@pytest.mark.parametrize("seconds", [0.3, 400.0])
def test_bars_of_a_comparison_end_inside_and_no_share_is_above_all(seconds, axes, tmp_path):
    score = {"mean": 1.0, "each": [1.0, 1.0]}
    row = {"strategy": "probe", "score": score, "seconds": seconds / 2, "difference": None}
    draw_comparison([row, {**row, "strategy": "head", "seconds": seconds}], tmp_path / "a.png")
    axis = axes[0][0, 0]
    (left, right), (_, top) = axis.get_xlim(), axis.get_ylim()
    bar = axis.lines[-1]  # a mark, `ms` points wide
    points = axis.get_window_extent().width * 72 / axis.figure.dpi
    assert right - seconds > 0.5 * bar.get_markersize() / points * (right - left)
    assert top == 101
