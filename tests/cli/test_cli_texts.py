"""Texts that cannot be used, on the command line: one line, exit 2, and nothing is left behind."""

import os

import pytest

from kerastl_cli.main import run
from tests.backbones.text_cases import WORD_PIECES, bert_folder, bert_tensors

GOOD = "".join(
    f"the {'cat' if i % 2 else 'dog'} sat,{'pet' if i % 2 else 'beast'}\n" for i in range(20)
)
GOOD = "text,label\n" + GOOD


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """The folder of a small BERT of Hugging Face, and one whose vocabulary is another's."""
    home = tmp_path_factory.mktemp("networks")
    good, other = (bert_folder(home / name, tensors=bert_tensors()) for name in ("bert", "other"))
    words = "".join(f"{word}\n" for word in [*WORD_PIECES, "zebra", "lion"])
    (other / "vocab.txt").write_text(words, encoding="utf-8")
    return good, other


BAD = {
    "one class": ("a.csv", "text,label\na,x\nb,x\n", "two classes"),
    "labels in one part": ("a.csv", None, "labels that the part to train on lacks: pett"),
    "labels to train on alone": (
        "a.csv",
        "text,label,split\nthe cat,a,train\nthe dog,b,train\nthe hat,a,test\n",
        "(test) must have a text of each class to train on",
    ),
    "another width": ("a.csv", f"{GOOD}the,cat,pet\n", "Line 22 of "),
    "another encoding": ("a.csv", f"{GOOD}café,pet\n".encode("latin-1"), "must be UTF-8 text"),
    "no tokens": ("a.csv", f"{GOOD}\u200b,pet\n", "line 22 must have something that the vocab"),
    "no tokens at all": (
        "a.csv",
        "text,label\n" + "\u200b,a\n\u200b,b\n" * 3,
        "a.csv, line 2 must",
    ),
    "columns": ("a.csv", "review,stars\nthe cat,5\nold dog,4\n", "Received: review, stars"),
}


def refused(arguments, words, capsys):
    code = run(arguments)
    err = capsys.readouterr().err
    assert code == 2 and "Traceback" not in err, err
    assert words in err.strip().splitlines()[-1], err


@pytest.mark.parametrize("case", list(BAD))
def test_a_table_that_cannot_be_used(case, network, tmp_path, capsys):
    name, content, words = BAD[case]
    path = tmp_path / name
    if content is None:
        split = GOOD.replace("\n", ",train\n").replace("label,train", "label,split")
        content = f"{split}the cat,pett,test\n"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    out = ["--out", str(tmp_path / "run"), "--strategy", "probe"]
    refused(["tune", str(path), "--backbone", str(network[0]), *out], words, capsys)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--backbone", "bert_tinny_en_uncased"], "Closest: 'bert_tiny_en_uncased'"),
        (["--backbone", "OTHER"], "The tokenizer must fit the backbone: it has 48 ids"),
        (["--metric", "spearman"], "`metric` (--metric) must be accuracy"),
        (["--pooling", "mode"], "'mean', 'pooled', 'first'"),
        (["--strategy", "few-shots"], "'few_shot'"),
    ],
)
def test_an_option_that_cannot_be_used(options, words, network, tmp_path, capsys):
    path = tmp_path / "a.csv"
    path.write_text(GOOD)
    options = [str(network[1]) if word == "OTHER" else word for word in options]
    first = ["tune", str(path), "--out", str(tmp_path / "run"), "--backbone", str(network[0])]
    refused([*first, *options], words, capsys)
    assert os.listdir(tmp_path) == ["a.csv"]
