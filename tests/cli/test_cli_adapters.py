"""The command line of strategies that train adapters: help, and refusals at the door."""

import importlib
import os

import pytest

from kerastl_cli.main import run
from tests.recipes.test_tune import write_pictures


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("cli") / "glyphs", classes=2, each=6)


@pytest.mark.parametrize("verb", ["tune", "compare", "lr-find"])
def test_help_tells_of_them(verb, capsys):
    assert run([verb, "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "--rank INTEGER Of the adapters of lora; if not said, 8." in said
    assert "--style [houlsby|pfeiffer|parallel]" in said and "--where TEXT" in said
    for name in ("lora", "adapters"):
        assert name in said


REFUSED = {
    "rank of another": (["--strategy", "full", "--rank", "4"], "(--rank) is for --strategy lora"),
    "rank of auto": (["--rank", "4"], "rank=4 with 'auto'"),
    "alpha": (["--strategy", "adapters", "--lora-alpha", "4"], "lora_alpha=4.0 with 'adapters'"),
    "style": (["--strategy", "lora", "--style", "houlsby"], "is for --strategy adapters"),
    "where": (
        ["--strategy", "gradual", "--where", "stage_3"],
        "(--where) is for --strategy lora or --strategy adapters. Received: where='stage_3' with",
    ),
    "no rank": (["--strategy", "lora", "--rank", "0"], "`rank` must be an int in [1"),
    "nothing there": (
        ["--strategy", "lora", "--where", "stage_4"],
        "No layer of 'tuned' matches `where`. Received: where='stage_4'. Closest: 'stage_",
    ),
    "nothing linear there": (
        ["--strategy", "lora", "--where", "pixels"],
        "Received: where='pixels', which means 1 layers: InputLayer",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_tune_refuses_before_training(name, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("kerastl.recipes.tune.learn", None)
    arguments, words = REFUSED[name]
    out = str(tmp_path / "run")
    assert run(["tune", str(data), "--out", out, "--backbone", "glyphnet", *arguments]) == 2
    err = capsys.readouterr().err
    assert words in err.strip().splitlines()[-1] and "Traceback" not in err
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--strategies", "head,full", "--rank", "4"], "rank=4 with 'head', 'full'"),
        (["--strategies", "head,lora", "--where", "stage_4"], "matches `where`"),
    ],
)
def test_compare_refuses_before_training(arguments, words, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.import_module("kerastl.recipes.compare"), "measure", None)
    out = str(tmp_path / "run")
    assert run(["compare", str(data), "--out", out, "--backbone", "glyphnet", *arguments]) == 2
    assert words in capsys.readouterr().err.strip().splitlines()[-1]
    assert os.listdir(tmp_path) == []
