"""Pretraining goes on with texts without labels, and a run that was killed ends the same."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from kerastl import backbones, fine_tune
from kerastl.backbones.prose import authors, sentences
from kerastl.data.texts.masking import POSITIONS
from kerastl.freezing import freezing_state
from kerastl.recipes import training, unlabelled
from kerastl.recipes.run_folder import Silent
from kerastl.tasks import find_source
from kerastl.tasks.settings import TuneSettings
from kerastl_cli.main import run as command_line
from tests.tolerances import REDUCTION

LINES = 60


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A table of 24 labelled sentences and 20 held out, and 62 lines without labels, two of them
    held-out sentences, one line twice, one too long for a row, one without anything to read."""
    home = tmp_path_factory.mktemp("unlabelled")
    train, labels, test, truth = sentences(seed=0, labels_per_author=12)
    (home / "data").mkdir()
    for name, texts, so in (("train", train, labels), ("test", test[:20], truth)):
        rows = [f"{authors()[label]}\t{text}\n" for text, label in zip(texts, so, strict=False)]
        (home / "data" / f"{name}.tsv").write_text("label\ttext\n" + "".join(rows))
    lines = [*test[18 : 18 + LINES], test[40], " ".join(test[80:95]), "\u200b"]
    (home / "lines.txt").write_text("".join(f"{line}\n" for line in lines))
    (home / "table.tsv").write_text("text\n" + "".join(f"{line}\n" for line in lines))
    return home


def options(home, **given):
    return {
        "strategy": "probe",
        "unlabelled": str(home / "lines.txt"),
        "unlabelled_epochs": 1,
        **given,
    }


@pytest.fixture(scope="module")
def run(home):
    return fine_tune(home / "data", home / "run", **options(home))


def begun(home, **given):
    source = find_source(home / "data")
    settings = source.settled(TuneSettings(**options(home, **given)))
    return source, settings, *training.begin(source, settings, Silent())


@pytest.mark.slow
def test_a_run_without_a_network_takes_the_embedded_one(run):
    assert json.loads((run.folder / "config.json").read_text())["config"]["backbone"] == "prosenet"
    assert any("prosenet is a small network" in line for line in run.metrics["notices"])
    assert run.metrics["score"] > 0.7


def test_what_was_learnt_without_labels_is_told(run, home):
    told = run.metrics["unlabelled"]
    assert (told["num_examples"], told["num_held_out"], told["epochs"]) == (58, 3, 1)
    assert told["num_shown"] == 2 and told["num_left_out"] == 1 and told["num_rows"] > 60
    assert 1 < told["loss_after"] < told["loss_before"] < np.log(3500)
    notices = " ".join(run.metrics["notices"])
    rows = f"in {told['num_rows']} rows, 1 passes"
    assert f"58 examples of {home / 'lines.txt'} {rows}" in notices
    assert f"1 examples of {home / 'lines.txt'} were left out" in notices
    assert "2 of the examples held out stand in" in notices
    assert run.metrics["seconds_of"]["unlabelled"] > 0


def test_nothing_of_a_long_text_is_lost_nor_on_both_sides(home):
    source, settings, model, data = begun(home)
    whole = max(source._ids_to_learn, key=len)
    reach, found = backbones.max_length(model), set()
    for seed in range(30):
        given = source.unlabelled(model, data, dataclasses.replace(settings, seed=seed))
        rows = given.train.texts
        at = np.flatnonzero([len(ids) * 2 > reach for ids in rows.ids])
        parts = [rows.ids[row] for row in at]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
        assert len(parts) == -(-len(whole) // (reach - 2)) and rows.longest == reach
        is_held = np.isin(at, given.held_out.index)
        assert is_held.all() or not is_held.any()
        np.testing.assert_array_equal(np.isin(at, given.train.index), ~is_held)
        found.add(bool(is_held[0]))
        assert given.num_examples + given.num_held_out == LINES + 1
    assert found == {True, False}


def test_the_loss_is_the_mean_over_all_that_is_hidden(home):
    """Batches of unlike numbers of hidden pieces: sum over sum, in float64."""
    source, settings, model, data = begun(home, batch_size=2)
    given = source.unlabelled(model, data, settings)
    learner = unlabelled.FineTuner.from_model(given.model)
    total = count = 0.0
    for x, y, weights in given.held_out.epoch(0):
        logits = np.asarray(learner(x, training=False), "float64")
        shifted = logits - logits.max(axis=-1, keepdims=True)
        said = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        of_each = -np.take_along_axis(said, y.numpy()[..., None], axis=-1)[..., 0]
        asked = weights.numpy()
        total, count = total + (of_each * asked).sum(), count + asked.sum()
        assert set(x) == {"token_ids", "padding_mask", "segment_ids", POSITIONS}
    np.testing.assert_allclose(unlabelled._loss(learner, given), total / count, **REDUCTION)


class Killed(Silent):
    """Stops a run at a stage, or in the pass over everything."""

    def __init__(self, at):
        self.at = at

    def stage(self, name, total=None):
        if self.at == name.split()[0]:
            raise KeyboardInterrupt

    def callbacks(self):
        def stop(batch, logs=None):
            if self.at == "epoch":
                raise KeyboardInterrupt

        return [keras.callbacks.LambdaCallback(on_epoch_begin=stop)]


@pytest.mark.slow
def test_a_run_killed_within_and_after_ends_bit_equal(run, home):
    out = home / "stopped"
    for at in ("epoch", "Solving"):
        with pytest.raises(KeyboardInterrupt):
            fine_tune(home / "data", out, progress=Killed(at), **options(home))
    work = home / ".stopped.unfinished" / ".work" / "unlabelled"
    assert (work / "learnt.json").is_file() and not (work / "checkpoints").exists()
    again = fine_tune(home / "data", out, **options(home))
    for one, other in zip(again.model.get_weights(), run.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    for name in ("loss_before", "loss_after"):
        assert again.metrics["unlabelled"][name] == run.metrics["unlabelled"][name]


def test_only_what_the_network_has_learnt_stays(home):
    source, settings, model, data = begun(home)
    before = [value.copy() for value in model.get_weights()]
    flags = freezing_state(model)
    drawn = [v.numpy() for v, _ in unlabelled._random_states(model)]
    work = home / "work"
    work.mkdir()
    unlabelled.learn_unlabelled(
        model, data, source=source, settings=settings, folder=work, progress=Silent()
    )
    assert freezing_state(model) == flags
    for one, other in zip(drawn, unlabelled._random_states(model), strict=True):
        np.testing.assert_array_equal(one, other[1])
    paths = [weight.path for weight in model.weights]
    moved = {
        path for path, one, other in zip(paths, before, model.get_weights(), strict=True)
        if not np.array_equal(one, other)
    }  # fmt: skip
    assert any("token_embedding" in path for path in moved)
    assert any("transformer_layer_2" in path for path in moved)
    assert len(moved) >= len(paths) - 3  # all but the head at zero, and unused segments


def test_a_table_is_read_as_lines_are(home):
    source = find_source(home / "data")
    texts = []
    for name in ("lines.txt", "table.tsv"):
        source.settled(TuneSettings(**options(home, unlabelled=str(home / name))))
        texts.append(source._unlabelled)
    assert texts[0] == texts[1] and len(texts[0]) == LINES + 2


def test_what_cannot_be_is_refused_in_one_line(home, tmp_path, capfd):
    (tmp_path / "few.txt").write_text("one\ntwo\none\n")
    nothing = [sign * (i + 1) for i in range(15) for sign in ("\u200b", "日")]
    (tmp_path / "nothing.txt").write_text("\n".join(["one", "two", *nothing]))
    (tmp_path / "pictures" / "a").mkdir(parents=True)
    from PIL import Image

    for name in ("a", "b"):
        (tmp_path / "pictures" / name).mkdir(exist_ok=True)
        for i in range(4):
            Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / name / f"{i}.png")
    cases = {
        (home / "data", "few.txt"): "at least 20 texts that differ",
        (home / "data", "nothing.txt"): "knows something. Received: 2 of 32 that differ",
        (home / "data", "none.txt"): "There is no file",
        (tmp_path / "pictures", "few.txt"): "(--unlabelled) is for texts",
    }
    for (data, name), message in cases.items():
        words = [
            "tune",
            str(data),
            "--unlabelled",
            str(tmp_path / name),
            "--out",
            str(tmp_path / "x"),
        ]
        assert command_line(words) == 2
        said = capfd.readouterr().err
        assert message in said and "Traceback" not in said
    with pytest.raises(ValueError, match="`unlabelled_epochs` needs `unlabelled`"):
        TuneSettings(unlabelled_epochs=5)
