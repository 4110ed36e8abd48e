"""`kerastl lr-find`: a table, JSON, a picture, and one clear line for what it cannot use."""

import json
import os

import pytest
from click.testing import CliRunner
from PIL import Image

from kerastl_cli.verbs import lr_find
from tests.recipes.test_tune import write_pictures


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("lr-find") / "glyphs", classes=3, each=16)


def run(*arguments):
    return CliRunner().invoke(lr_find, [*map(str, arguments)], catch_exceptions=True)


FAST = ["--backbone", "glyphnet", "--batch-size", "8", "--steps", "60"]


def test_it_prints_the_suggestions_and_draws_the_curve(data, tmp_path):
    done = run(data, *FAST, "--strategy", "head", "--out", tmp_path / "curve.png")
    assert done.exit_code == 0, done.output
    for word in ("valley", "steep", "slide", "minimum", "Suggested learning rate", "curve.png"):
        assert word in done.output
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.size[0] > 500
    assert os.listdir(tmp_path) == ["curve.png"]


def test_json_holds_the_curve(data, tmp_path):
    done = run(data, *FAST, "--strategy", "full", "--out", tmp_path / "curve.png", "--json")
    found = json.loads(done.stdout)
    assert 1e-5 < found["suggestion"] == found["suggestions"]["valley"] < 1
    assert len(found["rates"]) == len(found["losses"]) > 30
    assert found["reason"] is None


def test_bad_input_is_refused_before_any_work(data, tmp_path):
    for arguments, error, words in (
        ([tmp_path / "nowhere"], (ValueError, OSError), "nowhere"),
        ([data, "--out", tmp_path / "curve.jpg"], ValueError, r"\.png"),
        ([data, "--out", tmp_path / "no" / "curve.png"], OSError, "cannot be written"),
        ([data, *FAST[:-1], "3", "--out", tmp_path / "a.png"], ValueError, " steps=3"),
    ):
        with pytest.raises(error, match=words):
            raise run(*arguments, "--backbone", "glyphnet").exception
    assert os.listdir(tmp_path) == []
