"""`distill`: a student learns the answers of finished runs, of pictures and of texts."""

import dataclasses
import json
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from kerastl import distill, fine_tune
from kerastl.backbones.glyphs import render_glyphs
from kerastl.backbones.prose import authors, sentences
from kerastl.recipes import distill as recipe
from kerastl.recipes import evaluate, predict
from kerastl.recipes.distill import _answers, _as_answers
from kerastl.recipes.finished import load_run
from kerastl.recipes.run_folder import Silent
from kerastl.tasks import PreparePictures
from kerastl_cli.main import run as command_line
from tests.recipes.compress_cases import network, read, write_run
from tests.recipes.test_tune import StopsOnce, without_times
from tests.tolerances import EXACT, REDUCTION

FAST = {"student": "glyphnet", "epochs": 2, "batch_size": 8, "export": "none"}
SIZED = PreparePictures((32, 32))
MORE = 12  # pictures without labels


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Class folders, a teacher's run, and a folder without labels, one file of it no picture."""
    home = tmp_path_factory.mktemp("distill")
    write_run(home)
    images, labels = render_glyphs(600, seed=7)
    (home / "more").mkdir()
    for i in np.flatnonzero(labels < 3)[:MORE]:
        pixels = np.asarray(images[i]).astype("uint8").squeeze()
        Image.fromarray(pixels).convert("RGB").save(home / "more" / f"{i}.png")
    (home / "more" / "broken.png").write_text("no picture")
    return home


@pytest.fixture(scope="module")
def result(home):
    options = {**FAST, "unlabelled": str(home / "more")}
    return distill(home / "run", home / "data", home / "student", **options)


def test_the_run_folder_is_that_of_a_run_with_its_teacher(home, result):
    names = {file.name for file in result.folder.iterdir()}
    assert names == {
        "model.keras", "labels.txt", "task.json", "config.json", "plan.json", "metrics.json",
        "curves.png",
    }  # fmt: skip
    metrics = json.loads((result.folder / "metrics.json").read_text())
    assert metrics["score"] == metrics["trained"]["score"] and metrics["kept"] == "trained"
    assert metrics["share"] == 0.9 and metrics["temperature"] == 2.0 and metrics["seed"] == 3
    folder = str(home / "more")
    assert metrics["unlabelled"] == {"path": folder, "num_examples": MORE, "num_left_out": 1}
    assert metrics["num_train"] == len(read(home / "run", home / "data").train)
    config = json.loads((result.folder / "config.json").read_text())
    assert config["teacher"] == [str((home / "run" / "model.keras").resolve())]
    assert len(config["history"]["distill"]) == 2
    answer, *_ = predict(result.folder, home / "more" / sorted((home / "more").glob("[0-9]*"))[0])
    assert answer["top"][0]["label"].startswith("class_")


def test_the_figures_of_the_teacher_are_those_of_evaluate(home, result):
    """On the examples held out, which are those of its own run."""
    examples = read(home / "run", home / "data")
    teacher = load_run(home / "run").model
    outputs = teacher.predict(examples.test.inputs(), verbose=0)
    told = result.metrics["teacher"]
    assert told["score"] == (outputs.argmax(1) == examples.test.targets).mean()
    assert told["num_weights"] == teacher.count_params() and told["names"] == ["run"]
    assert result.metrics["num_examples"] == len(examples.test)
    assert evaluate(result.folder, home / "data")["num_examples"] > 0


def test_a_stopped_run_goes_on_to_the_same_end(home, result, tmp_path, monkeypatch):
    """Every weight and every number; the teacher is not asked again."""
    progress, options = StopsOnce(epoch=0), {**FAST, "unlabelled": str(home / "more")}
    with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        distill(home / "run", home / "data", tmp_path / "run", progress=progress, **options)
    monkeypatch.setattr(recipe_module(), "_answers", None)
    again = distill(home / "run", home / "data", tmp_path / "run", progress=progress, **options)
    assert progress.epochs_seen == [0, 0, 1]
    for got, want in zip(again.model.variables, result.model.variables, strict=True):
        np.testing.assert_array_equal(got, want, err_msg=want.path)
    assert without_times(again.metrics) == without_times(result.metrics)


def recipe_module():
    """The module, whose name in the room is the verb's."""
    return sys.modules[recipe.__module__]


def test_several_teachers_answer_by_the_mean_in_the_order_of_the_data(home, tmp_path):
    """The second has its classes in another order, and takes pictures of another size."""
    run = load_run(home / "run")
    turned = [2, 0, 1]
    inputs = keras.Input((40, 40, 3))
    small = keras.layers.Resizing(32, 32)(inputs)
    outputs = keras.ops.take(run.model(small), np.array(turned), axis=1)
    (tmp_path / "other").mkdir()
    keras.Model(inputs, outputs).save(tmp_path / "other" / "model.keras")
    said = json.loads((home / "run" / "task.json").read_text())
    said["outputs"] = [said["outputs"][i] for i in turned]
    said["prepare"]["image_size"] = [40, 40]
    (tmp_path / "other" / "task.json").write_text(json.dumps(said))
    examples = read(home / "run", home / "data")
    teachers = [load_run(folder) for folder in (home / "run", tmp_path / "other")]
    told = [_answers([one], examples.test, examples, Silent()) for one in teachers]
    both = _answers(teachers, examples.test, examples, Silent())
    np.testing.assert_allclose(both, (told[0] + told[1]) / 2, **REDUCTION)
    assert (told[0].argmax(1) == told[1].argmax(1)).mean() > 0.7
    alone = run.model.predict(examples.test.inputs(), verbose=0)
    np.testing.assert_allclose(told[0], alone, **EXACT)


def test_examples_without_labels_have_the_answers_alone_for_targets(home):
    examples, run = read(home / "run", home / "data"), load_run(home / "run")
    train, kept = examples.train.with_further(run.trained_for.prepare.find(home / "more"), SIZED)
    whole = dataclasses.replace(examples, train=train)
    count = len(examples.train)
    answers = np.random.default_rng(0).dirichlet(np.ones(3), len(train)).astype("float32")
    taught = recipe_module().Lesson(examples, whole, answers, None).taught.train
    assert len(kept) == MORE and len(taught) == count + MORE
    np.testing.assert_array_equal(taught.targets[:count].argmax(1), examples.train.targets)
    np.testing.assert_array_equal(taught.targets[count:], answers[count:])
    batch = next(iter(taught.batches(count + MORE)))
    np.testing.assert_array_equal(batch[1], taught.targets)


def test_targets_become_what_a_model_gives_for_them():
    np.testing.assert_array_equal(_as_answers(np.array([1, 0]), 2), [[0, 1], [1, 0]])
    np.testing.assert_array_equal(_as_answers(np.array([1.5, 2.0]), 1), [[1.5], [2.0]])
    np.testing.assert_array_equal(_as_answers(np.array([[1.0, 1.0]]), 2), [[1, 1]])


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A table of sentences, lines without labels, and a teacher that reads longer texts."""
    home = tmp_path_factory.mktemp("distill_texts")
    train, labels, test, truth = sentences(seed=0, labels_per_author=10)
    (home / "data").mkdir()
    for name, found, so in (("train", train, labels), ("test", test[:20], truth)):
        rows = [f"{authors()[label]}\t{text}\n" for text, label in zip(found, so, strict=False)]
        (home / "data" / f"{name}.tsv").write_text("label\ttext\n" + "".join(rows))
    (home / "lines.txt").write_text("".join(f"{line}\n" for line in test[20:50]))
    options = {"strategy": "probe", "max_length": 64, "export": "none"}
    fine_tune(home / "data", home / "teacher", **options)
    return home


@pytest.mark.slow
def test_texts_are_taught_the_same_way(texts):
    """With ids of another length for the teacher, and lines without labels."""
    options = {"unlabelled": str(texts / "lines.txt"), "max_length": 24, "epochs": 1}
    options |= {"strategy": "head", "export": "none", "temperature": 1.0}
    teacher, out = texts / "teacher", texts / "student"
    result = distill(teacher, texts / "data", out, **options)
    metrics = result.metrics
    assert metrics["unlabelled"]["num_examples"] == 30
    assert metrics["teacher"]["score"] > 0.6 and metrics["trained"]["score"] > 0.6
    known = [load_run(folder).trained_for.prepare.length for folder in (teacher, out)]
    assert known == [64, 24]


@pytest.mark.slow
def test_numbers_are_taught_by_their_distance(home, tmp_path):
    """A table of a number each: the temperature is 1 where nobody says one."""
    images, labels = render_glyphs(200, seed=3)
    lines = ["file,value\n"]
    for i in np.flatnonzero(labels < 4)[:24]:
        pixels = np.asarray(images[i]).astype("uint8").squeeze()
        Image.fromarray(pixels).convert("RGB").save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,{float(labels[i])}\n")
    (tmp_path / "labels.csv").write_text("".join(lines))
    tuned = {"backbone": "glyphnet", "strategy": "probe", "augment": "none", "export": "none"}
    fine_tune(tmp_path, tmp_path / "teacher", **tuned)
    metrics = distill(tmp_path / "teacher", tmp_path, tmp_path / "student", **FAST).metrics
    assert metrics["temperature"] == 1.0 and metrics["objective"] == "regression"
    assert np.isfinite(metrics["trained"]["score"])


@pytest.mark.slow
def test_the_command_line(home, tmp_path, capsys):
    out = str(tmp_path / "run")
    command = ["distill", str(home / "run"), str(home / "data"), "--out", out, "--epochs", "1"]
    command += ["--and-teacher", str(home / "run" / "model.keras"), "--batch-size", "8"]
    assert command_line([*command, "--student", "glyphnet", "--export", "none"]) == 0
    printed = capsys.readouterr().out
    assert "of the teacher" in printed and "regression on frozen features" in printed
    assert "run, run taught" in printed
    assert command_line([*command, "--student", "glyphnet", "--strategy", "lora"]) == 2
    assert "'lora' is not one of" in capsys.readouterr().err


def test_refusals(home, tmp_path):
    data = home / "data"
    with pytest.raises(ValueError, match="`student` is the network that learns"):
        distill(home / "run", data, student="glyphnet", backbone="resnet50")
    with pytest.raises(FileNotFoundError, match="There is no model at"):
        distill(tmp_path / "nothing", data, **FAST)
    (tmp_path / "lines.txt").write_text("some running text\n" * 20)
    with pytest.raises(ValueError, match="to learn to write"):
        distill(home / "run", tmp_path / "lines.txt")
    network(classes=2).save(tmp_path / "two.keras")
    with pytest.raises(ValueError, match=r"must answer for what the data hold: class_0.*2 outputs"):
        distill(tmp_path / "two.keras", data, tmp_path / "run", **FAST)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        distill(home / "run", data, tmp_path / "run", **FAST, unlabelled=str(tmp_path / "nowhere"))
    assert not list(tmp_path.glob(".run*"))
