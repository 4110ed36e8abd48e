"""`kerastl compress`: its table, and one clear line and exit 2 for what it cannot use."""

import json
import os
import shutil

import keras
import pytest

from kerastl_cli.main import run
from tests.recipes.compress_cases import FAST, network, write_run
from tests.recipes.test_tune import write_pictures

QUICK = [part for key, value in FAST.items() for part in (f"--{key.replace('_', '-')}", str(value))]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("cli-compress"))


@pytest.fixture(scope="module")
def small(tuned):
    """Pruned to 2:4 and calibrated."""
    data, folder = tuned
    out = folder.with_name("small")
    command = ["compress", str(folder), "--data", str(data), "--m-by-n", "2", "4"]
    assert run([*command, "--out", str(out), "--max-drop", "0.2", *QUICK]) == 0
    return out


def test_it_prints_the_stages(tuned, tmp_path, capsys):
    data, folder = tuned
    command = ["compress", str(folder), "--data", str(data), "--out", str(tmp_path / "out")]
    assert run([*command, "--max-drop", "1", *QUICK]) == 0
    out, err = capsys.readouterr()
    for word in ("stage", "accuracy", "bytes", "gzip", "ms", "agreement", "float", "int8", "100%"):
        assert word in out
    assert "stages.png" in out and "Writing and checking model.tflite" in err
    assert run([*command, *QUICK]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run([*command, "--overwrite", "--json", *QUICK]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["name"] == "float"


def test_a_pattern_by_the_command_line(small):
    rows = json.loads((small / "metrics.json").read_text())["rows"]
    assert [row["name"] for row in rows[:2]] == ["float", "pruned"]
    # The first convolution has 3 inputs, which are no multiple of 4, and the head stays dense.
    assert 0.45 < rows[1]["sparsity"] < 0.5


def test_evaluate_tells_of_the_files_that_lie_together(small, tuned, capsys):
    data, _ = tuned
    assert run(["evaluate", str(small / "model.tflite"), str(data), "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    names = ["model.keras", "float.tflite", "model.tflite"]
    assert [row["name"] for row in files] == names
    assert [row["bytes"] for row in files] == [os.path.getsize(small / name) for name in names]
    assert files[0]["ms"] is None and files[1]["agreement"] == 1.0 and files[2]["ms"] > 0
    assert run(["evaluate", str(small / "model.tflite"), str(data)]) == 0
    assert "float.tflite" in capsys.readouterr().out


def test_evaluate_says_why_a_file_is_not_compared(small, tuned, tmp_path, capsys):
    data, _ = tuned
    for name in ("model.tflite", "labels.txt"):
        shutil.copy(small / name, tmp_path / name)
    (tmp_path / "model.keras").write_text("nothing of the kind")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).export(
        tmp_path / "float.tflite", format="litert", verbose=False
    )
    assert run(["evaluate", str(tmp_path / "model.tflite"), str(data)]) == 0
    out, err = capsys.readouterr()
    assert "model.keras is not compared" in err and "float.tflite is not compared" in err
    assert "model.tflite" in out


def test_bad_input_gets_one_clear_line_and_exit_2(tuned, tmp_path, capsys):
    data, folder = tuned
    other = write_pictures(tmp_path / "two", classes=2, each=6)
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "text.keras").write_text("no model")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(tmp_path / "dense.keras")
    plain = network()
    keras.Model(plain.input, plain.get_layer("high_relu").output).save(tmp_path / "maps.keras")
    logits = keras.layers.Dense(3)(plain.get_layer("pool").output)
    keras.Model(plain.input, logits).save(tmp_path / "logits.keras")
    good = ["compress", str(folder), "--data", str(data)]
    cases = {
        "no data": (["compress", str(folder)], "--data"),
        "no model": (["compress", str(tmp_path / "gone"), *good[2:]], "gone"),
        "not a model": (["compress", str(tmp_path / "text.keras"), *good[2:]], "text.keras"),
        "no pictures": (["compress", str(tmp_path / "dense.keras"), *good[2:]], "must take pict"),
        "no classes": (["compress", str(tmp_path / "maps.keras"), *good[2:]], "one score for each"),
        "logits": (["compress", str(tmp_path / "logits.keras"), *good[2:]], "probability"),
        "other classes": ([*good[:3], str(other)], "class_2"),
        "missing folder": ([*good[:3], str(tmp_path / "nowhere")], "nowhere"),
        "empty folder": ([*good[:3], str(empty)], "empty"),
        "sparsity": ([*good, "--prune", "1"], "[0, 1)"),
        "negative": ([*good, "--prune", "-0.5"], "[0, 1)"),
        "channels": ([*good, "--prune-channels", "1"], "[0, 1)"),
        "pattern": ([*good, "--m-by-n", "4", "2"], "m < n"),
        "epochs": ([*good, "--epochs", "0"], "epochs"),
        "rate": ([*good, "--prune", "0.5", "--learning-rate", "-1"], "learning_rate"),
    }
    before = sorted(os.listdir(tmp_path))
    for name, (arguments, words) in cases.items():
        code = run(
            [*arguments, *(["--out", str(tmp_path / "out")] if "--data" in arguments else [])]
        )
        err = capsys.readouterr().err
        assert code == 2, (name, err)
        assert words in err.strip().splitlines()[-1], (name, err)
        assert "Traceback" not in err and len(err.splitlines()[-1]) < 600, name
        assert sorted(os.listdir(tmp_path)) == before, name
