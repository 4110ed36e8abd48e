"""Finer examples beside those of the default size: when they are tried, and what is kept."""

import dataclasses

import keras
import numpy as np
import pytest

from kerastl.recipes import TuneSettings, training
from kerastl.recipes.finer import FinerProbe
from kerastl.recipes.learn import learn
from kerastl.recipes.run_folder import Silent
from kerastl.recipes.solved import Solved
from kerastl.tasks import Classification, Finer, PictureExamples, PreparePictures, TaskData

SMALL, LARGE = 8, 16


def drawn(count, side, seed, clear):
    """Pictures of two classes, the left half brighter or the right: `clear` of 255, in noise."""
    rng = np.random.default_rng([seed, side])
    labels = np.random.default_rng(seed).integers(0, 2, count)
    pictures = rng.integers(0, 200, (count, side, side, 3)).astype("float64")
    for row, label in enumerate(labels):
        pictures[row, :, label * side // 2 : (label + 1) * side // 2] += clear
    return np.clip(pictures, 0, 255).astype("uint8"), labels


class Pictures(PictureExamples):
    """Pictures that are read again from the source that made them."""

    source = None

    def prepared(self, prepare, rows):
        return self.source.examples(prepare.image_size[0], 1, 160).at(rows)


class Drawn:
    """A source of pictures that are clear at one size, at another, or at none."""

    noun, path = "pictures", "drawn"
    objective = Classification()

    def __init__(self, small, large):
        self.clear, self.loaded = {SMALL: small, LARGE: large}, []

    def examples(self, side, seed, count):
        made = Pictures(*drawn(count, side, seed, self.clear[side]), 2)
        made.source = self
        return made

    def load_backbone(self, settings):
        side = settings.image_size or SMALL
        self.loaded.append(side)
        inputs = keras.Input((side, side, 3))
        x = keras.layers.Rescaling(1 / 255)(inputs)
        x = keras.layers.AveragePooling2D(side // 4)(x)
        return keras.Model(inputs, keras.layers.Flatten()(x), name="small")

    def prepare_for(self, model, settings):
        return PreparePictures(tuple(model.input_shape[1:3]))

    def read(self, prepare, settings, *, seed, progress=None):
        side = prepare.image_size[0]
        none = self.examples(side, 9, 2).at(np.arange(0))
        parts = [self.examples(side, 1, 160), none, self.examples(side, 2, 40)]
        return TaskData(*parts, ("a", "b"), prepare, self.objective)

    def finer(self, prepare, settings):
        larger = dataclasses.replace(settings, image_size=LARGE)
        return Finer(larger, 4.0, f"pictures of {LARGE} pixels")


def settings(**options):
    return TuneSettings(**{"augment": "none", "epochs": 2, "batch_size": 16, **options})


def begun(source, own):
    model, data = training.begin(source, own, Silent())
    return Solved.of(model, data, own, Silent())


@pytest.fixture
def curve(monkeypatch):
    """A learning curve that still falls, whatever the pictures."""
    monkeypatch.setattr("kerastl.recipes.finer._still_falls", lambda coarse: True)


def tried(source, tmp_path, **options):
    own = settings(**options)
    coarse = begun(source, own)
    before = coarse.model.get_weights()
    found = FinerProbe(source, own, tmp_path, Silent()).tried(coarse)
    for one, other in zip(before, coarse.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert coarse.model.fit_state.probe is coarse.probe
    return found


def test_finer_examples_that_save_enough_are_taken(curve, tmp_path):
    source = Drawn(3, 30)
    found = tried(source, tmp_path)
    assert found.solved.model.input_shape == (None, LARGE, LARGE, 3)
    assert source.loaded == [SMALL, LARGE, LARGE]  # on a sample, then on all
    by_hand = begun(source, settings(image_size=LARGE))
    np.testing.assert_array_equal(found.solved.probe.out_of_fold, by_hand.probe.out_of_fold)
    assert found.row["fate"].startswith("taken")
    assert found.row["difference"]["num_examples"] == 160
    assert found.reason.startswith("Pictures of 16 pixels save ")
    assert "4 times as long" in found.notices[0]


def test_those_that_save_little_on_a_sample_are_not_read_whole(curve, tmp_path):
    source = Drawn(12, 5)
    found = tried(source, tmp_path)
    assert (found.solved, found.notices) == (None, ())
    assert source.loaded == [SMALL, LARGE]
    assert "15% is asked" in found.row["fate"]
    assert found.row["difference"]["num_examples"] == 80


def test_where_half_of_the_examples_do_as_well_nothing_is_read_again(tmp_path, monkeypatch):
    source, own = Drawn(12, 30), settings()
    coarse = begun(source, own)
    flat = dataclasses.replace(coarse.probe, half_out_of_fold=coarse.probe.out_of_fold)
    finer = FinerProbe(source, own, tmp_path, Silent())
    found = finer.tried(dataclasses.replace(coarse, probe=flat))
    assert (found.solved, source.loaded) == (None, [SMALL])
    assert found.row["fate"] == "not tried: half of the examples do as well"
    worse = np.clip(coarse.probe.out_of_fold[:, ::-1], 1e-3, None)
    steep = dataclasses.replace(coarse.probe, half_out_of_fold=worse)
    found = finer.tried(dataclasses.replace(coarse, probe=steep))
    assert source.loaded[:2] == [SMALL, LARGE]


def test_a_source_without_them_and_a_probe_without_errors_try_none(curve, tmp_path):
    source = Drawn(12, 30)
    source.finer = lambda prepare, settings: None
    assert tried(source, tmp_path) is None
    assert tried(Drawn(250, 250), tmp_path) is None


def test_without_time_they_are_not_tried_and_a_later_process_says_so_too(curve, tmp_path):
    source = Drawn(3, 30)
    for minutes in (0.001, 1000.0):
        found = tried(source, tmp_path, minutes=minutes)
        assert found.row["fate"] == "not tried: no time"
    assert tried(source, tmp_path / "..", minutes=1000.0).solved is not None


def test_examples_that_changed_meanwhile_are_refused(curve, tmp_path):
    source = Drawn(3, 30)
    own = settings()
    coarse = begun(source, own)
    source.examples = lambda side, seed, count: Drawn.examples(source, side, seed + 7, count)
    with pytest.raises(RuntimeError, match="must stay as they are"):
        FinerProbe(source, own, tmp_path, Silent()).tried(coarse)


@pytest.mark.parametrize("large", [12, 60])
def test_auto_goes_on_from_what_was_taken_and_says_it(curve, large, tmp_path):
    source, own = Drawn(3, large), settings()
    model, data = training.begin(source, own, Silent())
    found = learn(model, data, own, tmp_path, Silent(), source)
    side = found.solved.data.prepare.image_size[0]
    assert side == LARGE == found.solved.model.input_shape[1]
    assert found.plan.tried[0].startswith("probe, pictures of 16 pixels: +")
    assert found.plan.reason.startswith("Pictures of 16 pixels save ")
    assert found.choice.table[0]["name"] == "probe, pictures of 16 pixels"
    assert any("times as long" in line for line in found.notices)
    assert found.seconds["comparing"] > 0
    said = found.side_by_side()
    expected = found.solved.outputs(own)
    score = Classification().score(expected, found.solved.data.test.targets)
    assert said[found.kept]["score"] == score


def test_a_strategy_that_is_named_takes_the_examples_as_they_are(curve, tmp_path):
    source, own = Drawn(3, 30), settings(strategy="head", keep="last")
    model, data = training.begin(source, own, Silent())
    learn(model, data, own, tmp_path, Silent(), source)
    assert source.loaded == [SMALL]


class StoppedInTrial(Silent):
    """Stops the run, as Ctrl-C does, when the first trial begins."""

    def stage(self, name, total=None):
        if name.startswith("Trying head"):
            raise KeyboardInterrupt


@pytest.mark.slow
def test_a_run_stopped_after_finer_ones_were_taken_goes_on_to_the_same_end(
    curve, tmp_path, monkeypatch
):
    monkeypatch.setattr("kerastl.recipes.standing.WORTH", -10.0)
    monkeypatch.setattr("kerastl.recipes.search.ROUNDS", ((0,), (1,)))
    monkeypatch.setattr("kerastl.recipes.learn.CANDIDATES", {"head": 1.0})
    source, own = Drawn(1, 6), settings(augment="light")

    def run(folder, progress):
        model, data = training.begin(source, own, Silent())
        return learn(model, data, own, folder, progress, source)

    whole = run(tmp_path / "whole", Silent())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", StoppedInTrial())
    again = run(tmp_path / "stopped", Silent())
    assert again.plan == whole.plan
    assert again.plan.tried[0].startswith("probe, pictures of 16 pixels")
    pairs = zip(again.solved.model.get_weights(), whole.solved.model.get_weights(), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)
