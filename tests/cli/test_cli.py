"""The command line: what it prints, and one clear line and the exit code for bad input."""

import json
import os
import stat

import keras
import pytest

from kerastl.data import AUGMENTATIONS
from kerastl.plans import strategies
from kerastl.tasks import settings
from kerastl_cli.main import run
from kerastl_cli.start import KEEP_MEMORY, start_tensorflow
from tests.recipes.test_tune import write_pictures


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("cli") / "glyphs", classes=2, each=10)


FAST = ["--backbone", "glyphnet", "--strategy", "probe", "--export", "none"]
TRAINED = [*FAST, "--strategy", "head", "--keep", "last", "--epochs", "2", "--batch-size", "8"]


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("cli-run") / "run"
    assert run(["tune", str(data), "--out", str(out), *FAST]) == 0
    return out


def test_tune_prints_a_table_and_writes_the_run(folder, data, tmp_path, capsys):
    more = ["--start", "zero"]
    assert run(["tune", str(data), "--out", str(tmp_path / "run"), *TRAINED, *more]) == 0
    out, err = capsys.readouterr()
    assert "accuracy, held-out" in out and "regression on frozen features" in out
    assert "epoch   2/2" in err
    assert (folder / "model.keras").is_file() and not (folder / "curves.png").exists()
    config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert (config["start"], config["keep"]) == ("zero", "last")


def test_json_is_nothing_but_json(folder, data, capsys):
    commands = [
        ["evaluate", str(folder), str(data)],
        ["predict", str(folder), str(data / "class_0")],
        ["inspect", str(folder), "--layers"],
    ]
    for command in commands:
        assert run([*command, "--json"]) == 0
        json.loads(capsys.readouterr().out)


def test_inspect_counts_every_weight_once(folder, capsys):
    assert run(["inspect", str(folder / "model.keras"), "--layers", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    model = keras.models.load_model(folder / "model.keras", compile=False)
    assert sum(group["weights"] for group in found["groups"]) == model.count_params()
    assert sum(layer["weights"] for layer in found["layers"]) == model.count_params()
    assert [layer["index"] for layer in found["layers"]] == list(range(len(model.layers)))


def test_inspect_by_name_prints_groups(capsys):
    assert run(["inspect", "mobilenet", "--alpha", "0.25", "--image-size", "32"]) == 0
    out = capsys.readouterr().out
    assert "block_13" in out
    assert "indices" in out


def make_bad(tmp_path, data):
    """Name, arguments and words of every input that must end in one clear line."""
    empty = tmp_path / "empty"
    empty.mkdir()
    one = write_pictures(tmp_path / "one", classes=1)
    single = write_pictures(tmp_path / "single", classes=2)
    for file in list((single / "class_1").iterdir())[1:]:
        file.unlink()
    broken = write_pictures(tmp_path / "broken", classes=2)
    (broken / "class_0" / "0.png").write_text("no picture")
    text = tmp_path / "weights.h5"
    text.write_text("no weights")
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    other.save_weights(tmp_path / "other.weights.h5")
    other.save(tmp_path / "dense.keras")
    tune = ["tune", str(data), "--out", str(tmp_path / "run"), "--backbone", "glyphnet"]
    mobilenet = [*tune[:-1], "mobilenet", "--weights", "none"]
    return {
        "missing": (["tune", str(tmp_path / "nowhere"), *tune[2:]], "nowhere"),
        "empty": (["tune", str(empty), *tune[2:]], "empty"),
        "one class": (["tune", str(one), *tune[2:]], "class"),
        "class of one file": (["tune", str(single), *tune[2:]], "class_1"),
        "not an image": (["tune", str(broken), *tune[2:], "--strict"], "0.png"),
        "unknown backbone": ([*tune[:-1], "mobilnet"], "mobilenet"),
        "weights are no weights": ([*mobilenet[:-1], str(text)], "weights.h5"),
        "weights of another": (
            [*mobilenet[:-1], str(tmp_path / "other.weights.h5"), "--image-size", "32"],
            "does not hold this model's weights",
        ),
        "size refused": ([*mobilenet, "--image-size", "8"], "32"),
        "width refused": ([*mobilenet, "--alpha", "-1"], "alpha=-1"),
        "embedded at another size": ([*tune, "--image-size", "64"], "32 pixels"),
        "embedded with weights": ([*tune, "--weights", "none"], "weights of its own"),
        "takes no pictures": ([*tune[:-1], str(tmp_path / "dense.keras")], "must take pictures"),
        "bad strategy": ([*tune, "--strategy", "gradul"], "gradual"),
        "no minutes": ([*tune, "--minutes", "0"], "`minutes` must be minutes in [0.001"),
        "nothing to keep": ([*tune, "--keep", "last"], "for a strategy that is named"),
        "a start of auto": ([*tune, "--start", "zero"], "'auto' starts from the probe"),
        "a start": ([*tune, "--start", "nought"], "'probe', 'zero'"),
        "no model": (["evaluate", str(tmp_path / "none.keras"), str(data)], "none.keras"),
        "no tflite": (["predict", str(text.rename(tmp_path / "x.tflite")), str(data)], "x.tflite"),
        "no picture": (["predict", str(tmp_path), str(tmp_path / "gone.png")], "model"),
        "inspect": (["inspect", "resnet5"], "resnet50"),
    }


def test_bad_input_gets_one_clear_line_and_exit_2(tmp_path, data, capsys):
    before = None
    for name, (arguments, words) in make_bad(tmp_path, data).items():
        before = before or sorted(os.listdir(tmp_path))
        code = run(arguments)
        err = capsys.readouterr().err
        last = err.strip().splitlines()[-1]
        assert code == 2, name
        assert words in last, (name, err)
        assert "Traceback" not in err, name
        assert sorted(os.listdir(tmp_path)) == before, name


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["tune", "x", "--strategy", "fewshot"], "Closest: 'few_shot'. `kerastl tune --help`"),
        (["tune"], "Missing argument 'DATA'"),
        (["tun"], "No such command 'tun'"),
        (["lr-find", "x", "--wat", "3"], "No such option '--wat'"),
    ],
)
def test_a_wrong_option_gets_one_line(given, said, capsys):
    assert run(given) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and err.startswith("kerastl: ") and said in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_out(tmp_path, data, capsys):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert run(["tune", str(data), "--out", str(tmp_path / "run"), *FAST]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_out_below_a_file_is_unwritable(tmp_path, data, capsys):
    (tmp_path / "file").write_text("")
    assert run(["tune", str(data), "--out", str(tmp_path / "file" / "run"), *FAST]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path, data, capsys, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", "model.keras")

    monkeypatch.setattr(keras.Model, "save", full)
    assert run(["tune", str(data), "--out", str(tmp_path / "run"), *FAST]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_interrupt_exits_with_1_and_says_how_to_go_on(tmp_path, data, capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "fit", interrupted)
    assert run(["tune", str(data), "--out", str(tmp_path / "run"), *TRAINED]) == 1
    assert "interrupted. What is done lies in" in capsys.readouterr().err
    assert os.listdir(tmp_path) == [".run.unfinished"]
    other = ["tune", str(data), "--out", str(tmp_path / "run"), *TRAINED, "--seed", "1"]
    assert run(other) == 2
    assert "other settings" in capsys.readouterr().err


def test_an_existing_run_is_kept(folder, data, capsys):
    assert run(["tune", str(data), "--out", str(folder), *FAST]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_choices_are_those_of_the_library():
    """Written out once more, since `--help` must not import TensorFlow."""
    assert settings.STRATEGIES == strategies.NAMES and settings.PLAIN == strategies.PLAIN
    assert tuple(AUGMENTATIONS) == settings.AUGMENTATIONS


@pytest.mark.parametrize("given, expected", [(None, "true"), ("false", "false")])
def test_tensorflow_keeps_its_memory_unless_the_user_says_otherwise(monkeypatch, given, expected):
    monkeypatch.setenv(KEEP_MEMORY, given or "")
    if given is None:
        monkeypatch.delenv(KEEP_MEMORY)
    start_tensorflow()
    assert os.environ[KEEP_MEMORY] == expected
