"""Tables of texts: what is read of them, and what is refused and how."""

import json

import pytest

from kerastl.data import read_texts, scan_texts
from kerastl.data.texts.table import find_text_tables, repeated
from kerastl.tasks import read_prompts


def written(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def said(found, split="all"):
    return [(text.parts, text.target) for text in found.splits[split]]


def test_columns_come_in_any_order_and_labels_are_any_strings(tmp_path):
    table = written(tmp_path / "a.csv", "id,Label, TEXT \n1,no!,abc\n2,yes,d e\n")
    found = scan_texts(table)
    assert (found.class_names, found.kind, found.num_parts) == (("no!", "yes"), "class", 1)
    assert said(found) == [(("abc",), 0), (("d e",), 1)]
    assert found.splits["all"][1].place == "a.csv, line 3"


def test_a_byte_order_mark_quoted_newlines_and_empty_rows(tmp_path):
    text = '\ufefftext,label\r\n"two\nlines, and ""quotes""",a\r\n\r\n,\r\nplain,b\r\n'
    found = scan_texts(written(tmp_path / "a.csv", text))
    assert said(found) == [(('two\nlines, and "quotes"',), 0), (("plain",), 1)]
    assert found.splits["all"][0].place == "a.csv, line 3"


def test_quotation_marks_in_a_table_with_tabs_are_themselves(tmp_path):
    rows = 'pos\t"good" , he said\nneg\t" bad\npos\tin " the hill "\nneg\tno\n'
    found = scan_texts(written(tmp_path / "a.tsv", rows))
    assert [parts[0] for parts, _ in said(found)] == [
        '"good" , he said', '" bad', 'in " the hill "', "no",
    ]  # fmt: skip


def test_cells_in_quotes_with_tabs_are_those_of_a_spreadsheet(tmp_path):
    rows = 'label\ttext\npos\t"two\nlines and ""quotes"""\nneg\tno\n'
    found = scan_texts(written(tmp_path / "a.tsv", rows))
    assert said(found) == [(('two\nlines and "quotes"',), 1), (("no",), 0)]


@pytest.mark.parametrize(
    "rows", ["b\tone\na\ttwo\nb\tthree\na\tfour\n", "one\tb\ntwo\ta\nthree\tb\nfour\ta\n"]
)
def test_two_columns_need_no_names(rows, tmp_path):
    found = scan_texts(written(tmp_path / "a.tsv", rows))
    assert said(found) == [(("one",), 1), (("two",), 0), (("three",), 1), (("four",), 0)]


def test_pairs_several_labels_and_numbers(tmp_path):
    pairs = scan_texts(written(tmp_path / "a.csv", "premise,hypothesis,label\na,b,x\nc,d,y\n"))
    assert (pairs.num_parts, said(pairs)[0]) == (2, (("a", "b"), 0))
    many = scan_texts(written(tmp_path / "b.csv", "text,labels\na,red|round\nb,\nc,round\n"))
    assert (many.kind, many.class_names) == ("labels", ("red", "round"))
    assert [target for _, target in said(many)] == [(0, 1), (), (1,)]
    numbers = scan_texts(written(tmp_path / "c.csv", "text,value\na,1.5\nb,-2\n"))
    assert (numbers.kind, [target for _, target in said(numbers)]) == ("value", [1.5, -2.0])


def test_lines_of_json(tmp_path):
    rows = [
        {"text": "a\nb", "label": True}, {"text": "c", "label": False}, {"text": "d", "label": True}
    ]  # fmt: skip
    table = written(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert said(scan_texts(table)) == [(("a\nb",), 1), (("c",), 0), (("d",), 1)]
    rows = [{"text": "a", "labels": ["x", "y"]}, {"text": "b", "labels": []}]
    table = written(tmp_path / "b.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert said(scan_texts(table)) == [(("a",), (0, 1)), (("b",), ())]


def test_a_folder_has_a_file_for_each_part_and_what_stands_twice_is_told(tmp_path):
    written(tmp_path / "train.tsv", "text\tlabel\none\ta\ntwo\tb\n")
    written(tmp_path / "dev.tsv", "text\tlabel\nthree\ta\n")
    written(tmp_path / "test.csv", "label,text\nb,two\na,four\n")
    found = scan_texts(tmp_path)
    assert {split: len(part) for split, part in found.splits.items()} == {
        "train": 2, "val": 1, "test": 2,
    }  # fmt: skip
    (notice,) = repeated(found.splits)
    assert notice.startswith("1 texts of test stand word for word in train")
    assert "test.csv, line 2 (train.tsv, line 3)" in notice


@pytest.mark.parametrize(
    ("val", "test", "lacking"),
    [
        ("a", "ab", None),  # what is chosen by is not what is reported
        ("abc", "abc", None),
        (None, "a", "test.tsv"),
        ("a", None, "val.tsv"),  # which is then the part to test on
        ("ab", "a", "test.tsv"),
        ("a", "a", "val.tsv, .*test.tsv"),
    ],
)
def test_a_class_that_the_part_to_test_on_lacks_is_refused(val, test, lacking, tmp_path):
    labels = {"train": "abc" if val == "abc" else "ab", "val": val, "test": test}
    for name, letters in labels.items():
        rows = "".join(f"{name} {letter}\t{letter}\n" for letter in letters or ())
        if rows:
            written(tmp_path / f"{name}.tsv", f"text\tlabel\n{rows}")
    if lacking is None:
        assert len(scan_texts(tmp_path).class_names) == len(labels["train"])
        return
    said = rf"^\S*{lacking} must have a text of each .*: none of b\..* out of \S*train\.tsv;"
    with pytest.raises(ValueError, match=said):
        scan_texts(tmp_path)
    assert scan_texts(tmp_path, least=1).class_names == ("a", "b")  # to measure on


def test_a_column_says_which_part_a_row_is_for(tmp_path):
    rows = "text,label,split\na,x,train\nb,y,train\nc,x,valid\nd,y,TEST\ne,x,testing\n"
    found = scan_texts(written(tmp_path / "a.csv", rows))
    assert [len(found.splits[split]) for split in ("train", "val", "test")] == [2, 1, 2]


def test_rows_without_a_text_are_left_out_and_named(tmp_path):
    found = scan_texts(written(tmp_path / "a.csv", "text,label\na,x\n  ,x\nb,y\n"))
    assert found.skipped == (("a.csv, line 3", "no text"),)
    assert len(found.splits["all"]) == 2


def test_tables_of_pictures_are_not_of_texts(tmp_path):
    assert find_text_tables(written(tmp_path / "a.csv", "file,label\na.png,x\n")) is None
    assert find_text_tables(written(tmp_path / "b.csv", "a.png,x\nb.png,y\n")) is None
    assert find_text_tables(tmp_path) is None
    assert find_text_tables(tmp_path / "none.csv") is None


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("a.csv", "txt,label\na,b\n", r"text \(or text_a and text_b\).*Received: txt, label"),
        ("a.csv", "text\na\n", r"Received: text\. Between the values of a \.csv are commas\.$"),
        ("a.csv", "id,text,lable\n1,a,b\n", "id, text, lable. Closest to 'lable': 'label'"),
        ("a.csv", "review,stars\na,5\nb,4\n", r"Received: review, stars\.$"),
        ("a.csv", "text,label,labels\na,b,c\n", "each once"),
        ("a.csv", "text,label\na,x\nb\n", r"Line 3 of .*a\.csv must have 2 values.*Received: 1"),
        ("a.csv", "text,label\na,x\nb,x\n", "two classes. Received: x"),
        ("a.csv", "text,label\na,x\nb,\n", "line 3 must have a label"),
        ("a.csv", "text,value\na,1\nb,high\n", "a number as its value. Received: 'high'"),
        ("a.csv", "text,label,split\na,x,train\nb,y,train\nc,z,test\n", "lacks: z.*Closest to 'z'"),
        ("a.csv", "text,label,split\na,x,train\nb,y,train\nc,x,test\n",
         r"a\.csv \(test\) must have a text of each class .*none of y\..* out of .*\(train\);"),
        ("a.csv", "text,label,split\na,x,train\nb,y,train\n", "others for val or test"),
        ("a.csv", "text,label,split\na,x,learn\n", "Line 2 .* train, val or test"),
        ("a.csv", "", "an empty file"),
        ("a.csv", "text,label\n,x\n", "at least one text. Received: none. 1 rows have no text"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text"\n', "Line 2 .* must be a JSON object"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b"}\n', "Line 2 .* text, label"),
        ("a.jsonl", '{"text": 3, "label": 1}\n', "a string as its text. Received: 3"),
        ("a.tsv", "one\ttwo\nthree\tfour\n", "a label that repeats itself"),
        ("a.tsv", "a\tone\nb\ttwo\na\tthree\tfour\nb\tfive\n", "Line 3 .* must have 2 values"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_its_place(name, rows, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        scan_texts(written(tmp_path / name, rows))


def test_another_encoding_is_refused(tmp_path):
    table = written(tmp_path / "a.csv", "text,label\nétoile,x\nb,y\n", "latin-1")
    with pytest.raises(ValueError, match="must be UTF-8 text"):
        scan_texts(table)
    with pytest.raises(ValueError, match="must be UTF-8 text"):
        read_texts(table)


def test_parts_of_different_columns_are_refused(tmp_path):
    written(tmp_path / "train.csv", "text,label\na,x\nb,y\n")
    written(tmp_path / "test.csv", "text,value\na,1\n")
    with pytest.raises(ValueError, match="the same columns"):
        scan_texts(tmp_path)
    (tmp_path / "test.csv").unlink()
    with pytest.raises(ValueError, match="a file train, and val or test beside it"):
        scan_texts(tmp_path)


def test_texts_alone(tmp_path):
    lines = written(tmp_path / "a.txt", "\ufeffone\n\n two \n")
    assert read_texts(lines) == [("one",), (" two ",)]
    table = written(tmp_path / "a.csv", "label,text\nx,one\ny,two\n")
    assert read_texts(table) == [("one",), ("two",)]
    pairs = written(tmp_path / "b.csv", "text_a,text_b\n1,2\n")
    assert read_texts(pairs, 2) == [("1", "2")]
    with pytest.raises(ValueError, match="the column text"):
        read_texts(pairs)
    with pytest.raises(ValueError, match=r"Line 3 .* must have a text"):
        read_texts(written(tmp_path / "c.csv", "text,label\na,x\n,y\n"))
    with pytest.raises(ValueError, match="at least one text"):
        read_texts(written(tmp_path / "d.txt", "\n"))
    with pytest.raises(FileNotFoundError, match="no file"):
        read_texts(tmp_path / "none.txt")
    with pytest.raises(ValueError, match=r"\.txt, \.csv, \.tsv or \.jsonl"):
        read_texts(written(tmp_path / "e.doc", "a"))


def test_lines_end_where_editors_end_them_and_nowhere_else(tmp_path):
    signs = "\f", "\v", "\x1c", "\x85", "\u2028", "\u2029"
    texts = [f"a{sign}b" for sign in signs]
    for ending in ("\n", "\r\n", "\r"):
        lines = written(tmp_path / "a.txt", ending.join(texts))
        assert read_texts(lines) == [(text,) for text in texts]
        assert read_prompts(lines) == texts
        table = written(tmp_path / "a.tsv", ending.join(f"{text}\tx" for text in ("text", *texts)))
        assert read_texts(table) == [(text,) for text in texts]
