"""Tables of text, written out by hand."""

import pytest

from kerastl._base.text_table import in_columns, markdown

ROWS = [("a", "bb", "c"), ("aaa", "b", "")]


def test_columns_flush_left_and_right():
    assert in_columns(ROWS) == "a    bb  c\naaa  b"
    assert in_columns(ROWS, right=[1, 2]) == "a    bb  c\naaa   b"


def test_markdown():
    assert markdown(ROWS[0], ROWS[1:]).splitlines() == [
        "| a   |  bb |   c |",
        "| --- | --: | --: |",
        "| aaa |   b |     |",
    ]


@pytest.mark.parametrize("table", [in_columns, lambda rows: markdown(rows[0], rows[1:])])
def test_rows_of_different_lengths_are_refused(table):
    with pytest.raises(ValueError):
        table([("a", "b"), ("a",)])
