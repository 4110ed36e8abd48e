"""Tables of plain dicts: what a run found beside its cheapest rival."""

import pytest

from kerastl_cli.output import files_table, metrics_table

METRICS = {
    "objective": "classification", "score_name": "accuracy", "score": 0.91, "loss": 0.3,
    "examples": "pictures", "num_examples": 465, "num_train": 1500, "num_skipped": 0,
    "num_weights": 9, "per_class": {}, "seconds": 9.0,
}  # fmt: skip
PROBE = {"score": 0.884, "loss": 0.4, "seconds": 8.04}
TRAINED = {"score": 0.91, "loss": 0.3, "seconds": 228.0, "tracing_seconds": 79.0}
DIFFERENCE = {
    "difference": 0.0258, "low": 0.0005, "high": 0.051, "gained": 24, "lost": 12, "p": 0.065,
    "num_examples": 465,
}  # fmt: skip


def printed(capsys, **more):
    """The lines of the table of a run, with one space between words."""
    metrics_table({**METRICS, **more}, "run")
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_a_run_shows_the_regression_and_the_training_side_by_side(capsys):
    parts = {"probe": PROBE, "trained": TRAINED, "difference": DIFFERENCE}
    lines = printed(capsys, **parts, kept="probe", choice={"reason": "no fold was better"})
    start = lines.index("accuracy, held-out 91.0 %") + 1
    assert lines[start : start + 5] == [
        "regression on frozen features 88.4 % in 8.0 s",
        "trained from there 91.0 % in 228.0 s, 79.0 of these tracing",
        "difference, 95 % interval +2.6 points (+0.1 to +5.1), does not resolve at n = 465: "
        "McNemar's p = 0.065",
        "pictures gained, lost 24, 12 (p = 0.065)",
        "kept the regression: no fold was better",
    ]


def test_what_was_tried_is_a_table_of_its_own(capsys):
    row = {"name": "partial", "folds": 1, "difference": {**DIFFERENCE, "num_examples": 60}}
    row |= {"loss_gain": -0.0123, "loss_gain_error": 0.004, "fate": "not better than the probe"}
    untried = {"name": "full", "folds": 0, "fate": "not tried: partial saves too little"}
    parts = {"probe": PROBE, "trained": None, "difference": None, "kept": "probe"}
    lines = printed(capsys, **parts, choice={"reason": "", "tried": [row, untried]})
    assert "Tried beside the regression, on examples held back" in lines
    told = "partial 60 +2.6 points (+0.1 to +5.1) +0.012 ± 0.004 not better than the probe"
    assert told in lines
    assert "full - - - not tried: partial saves too little" in lines


def test_what_did_not_begin_with_the_regression_is_not_said_to(capsys):
    parts = {"probe": PROBE, "trained": {**TRAINED, "start": "as_is"}, "difference": DIFFERENCE}
    lines = printed(capsys, **parts, kept="trained")
    assert "trained from zero 91.0 % in 228.0 s, 79.0 of these tracing" in lines


def test_the_rate_and_what_was_spent_before_a_stop_are_said(capsys):
    parts = {"probe": PROBE, "trained": TRAINED, "difference": DIFFERENCE, "learning_rate": 0.001}
    lines = printed(capsys, **parts, kept="trained", seconds=312.0, seconds_before_a_stop=200.4)
    assert "peak learning rate 0.001" in lines
    assert "seconds in all 312, 200 of them before it was stopped" in lines


def test_a_score_is_shown_as_its_metric_is(capsys):
    """A correlation is no share: neither percent nor points."""
    parts = {"probe": None, "metric": "matthews", "score_name": "Matthews correlation"}
    assert "Matthews correlation, held-out 0.910" in printed(capsys, **parts)


@pytest.mark.parametrize("difference, words", [
    ({"low": 0.01, "p": 0.003}, "+2.6 points (+1.0 to +5.1), better"),
    ({"difference": -0.02, "low": -0.03, "high": -0.01, "p": 0.003},
     "-2.0 points (-3.0 to -1.0), worse"),
    ({"low": -0.01, "p": None, "gained": None, "lost": None},
     "+2.6 points (-1.0 to +5.1), does not resolve at n = 465"),
])  # fmt: skip
def test_a_difference_is_said_in_words(difference, words, capsys):
    parts = {"probe": PROBE, "trained": TRAINED, "difference": DIFFERENCE | difference}
    lines = printed(capsys, **parts, kept="trained")
    assert f"difference, 95 % interval {words}" in lines and "kept what was trained" in lines
    counts = any(line.startswith("pictures gained, lost") for line in lines)
    assert counts == (difference["p"] is not None)


def test_a_run_that_trained_nothing_and_one_of_an_older_version(capsys):
    parts = {"probe": PROBE, "trained": None, "difference": None}
    spent = {"probe": 8.0, "comparing": 61.2}
    lines = printed(capsys, **parts, kept="probe", choice=None, seconds_of=spent)
    assert "comparing on examples held back 61.2 s" in lines
    assert "trained from there nothing" in lines and "kept the regression" in lines
    assert not any("difference" in line for line in lines)
    assert not any("regression" in line for line in printed(capsys))


def test_a_number_has_no_points(capsys):
    number = {"objective": "regression", "score_name": "R²", "mean": 1.0, "deviation": 1.0}
    number |= {"mean_absolute_error": 0.1, "root_mean_squared_error": 0.2}
    gone = {"gained": None, "lost": None, "p": None, "low": -0.01}
    parts = {"probe": PROBE, "trained": TRAINED, "difference": DIFFERENCE | gone}
    lines = printed(capsys, **number, **parts, kept="trained")
    words = "+0.026 (-0.010 to +0.051), does not resolve at n = 465"
    assert f"difference, 95 % interval {words}" in lines


def test_the_share_of_zeros_is_a_column_where_weights_were_made_zero(capsys):
    row = {"name": "float", "score": 0.8, "bytes": 9, "gzip": 9, "ms": 0.5, "agreement": None}
    said = {"objective": "classification"}
    said["score_name"] = "accuracy"
    files_table("stages", [{**row, "sparsity": 0.0}, {**row, "sparsity": 0.2335}], said)
    _, head, *rest = (line.split() for line in capsys.readouterr().out.splitlines() if line.strip())
    assert head[-2:] == ["agreement", "zeros"]
    assert [line[-2:] for line in rest[-2:]] == [["0.0", "%"], ["23.4", "%"]]
    files_table("stages", [{**row, "sparsity": 0.0}], said)
    assert "zeros" not in capsys.readouterr().out
