"""Files to learn to write from: what is read, what is refused, and rows of ids by hand."""

import json

import numpy as np
import pytest

from kerastl.data import scan_lines
from kerastl.data.texts.line_rows import (
    LineRows,
    cut_exchange,
    cut_running,
    packed_rows,
)
from kerastl.data.texts.lines import find_lines
from kerastl.data.texts.passes import TokenPasses
from kerastl.tasks import ImageFolder, TextLines, TextTable, find_source


def jsonl(path, *rows):
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def test_running_text_is_a_document_a_file(tmp_path):
    (tmp_path / "b.txt").write_bytes("\ufeffÉmile\r\nand so on".encode())
    (tmp_path / "a.txt").write_text("One.\n")
    (tmp_path / ".DS_Store").write_bytes(b"\0\1")
    found = scan_lines(tmp_path)
    assert found.kind == "text"
    parts = [document.parts for document in found.splits["all"]]
    assert parts == [(("One.\n", True),), (("Émile\nand so on", True),)]
    assert scan_lines(tmp_path / "b.txt").splits["all"][0].place == "b.txt"


def test_files_and_folders_say_what_they_are_for(tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    for name in ("train", "dev", "test"):
        (files / f"{name}.txt").write_text(name)
    assert list(scan_lines(files).splits) == ["train", "val", "test"]
    for name in ("train", "test"):
        (tmp_path / "folders" / name).mkdir(parents=True)
        for i in range(2):
            (tmp_path / "folders" / name / f"{i}.txt").write_text(f"{name} {i}")
    found = scan_lines(tmp_path / "folders").splits
    assert {name: len(each) for name, each in found.items()} == {"train": 2, "test": 2}
    (files / "more.txt").write_text("what for?")
    with pytest.raises(ValueError, match=r"train and to test on, and others: more\.txt"):
        scan_lines(files)


def test_what_is_learnt_of_an_exchange(tmp_path):
    said = {"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}
    said += {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "Bye"}
    path = jsonl(
        tmp_path / "a.jsonl",
        {"prompt": "1 + 1 =", "completion": " 2"},
        {"Prompt": "", "response": "alone", "more": 3},
        {"messages": said},
        {"prompt": "no answer", "response": " "},
        {"messages": said[:2]},
    )
    found = scan_lines(path)
    assert [document.parts for document in found.splits["all"]] == [
        (("1 + 1 =", False), (" 2", True)),
        (("", False), ("alone", True)),
        (("system: Be short.\nuser: Hi\nassistant:", False), (" Hello.\n", True)),
    ]
    assert found.kind == "response"
    assert found.skipped == (
        ("a.jsonl, line 4", "no response"),
        ("a.jsonl, line 5", "no response"),
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", r"must hold something to learn\. Received: nothing but a\.txt \(no text\)"),
        ("a.txt", "one\nr\u00e9sum\u00e9".encode("latin-1"), r"must be UTF-8 .*\(line 2\)"),
        ("a.txt", "text".encode("utf-16"), "UTF-16"),
        ("a.txt", b"PK\0\1\2", "null characters"),
        ("a.jsonl", b'{"prompt": "a", "reply": "b"}', "line 1 must have prompt and response"),
        ("a.jsonl", b'{"prompt": "a", "reply": "b"}', "Received: prompt, reply"),
        ("a.jsonl", b'{"prompt": "a"}', r"Received: prompt\. Missing: response\.$"),
        (
            "a.jsonl",
            b'{"promt": "a", "response": "b"}',
            "Missing: prompt. Closest to prompt: 'promt'",
        ),
        ("a.jsonl", b'{"prompt": "a", "response": 3}', "strings to read. Received: '3'"),
        ("a.jsonl", b'{"prompt": "a", "response": "b"}\n[1]', "Line 2 .* must be a JSON object"),
        ("a.jsonl", b"", r"messages\. Received: an empty file$"),
        ("a.jsonl", b'{"text": "a", "label": 1}', r"messages\. Received: text, label$"),
        ("a.jsonl", b'{"prompt": "a",', r"Line 1 of .* must be a JSON object"),
        ("a.csv", b"a,b", r"messages\. Received: a file that ends in '\.csv'$"),
        ("a.jsonl", b'{"messages": "hi"}', "must be a list of objects"),
        ("a.jsonl", b'{"messages": [{"role": "bot", "content": "hi"}]}', "role='bot'"),
        ("a.jsonl", b'{"messages": [{"role": "user", "content": ["hi"]}]}', "strings to read"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        scan_lines(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_other_data_stay_what_they_are(tmp_path):
    """Pictures beside a licence, tables beside a readme, a table of labels, nothing at all."""
    from PIL import Image

    for name in ("rose", "tulip"):
        (tmp_path / "flowers" / name).mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (8, 8)).save(tmp_path / "flowers" / name / f"{i}.png")
    (tmp_path / "flowers" / "LICENSE.txt").write_text("CC BY")
    assert isinstance(find_source(tmp_path / "flowers"), ImageFolder)
    (tmp_path / "tables").mkdir()
    for name in ("train", "test"):
        table = tmp_path / "tables" / f"{name}.tsv"
        table.write_text("good\tI liked it\nbad\tNo\ngood\tYes\nbad\tNot at all\n")
    (tmp_path / "tables" / "readme.txt").write_text("about")
    assert isinstance(find_source(tmp_path / "tables"), TextTable)
    labels = jsonl(
        tmp_path / "a.jsonl", *({"text": f"text {i}", "label": "ab"[i % 2]} for i in range(4))
    )
    assert isinstance(find_source(labels), TextTable)
    pairs = jsonl(tmp_path / "b.jsonl", {"prompt": "a", "response": "b"})
    assert isinstance(find_source(pairs), TextLines)
    (tmp_path / "empty").mkdir()
    assert find_lines(tmp_path / "empty") is None
    with pytest.raises(FileNotFoundError):
        scan_lines(tmp_path / "nothing.txt")
    with pytest.raises(ValueError, match=r"all \.txt or all \.jsonl"):
        scan_lines(_both(tmp_path))


def _both(folder):
    both = folder / "both"
    both.mkdir()
    jsonl(both / "a.jsonl", {"prompt": "a", "response": "b"})
    (both / "b.txt").write_text("text")
    return both


@pytest.mark.parametrize("length", [1, 3, 7, 50])
def test_each_id_of_running_text_is_predicted_once(length):
    ids = np.arange(20, dtype=np.int32)
    pieces = cut_running(ids, length=length, num_bytes=57)
    assert np.concatenate([piece.targets for piece in pieces]).tolist() == ids[1:].tolist()
    assert np.concatenate([piece.ids for piece in pieces]).tolist() == ids[:-1].tolist()
    assert sum(piece.num_bytes for piece in pieces) == pytest.approx(57)
    assert max(len(piece.ids) for piece in pieces) <= length


def conversation(*sizes):
    """Parts, learnt ones where the number of bytes is not 0."""
    starts = np.cumsum([0, *(size for size, _ in sizes)])
    return [
        (np.arange(start, start + size) + 10, learnt)
        for start, (size, learnt) in zip(starts, sizes, strict=False)
    ]


def test_an_answer_stays_whole_and_the_prompt_gives_way():
    parts = conversation((6, 0), (3, 9))
    for length in (3, 4, 6, 9, 10, 20):
        piece, cut = cut_exchange(parts, start=(1,), end=(2,), length=length)
        if length == 3:
            assert (piece, cut) == (None, True)  # 1 before, 3 of the answer, 2 after: 4 to predict
            continue
        assert len(piece.ids) <= length and cut == (length < 10)
        kept = min(6, length - 4)
        assert piece.ids.tolist() == [1, *range(16 - kept, 16), 16, 17, 18]
        assert piece.targets.tolist() == [*range(16 - kept, 16), 16, 17, 18, 2]
        assert piece.weights.tolist() == [0.0] * kept + [1.0] * 4
        assert piece.num_bytes == 9


def test_an_earlier_answer_goes_whole_with_all_before_it():
    parts = conversation((2, 0), (4, 5), (3, 0), (2, 7))
    whole, cut = cut_exchange(parts, start=(1,), end=(2,), length=99)
    assert not cut and whole.num_bytes == 12
    assert whole.weights.tolist() == [0, 0, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1]
    piece, cut = cut_exchange(parts, start=(1,), end=(2,), length=9)
    assert cut and piece.ids.tolist() == [1, 16, 17, 18, 19, 20] and piece.num_bytes == 7


def test_rows_are_full_and_hold_each_piece_once():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 33, 500)
    rows = packed_rows(lengths, 32)
    assert sorted(piece for row in rows for piece in row) == list(range(500))
    sums = np.array([lengths[row].sum() for row in rows])
    # The bound of Johnson, 1974, over the fewest rows there can be.
    assert sums.max() <= 32 and len(rows) <= 11 / 9 * np.ceil(lengths.sum() / 32) + 4
    assert rows == packed_rows(list(lengths), 32)


def test_batches_bring_targets_and_weights_of_the_same_width():
    pieces = [
        *cut_running(np.arange(5, dtype=np.int32), length=9, num_bytes=4),
        *cut_running(np.arange(20, dtype=np.int32), length=19, num_bytes=4),
    ]
    rows = LineRows.of([pieces[:1], pieces[1:]], pad=7, longest=19, documents=True)
    assert rows.inputs == ("token_ids", "padding_mask", "documents")
    passes = TokenPasses(rows, np.array([1, 0]), None, batch_size=2)
    ((x, y, w),) = passes.epoch(0)
    assert {part.shape for part in (*x.values(), y, w)} == {(2, 19)}
    assert x["token_ids"][1].numpy().tolist() == [0, 1, 2, 3] + [7] * 15
    assert x["padding_mask"][1].numpy().sum() == 4 and w[1].numpy().tolist() == [1] * 4 + [0] * 15
    assert y[1, :4].numpy().tolist() == [1, 2, 3, 4]
    assert x["documents"][1].numpy().tolist() == [1] * 4 + [0] * 15
    alone = TokenPasses(rows, np.array([0]), None, batch_size=2)
    ((x, y, w),) = alone.epoch(0)
    assert y.shape == (1, 8)
    assert alone.fingerprint() != passes.fingerprint()
