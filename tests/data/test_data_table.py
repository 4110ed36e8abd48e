"""Tables of pictures: what is read, and which line of which file is at fault."""

import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from kerastl.data import make_dataset, read_scanned, scan_table
from kerastl.data.images.table import find_table


def write(root, text, name="labels.csv", pictures=()):
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    for i, picture in enumerate(pictures):
        path = root / picture
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (i, 0, 0)).save(path)
    return root


def test_labels_a_number_or_a_class(tmp_path):
    text = "file,labels\na.png,round|red\nb.png,\nsub/c.png, red \n"
    found = scan_table(write(tmp_path / "labels", text))
    assert found.kind == "labels" and found.class_names == ("red", "round")
    assert found.splits["all"] == (
        (tmp_path / "labels" / "a.png", (0, 1)),
        (tmp_path / "labels" / "b.png", ()),
        (tmp_path / "labels" / "sub/c.png", (0,)),
    )
    number = scan_table(write(tmp_path / "value", "value,file\n1.5,a.png\n-2e3,b.png\n"))
    assert (number.kind, number.class_names) == ("value", ("value",))
    assert [value for _, value in number.splits["all"]] == [1.5, -2000.0]
    one = scan_table(write(tmp_path / "class", "file,label\na.png,rose\nb.png,daisy\n"))
    assert (one.kind, one.class_names) == ("class", ("daisy", "rose"))
    assert [label for _, label in one.splits["all"]] == [1, 0]


def test_bom_tabs_quotes_empty_lines_and_splits(tmp_path):
    text = '\ufefffile\tlabel\tsplit\n"a\tb.png"\tx\ttrain\n\nc.png\ty\ttrain\n'
    text += "d.png\tx\ttest\ne.png\ty\ttest\n"
    found = scan_table(write(tmp_path, text, "labels.tsv"))
    assert {name: len(part) for name, part in found.splits.items()} == {"train": 2, "test": 2}
    assert found.splits["train"][0][0].name == "a\tb.png"
    assert find_table(tmp_path) == find_table(tmp_path / "labels.tsv") == tmp_path / "labels.tsv"
    assert find_table(tmp_path / "pictures") is None


def test_read_and_divided(tmp_path):
    names = [f"{i}.png" for i in range(20)]
    lines = [f"{name},{'a|b' if i % 2 else 'b'}\n" for i, name in enumerate(names)]
    found = scan_table(write(tmp_path, "file,labels\n" + "".join(lines), pictures=names[1:]))
    data = read_scanned(found, image_size=8, seed=1, val_share=0.2)
    assert len(data.skipped) == 1 and data.skipped[0][0].endswith("0.png")
    assert len(data.train) + len(data.val) + len(data.test) == 19
    assert data.train.labels.dtype == np.float32 and data.train.labels.shape[1] == 2
    for path, labels in zip(data.train.paths, data.train.labels, strict=True):
        assert labels.tolist() == [float(int(path.stem) % 2), 1.0]
    again = read_scanned(found, image_size=8, seed=1, val_share=0.2)
    assert again.train.paths == data.train.paths
    (_, targets), *_ = make_dataset(data.train.images, data.train.labels, batch_size=4)
    np.testing.assert_array_equal(targets, data.train.labels[:4])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "columns file and one of label, labels and value"),
        ("name,label\na.png,x\n", "Received: name, label"),
        ("file,label,value\na.png,x,1\n", "one of label"),
        ("file,label\n", "only a header"),
        ("file,label\na.png,x\nb.png,y,z\n", r"Line 3 .* must have 2 values.*Received: 3"),
        ("file,label\n,x\n", "Line 2 .* names no file"),
        ("file,label\na.png,\n", "Line 2 .* must have a label"),
        ("file,label\na.png,x\nb.png,x\n", "at least two classes.*Received: x"),
        ("file,labels\na.png,\n", "at least one label"),
        ("file,value\na.png,tall\n", r"Line 2 .* a number as its value. Received: 'tall'"),
        ("file,value\na.png,nan\n", "Line 2"),
        ("file,label\na.png,x\na.png,y\n", "on lines 2 and 3"),
        ("file,label,split\na.png,x,train\nb.png,y,early\n", "train, val or test.*'early'"),
        ("file,label,split\na.png,x,train\nb.png,y,train\n", "val or test beside it"),
        (
            "file,label,split\na.png,x,train\nb.png,y,train\nc.png,y,val\n",
            r"labels\.csv \(val\) must have a picture of each class .*: none of x\.",
        ),
        ("file,label\nä.png,x\n".encode("latin-1"), "must be UTF-8"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, text, words):
    with pytest.raises(ValueError, match=words):
        scan_table(write(tmp_path, text))


def test_no_table_and_no_pictures(tmp_path):
    with pytest.raises(FileNotFoundError, match="columns file and label"):
        scan_table(tmp_path)
    found = scan_table(write(tmp_path, "file,value\na.png,1\nb.png,2\n"))
    with pytest.raises(ValueError, match="at least 2 readable pictures"):
        read_scanned(found, image_size=8)


def test_two_spellings_of_a_label_or_a_file_are_one(tmp_path):
    nfc, nfd = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    one = scan_table(write(tmp_path / "one", f"file,label\na.png,{nfc}\nb.png,{nfd}\nc.png,tea\n"))
    assert one.class_names == (nfc, "tea")
    assert [label for _, label in one.splits["all"]] == [0, 0, 1]
    many = scan_table(
        write(tmp_path / "many", f"file,labels\na.png,{nfc}|{nfd}\nb.png,{nfd}|tea\n")
    )
    assert many.class_names == (nfc, "tea")
    assert [labels for _, labels in many.splits["all"]] == [(0,), (0, 1)]
    text = f"file,label\n{nfd}.png,a\ntea.png,b\n"
    files = scan_table(write(tmp_path / "files", text, pictures=[f"{nfc}.png", "tea.png"]))
    assert all(path.is_file() for path, _ in files.splits["all"])


@pytest.mark.parametrize("column", ["label", "labels"])
def test_a_label_must_be_one_line(tmp_path, column):
    text = f'file,{column}\na.png,"two\nlines"\nb.png,b\n'
    with pytest.raises(ValueError, match=r"Line 3 of .* must have a name of one line"):
        scan_table(write(tmp_path, text))


@pytest.mark.parametrize(
    ("kind", "reason"), [("pipe", "no file but a pipe"), ("folder", "directory")]
)
def test_what_is_no_file_is_skipped_with_its_reason(tmp_path, kind, reason):
    names = [f"{i}.png" for i in range(8)]
    lines = "".join(f"{name},{i % 2}\n" for i, name in enumerate(names))
    table = write(tmp_path, f"file,label\nx.jpg,1\n{lines}", pictures=names)
    (os.mkfifo if kind == "pipe" else os.mkdir)(tmp_path / "x.jpg")
    ((path, said),) = read_scanned(scan_table(table), image_size=8).skipped
    assert path.endswith("x.jpg") and reason in said


def test_a_class_that_is_only_in_the_test_part_is_told_in_words_of_a_table(tmp_path):
    text = "file,label,split\na.png,a,train\nb.png,b,train\nc.png,c,test\n"
    text += "d.png,a,test\ne.png,b,test\n"
    found = scan_table(write(tmp_path, text, pictures=[f"{name}.png" for name in "abcde"]))
    words = "'c' of .* at least 1 readable pictures on lines whose split is train. Received: 0"
    with pytest.raises(ValueError, match=words):
        read_scanned(found, image_size=8)
