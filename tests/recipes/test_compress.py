"""`compress`: each stage does what it says, is measured, and the folder is whole."""

import json
import os

import keras
import numpy as np
import pytest
from PIL import Image

import kerastl
from kerastl.compression import sparsity
from kerastl.distillation import Distill
from kerastl.export import LiteRTModel, file_sizes
from kerastl.recipes import CompressSettings, RunFolder
from kerastl.recipes.compress import _grown
from kerastl.recipes.finished import load_run, read_for
from kerastl.recipes.run_folder import Silent
from kerastl.recipes.stages import (
    MOMENTUM,
    StageJob,
    prune,
    quick_statistics,
    stages_of,
)
from kerastl.report import draw_stages
from kerastl.tasks import find_source
from kerastl.tasks.settings import ReadSettings
from kerastl.training import FineTuner
from tests.recipes.compress_cases import FAST, network, read, write_run

ALL = {"prune": 0.6, "prune_channels": 0.3, "qat": True}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """Pictures, and a run that was tuned on them."""
    return write_run(tmp_path_factory.mktemp("compress"))


@pytest.fixture(scope="module")
def squeezed(tuned):
    """All stages on that run."""
    data, run = tuned
    out = run.with_name("small")
    return kerastl.compress(run, data, out, **ALL, **FAST)


def test_the_run_folder_is_whole(squeezed, tuned):
    assert {file.name for file in squeezed.folder.iterdir()} == {
        "model.keras", "model.tflite", "float.tflite", "labels.txt", "task.json",
        "config.json", "metrics.json", "stages.png",
    }  # fmt: skip
    said = json.loads((squeezed.folder / "metrics.json").read_text())
    assert said["rows"] == squeezed.metrics["rows"]
    assert (squeezed.folder / "labels.txt").read_text().split() == ["class_0", "class_1", "class_2"]
    config = json.loads((squeezed.folder / "config.json").read_text())
    assert config["config"]["prune"] == 0.6 and config["data"] == str(tuned[0].resolve())
    assert json.loads((squeezed.folder / "task.json").read_text())["seed"] == 3
    assert [len(h["loss"]) for h in config["history"].values()] == [2, 2, 2]


def test_each_stage_has_a_row_and_a_parity_line(squeezed):
    rows = squeezed.metrics["rows"]
    assert [row["name"] for row in rows] == ["float", "channels", "pruned", "qat", "int8"]
    assert rows[0]["agreement"] is None and all(row["agreement"] > 0.6 for row in rows[1:])
    for row in rows:
        assert row["score"] > 0.6  # by chance a third
        if row["name"] == "qat":
            assert row["bytes"] is None and row["ms"] is None
        else:
            assert row["ms"] > 0 and row["keras"]["agreement"] >= 0.9
            exact = row["name"] != "int8"
            assert row["keras"]["max_abs_error"] < (1e-5 if exact else 0.1)


def test_stages_shrink_what_they_say(squeezed):
    by = {row["name"]: row for row in squeezed.metrics["rows"]}
    assert by["channels"]["bytes"] < 0.8 * by["float"]["bytes"]
    assert by["pruned"]["bytes"] == by["channels"]["bytes"]  # zeros cost as much as others
    assert by["pruned"]["gzip"] < 0.6 * by["channels"]["gzip"]
    assert by["int8"]["bytes"] < 0.4 * by["pruned"]["bytes"]
    assert by["channels"]["sparsity"] == 0
    # Of all kernels, which have the head's dense one besides.
    assert by["pruned"]["sparsity"] == pytest.approx(0.6, abs=0.01)
    assert by["int8"]["sparsity"] >= by["pruned"]["sparsity"] - 0.001  # zeros outlive QAT


def test_zeros_that_gzip_does_not_show_are_explained(squeezed):
    assert not any("gzip" in line for line in squeezed.metrics["notices"])
    rows = [{"name": "float", "gzip": 100}, {"name": "pruned", "gzip": 110}]
    (line,) = _grown(rows)
    assert line.startswith("By gzip the pruned float file is larger than the one before")


def test_files_and_model_are_one_network(squeezed, tuned):
    data, _ = tuned
    model = keras.models.load_model(squeezed.folder / "model.keras")
    pixels = read(squeezed.folder, data).test.inputs()
    expected = squeezed.model.predict(pixels, verbose=0)
    np.testing.assert_array_equal(model.predict(pixels, verbose=0), expected)
    for name, tolerance in (("model.tflite", 0.1), ("float.tflite", 0.2)):
        file = LiteRTModel(squeezed.folder / name)
        np.testing.assert_allclose(file.predict(pixels), expected, atol=tolerance)
        assert file.labels == ("class_0", "class_1", "class_2")
    integer = file_sizes([squeezed.folder / "model.tflite"]).rows[0]
    assert integer.zeros > 0.5


@pytest.mark.slow
def test_without_stages_int8_is_calibrated_and_the_weights_are_kept(tuned, tmp_path):
    data, run = tuned
    result = kerastl.compress(run, data, tmp_path / "out", max_drop=0.2, **FAST)
    assert [row["name"] for row in result.metrics["rows"]] == ["float", "int8"]
    for ours, theirs in zip(result.model.weights, load_run(run).model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_plain_keras_file_in_another_order_of_classes(tuned, tmp_path):
    data, _ = tuned
    network().save(tmp_path / "mine.keras")
    (tmp_path / "labels.txt").write_text("class_1\nclass_2\nclass_0\n")
    finished = load_run(tmp_path / "mine.keras")
    examples = read_for(finished, find_source(data), ReadSettings())
    assert finished.trained_for.seed is None and finished.name == "mine"
    assert examples.outputs == ("class_1", "class_2", "class_0")
    for path, label in zip(examples.train.paths, examples.train.targets, strict=True):
        assert examples.outputs[label] == path.parent.name


def test_small_kernels_stay_dense_and_the_others_make_up_for_it(tuned):
    data, run = tuned
    finished = load_run(run)
    examples = read_for(finished, find_source(data), ReadSettings())
    config = CompressSettings(prune=0.5, seed=0, **FAST)
    model, _ = prune(FineTuner.from_model(finished.model), StageJob(examples, config))
    table = sparsity(model)
    rows = [row for row in table.rows if row.path != "predictions" and row.zeros + row.size]
    small = [row for row in rows if row.size < 0.01 * sum(row.size for row in rows)]
    assert small and all(row.zeros == 0 for row in small)
    pruned = [row for row in rows if row.zeros]
    assert sum(row.zeros for row in pruned) / sum(r.size for r in rows) == pytest.approx(
        0.5, abs=0.01
    )


def test_zeros_are_made_up_for_before_training_which_leaves_statistics(tuned):
    """At a very low rate the model is as it was fitted: right where it was."""
    data, run = tuned
    finished = load_run(run)
    examples = read_for(finished, find_source(data), ReadSettings())
    model = FineTuner.from_model(finished.model)
    pixels = examples.train.inputs()
    before = model.predict(pixels, verbose=0)
    variances = [norm.moving_variance.numpy() for norm in norms_of(model)]
    config = CompressSettings(prune=0.6, seed=0, learning_rate=1e-4, **FAST)
    pruned, _ = prune(model, StageJob(examples, config))
    assert np.abs(pruned.predict(pixels, verbose=0) - before).mean() < 0.05
    for old, norm in zip(variances, norms_of(pruned), strict=True):
        np.testing.assert_array_equal(old, norm.moving_variance.numpy())


def norms_of(model):
    return [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]


def test_statistics_are_quick_for_a_while_only():
    inputs = keras.Input((4,))
    layers = [keras.layers.BatchNormalization(momentum=m) for m in (0.99, 0.5)]
    x = inputs
    for layer in layers:
        x = layer(x)
    model = keras.Model(inputs, x)
    with pytest.raises(RuntimeError), quick_statistics(model):
        assert [layer.momentum for layer in layers] == [MOMENTUM, 0.5]
        raise RuntimeError
    assert [layer.momentum for layer in layers] == [0.99, 0.5]


class StopsAfter(Silent):
    """Progress that presses Ctrl-C when the stage whose name begins with `what` has begun and, if
    it trains, an epoch of it is done."""

    def __init__(self, what, *, trains=True):
        self.what, self.trains = what, trains
        self.stages, self.epochs = [], []

    def stage(self, name, total=None):
        self.stages.append(name)
        if name.startswith(self.what) and not self.trains:
            raise KeyboardInterrupt

    def callbacks(self):
        class Stop(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                epochs.append((stages[-1], epoch))
                if epoch == 1 and stages[-1].startswith(what):
                    raise KeyboardInterrupt

        stages, epochs, what = self.stages, self.epochs, self.what
        return [Stop()]


@pytest.mark.slow
def test_a_stopped_compression_goes_on_to_the_same_weights(squeezed, tuned, tmp_path):
    data, run = tuned
    out = tmp_path / "out"
    training, writing = StopsAfter("Making"), StopsAfter("Writing", trains=False)
    for progress in (training, writing):
        with pytest.raises(KeyboardInterrupt, match="the same command goes on from there"):
            kerastl.compress(run, data, out, **ALL, **FAST, progress=progress)
        assert os.listdir(tmp_path) == [".out.unfinished"]
    # The epoch that was done is not done again.
    assert [epoch for _, epoch in training.epochs] == [0, 1, 0, 1]
    assert [epoch for _, epoch in writing.epochs] == [1, 0, 1]
    last = StopsAfter("nothing")
    result = kerastl.compress(run, data, out, **ALL, **FAST, progress=last)
    assert last.epochs == []
    assert sum(name.endswith(": done before") for name in last.stages) == 3
    assert os.listdir(tmp_path) == ["out"]
    assert {f.name for f in out.iterdir()} == {f.name for f in squeezed.folder.iterdir()}
    for got, want in zip(result.model.weights, squeezed.model.weights, strict=True):
        np.testing.assert_array_equal(got, want)
    for name in ("model.tflite", "float.tflite"):
        got, want = (LiteRTModel(folder / name) for folder in (out, squeezed.folder))
        pixels = read(run, data).test.inputs()
        np.testing.assert_array_equal(got.predict(pixels), want.predict(pixels))
    rows, whole = ([{**row, "ms": None} for row in r.metrics["rows"]] for r in (result, squeezed))
    assert rows == whole


def test_a_stopped_compression_is_not_mixed_with_another(tuned, tmp_path):
    data, run = tuned
    with pytest.raises(KeyboardInterrupt):
        kerastl.compress(
            run, data, tmp_path / "out", prune=0.5, **FAST, progress=StopsAfter("Making")
        )
    with pytest.raises(FileExistsError, match="An unfinished run with other settings"):
        kerastl.compress(run, data, tmp_path / "out", prune=0.4, **FAST)


@pytest.mark.slow
def test_an_error_leaves_nothing(tuned, tmp_path, monkeypatch):
    data, run = tuned

    def broken(*args, **kwargs):
        assert ".out.unfinished" in os.listdir(tmp_path)
        raise RuntimeError("broken")

    monkeypatch.setattr(Distill, "targets", broken)
    with pytest.raises(RuntimeError, match="broken"):
        kerastl.compress(run, data, tmp_path / "out", prune=0.5, **FAST)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"prune": 1.0}, r"`prune` must be a sparsity in \[0, 1\)"),
        ({"prune": -0.1}, r"`prune` must be a sparsity in \[0, 1\)"),
        ({"prune_channels": 0.0}, r"a share in \(0, 1\)"),
        ({"prune_channels": 1.5}, "prune_channels=1.5"),
        ({"prune": 0.5, "m_by_n": (2, 4)}, "Pass `prune` or `m_by_n`"),
        ({"m_by_n": (4, 4)}, "m < n"),
        ({"block_size": (4, 1)}, "needs `prune`"),
        ({"epochs": 0}, "`epochs` must be an int"),
        ({"max_drop": 2.0}, "max_drop"),
        ({"augment": "lots"}, "augment"),
        ({"distill": 1.5}, "`distill` must be a share in"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        CompressSettings(**settings)


def test_stages_come_in_order():
    every = CompressSettings(m_by_n=(2, 4), prune_channels=0.3, qat=True)
    assert [stage.name for stage in stages_of(every)] == ["channels", "pruned", "qat"]
    assert stages_of(CompressSettings()) == []


def test_the_picture_takes_stages_without_files(tmp_path):
    rows = [
        {"name": "float", "score": 0.9, "bytes": 1000, "gzip": 900, "num_examples": 100},
        {"name": "qat", "score": 0.9, "bytes": None, "gzip": None},
        {"name": "int8", "score": 0.9, "bytes": 250, "gzip": 200},
    ]
    draw_stages(rows, tmp_path / "a.png", title="one")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (1080, 540)


def test_what_a_run_may_replace(tuned, tmp_path):
    data, run = tuned
    with RunFolder(tmp_path / "out") as folder:
        folder.write_json("metrics.json", {})
    with pytest.raises(FileExistsError, match="--overwrite"):
        kerastl.compress(run, data, tmp_path / "out", **FAST)
