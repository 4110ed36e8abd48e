"""Which texts of a table are for what, and what is told of that: by hand."""

import numpy as np

from kerastl.data import scan_texts
from kerastl.tasks.text_division import PURPOSES, divided, told_of


def table(path, rows):
    path.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
    return path


def rows_of(found, **options):
    return {name: rows for name, (_, rows) in divided(found, **options).items()}


def test_one_table_is_divided_whole_and_texts_that_stand_on_both_sides_are_told(tmp_path):
    sentences = [(f"sentence {i // 3}", "ab"[(i // 3) % 2]) for i in range(60)]  # each three times
    found = scan_texts(table(tmp_path / "a.tsv", sentences))
    division = divided(found, seed=0, val_share=0.1)
    drawn = np.concatenate([division[name][1] for name in PURPOSES])
    np.testing.assert_array_equal(np.sort(drawn), np.arange(60))
    known = {sentences[row][0] for row in division["train"][1]}
    counts = {n: sum(sentences[row][0] in known for row in division[n][1]) for n in PURPOSES[1:]}
    assert counts["test"] > 0
    told = " ".join(told_of(found, division))
    for name, count in counts.items():
        assert (f"{count} texts of {name} stand" in told) == (count > 0)


def test_files_for_each_part_are_as_they_are_given(tmp_path):
    for name, count in (("train", 6), ("val", 4), ("test", 2)):
        table(tmp_path / f"{name}.tsv", [(f"{name} {i}", "ab"[i % 2]) for i in range(count)])
    found = scan_texts(tmp_path)
    sizes = {name: len(rows) for name, rows in rows_of(found, seed=1, val_share=0.3).items()}
    assert sizes == {"train": 6, "val": 4, "test": 2}
    assert told_of(found, divided(found, seed=1, val_share=0.3)) == []


def test_a_class_that_the_part_to_choose_by_lacks_is_told(tmp_path):
    table(tmp_path / "train.tsv", [(f"text {i}", "abc"[i % 3]) for i in range(12)])
    table(tmp_path / "val.tsv", [("one", "a"), ("two", "b")])
    table(tmp_path / "test.tsv", [("three", "a"), ("four", "b"), ("five", "c")])
    found = scan_texts(tmp_path)
    told = told_of(found, divided(found, seed=0, val_share=0.0))
    assert told == ["The val part has no text of c."]


def test_one_of_several_labels_without_a_text_to_test_on_is_told(tmp_path):
    (tmp_path / "train.tsv").write_text("text\tlabels\none\ta|b\ntwo\tnovel\nthree\t\n")
    (tmp_path / "test.tsv").write_text("text\tlabels\nfour\tb|a\nfive\t\n")
    found = scan_texts(tmp_path)
    told = told_of(found, divided(found, seed=0, val_share=0.0))
    assert told[0] == "The test part is kept for the final evaluation."
    assert told[1].startswith("Nothing is measured of novel: no text to test on")
