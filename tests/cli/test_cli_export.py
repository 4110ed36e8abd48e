"""`kerastl export` and `kerastl tune --export`: files, tables, and refusals in one line."""

import json
import os
import shutil
import warnings

import keras
import pytest
from PIL import Image

from kerastl.export import LiteRTModel, ladder
from kerastl.export.quantization import MODES
from kerastl.tasks import settings
from kerastl_cli.main import _warnings_as_lines, run
from tests.recipes.compress_cases import write_run


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("cli-export"))


@pytest.fixture
def folder(tuned, tmp_path):
    """A copy of the run, to write into."""
    return shutil.copytree(tuned[1], tmp_path / "run")


def test_int8_within_a_drop_prints_the_ladder_and_the_table(tuned, folder, capsys):
    data, _ = tuned
    command = ["export", str(folder), "--quantize", "int8", "--data", str(data)]
    assert run([*command, "--max-drop", "0.5"]) == 0
    out = capsys.readouterr().out
    assert "int8 (taken)" in out and "Judged on the pictures held out" in out
    assert "float32" in out and "agreement" in out
    made = folder / "model-int8.tflite"
    assert LiteRTModel(made).labels == ("class_0", "class_1", "class_2")
    assert run([*command, "--overwrite", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["name"] for row in rows] == ["float32", "int8"]
    assert rows[1]["bytes"] == made.stat().st_size < 0.4 * rows[0]["bytes"]
    assert rows[1]["agreement"] >= 0.8 and 0 <= rows[1]["score"] <= 1


def test_a_ladder_that_stays_in_float_names_the_layers(tuned, folder, capsys, monkeypatch):
    """int8 is made to lose: with nothing to lose and a spoiled first rung the next is taken."""
    data, _ = tuned
    plain = ladder._Task.plain

    def spoiled(task, name):
        rung = plain(task, name)
        return ladder.Rung(name, note="spoiled") if name == "int8" else rung

    monkeypatch.setattr(ladder._Task, "plain", spoiled)
    command = ["export", str(folder), "--quantize", "int8", "--data", str(data), "--json"]
    assert run([*command, "--max-drop", "0.9"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["taken"] == "int8_mixed" and len(said["in_float"]) == 1
    assert said["tried"] == ["int8", "int8_mixed"]


@pytest.mark.parametrize(
    ("quantize", "largest"), [("none", 1.01), ("float16", 0.6), ("dynamic", 0.4)]
)
def test_without_pictures_sizes_and_times_are_told(folder, capsys, quantize, largest):
    assert run(["export", str(folder), "--quantize", quantize, "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["rows"]
    assert second["bytes"] <= largest * first["bytes"]
    assert second["score"] is None and second["ms"] > 0


def test_integers_in_and_out(tuned, folder):
    data, _ = tuned
    out = folder / "app.tflite"
    command = ["export", str(folder), "--quantize", "int8", "--data", str(data), "--out", str(out)]
    assert run([*command, "--io-dtype", "uint8"]) == 0
    assert LiteRTModel(out).inputs[0].dtype == "uint8"


def test_a_saved_model(folder, capsys):
    assert run(["export", str(folder), "--format", "saved_model"]) == 0
    assert "Written: " in capsys.readouterr().out
    assert (folder / "model-saved_model" / "saved_model.pb").is_file()


def test_pictures_of_another_range_are_a_warning_of_one_line(tuned, folder, tmp_path, capsys):
    data, _ = tuned
    dark = shutil.copytree(data, tmp_path / "dark")
    for path in dark.rglob("*.png"):
        Image.open(path).point(lambda value: value // 64).save(path)
    command = ["export", str(folder), "--quantize", "int8", "--data", str(dark)]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert run(command) == 0
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("kerastl: warning")]
    assert "lies in [0, 3], a small part of the [0, 255] that the model takes" in line


def test_warnings_are_lines_on_the_command_line(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with _warnings_as_lines():
            warnings.warn("watch\nout", stacklevel=1)
    assert capsys.readouterr().err == "kerastl: warning: watch out\n"


def test_bad_input_gets_one_clear_line_and_exit_2(tuned, folder, tmp_path, capsys):
    data, _ = tuned
    (folder / "taken.tflite").write_text("there before")
    other = tmp_path / "other"
    other.mkdir()
    (other / "labels.txt").write_text("another\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "no.tflite").write_text("no model at all")
    keras.Sequential([keras.Input((None, 4)), keras.layers.LSTM(2)]).save(tmp_path / "open.keras")
    base = ["export", str(folder)]
    int8 = [*base, "--quantize", "int8", "--data", str(data)]
    cases = {
        "no data": ([*base, "--quantize", "int8"], "needs `data` (--data)"),
        "no data to judge on": ([*base, "--quantize", "dynamic", "--max-drop", "0"], "--data"),
        "empty data": ([*int8[:-1], str(empty)], "empty"),
        "nothing to lose": ([*base, "--data", str(data), "--max-drop", "0.1"], "--quantize int8"),
        "drop": ([*int8, "--max-drop", "7"], "max_drop"),
        "dtype": ([*base, "--quantize", "dynamic", "--io-dtype", "int8"], "io_dtype"),
        "dtype and ladder": ([*int8, "--max-drop", "0.1", "--io-dtype", "int8"], "float32"),
        "format": ([*int8, "--format", "saved_model"], "`quantize` (--quantize) is for the format"),
        "drop of what is not measured": (
            [*base, "--max-drop", "0.1", "--format", "onnx"],
            "`max_drop` (--max-drop) is for the format 'litert'",
        ),
        "data of what is not measured": (
            [*base, "--data", str(data), "--format", "saved_model"],
            "`data` (--data) is for the format 'litert'",
        ),
        "data of files of Hugging Face": (
            [*base, "--data", str(data), "--format", "huggingface"],
            "`data` (--data) is for the format 'litert'",
        ),
        "no language model": (
            [*base, "--format", "huggingface"],
            f"Received: {folder}, which learnt classification",
        ),
        "nobody's run": (
            ["export", str(tmp_path / "open.keras"), "--format", "huggingface"],
            "open.keras, which is no run",
        ),
        "kind": ([*base, "--quantize", "int4"], "int4"),
        "ending": ([*base, "--out", str(tmp_path / "model.bin")], ".tflite"),
        "no such folder": ([*base, "--out", str(tmp_path / "gone" / "a.tflite")], "gone"),
        "taken": ([*base, "--out", str(folder / "taken.tflite")], "--overwrite"),
        "foreign labels": ([*base, "--out", str(other / "a.tflite")], "other classes"),
        "no model": (["export", str(tmp_path / "none.keras")], "none.keras"),
        "a device file": (["export", str(tmp_path / "no.tflite")], "must be a .keras file"),
        "open shape": (["export", str(tmp_path / "open.keras")], "fixed input shapes"),
        "no tflite": (["evaluate", str(tmp_path / "no.tflite"), str(data)], "no.tflite"),
    }
    before = sorted(path for path in tmp_path.rglob("*"))
    for name, (arguments, words) in cases.items():
        code = run(arguments)
        err = capsys.readouterr().err
        assert code == 2, (name, err)
        assert words in err.strip().splitlines()[-1], (name, err)
        assert "Traceback" not in err, name
        assert sorted(path for path in tmp_path.rglob("*")) == before, name
    assert (folder / "taken.tflite").read_text() == "there before"


def test_onnx_names_what_is_missing_or_writes_it(folder, capsys):
    code = run(["export", str(folder), "--format", "onnx"])
    if code:
        assert code == 2 and "pip install tf2onnx onnx" in capsys.readouterr().err
    assert code != bool(os.path.isfile(folder / "model.onnx"))


def test_choices_are_those_of_the_library():
    quantized = {name or "none" for name in MODES}
    assert {"none", *settings.LADDERS} == quantized
    assert {mode or "none" for mode in settings.EXPORTS.values()} <= quantized
    assert set(settings.IO_DTYPES) == {d for mode in MODES.values() for d in mode.io_dtypes}
