"""`run_demo`: the transfer beats training from scratch, and the run folder works."""

import json

import keras
import numpy as np
import pytest

from kerastl.backbones.glyphs import digits
from kerastl.export import LiteRTModel
from kerastl.graph import layer_groups
from kerastl.recipes import demo as contestants
from kerastl.recipes import run_demo
from kerastl.recipes.demo import INK, TRANSFERRED
from kerastl.recipes.demo_results import PROBE, SCRATCH
from kerastl.tasks import Paired
from kerastl_cli.output import contestants_table


class Counter:
    """A progress that remembers."""

    def __init__(self):
        self.stages, self.counts = [], []

    def stage(self, name, total=None):
        self.stages.append(name)

    def count(self, done, total):
        self.counts.append((done, total))


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    counter = Counter()
    return run_demo(tmp_path_factory.mktemp("demo") / "run", seeds=1, progress=counter), counter


@pytest.mark.slow
def test_the_transfer_wins(demo):
    accuracy = demo[0].metrics["comparison"]["accuracy"]
    assert accuracy[TRANSFERRED]["mean"] > accuracy[SCRATCH]["mean"] > accuracy[INK]["mean"]
    # Errors on held-out digits fall by a third at least; over three seeds they halve.
    assert 1 - accuracy[TRANSFERRED]["mean"] < (1 - accuracy[SCRATCH]["mean"]) * 2 / 3


@pytest.mark.slow
def test_the_demo_says_what_transfer_adds_over_its_frozen_features(demo, capsys):
    comparison = demo[0].metrics["comparison"]
    accuracy, told = comparison["accuracy"], Paired(**comparison["difference"])
    assert accuracy[PROBE]["mean"] > accuracy[SCRATCH]["mean"]  # the pretraining shows
    gap = accuracy[TRANSFERRED]["mean"] - accuracy[PROBE]["mean"]
    assert told.difference == pytest.approx(gap) and told.low < gap < told.high
    assert (told.gained - told.lost) / 1_697 == pytest.approx(gap)
    assert told.num_examples == 1_697
    contestants_table(comparison, 1)
    printed = " ".join(capsys.readouterr().out.split())
    assert f"{told.gained} gained and {told.lost} lost over 1 seed." in printed
    assert ("fine-tuning adds nothing that shows" in printed) != told.resolves


@pytest.mark.parametrize("low, high, words", [
    (0.001, 0.005, "fine-tuning adds accuracy: +0.3 points (+0.1 to +0.5, 95 % interval)"),
    (-0.005, -0.001, "fine-tuning loses accuracy: -0.3 points"),
    (-0.001, 0.007, "fine-tuning adds nothing that shows on these digits: +0.3 points"),
])  # fmt: skip
def test_what_transfer_adds_is_one_sentence(low, high, words, capsys):
    told = Paired((low + high) / 2, low, high, 40, 20, 0.01, 1_797).to_dict()
    contestants_table({"num_labels": 1, "num_test": 1, "accuracy": {}, "difference": told}, 3)
    printed = " ".join(capsys.readouterr().out.split())
    assert words in printed and "40 gained and 20 lost over 3 seeds." in printed


def test_over_seeds_a_digit_is_itself():
    """Two seeds hold out 1,697 digits each; a digit that both hold out is one example."""
    answers = []
    for seed in range(2):
        truth = digits(seed)[3]
        wrong = np.eye(10)[(truth + 1) % 10]
        wrong[:5] = np.eye(10)[truth[:5]]
        answers.append((np.eye(10)[truth], wrong, truth))
    told = contestants._comparison({}, answers)["difference"]
    assert told["gained"] == 2 * (1_697 - 5) and told["lost"] == 0
    assert 1_697 < told["num_examples"] <= 1_797


@pytest.mark.slow
def test_metrics_are_those_of_the_saved_network(demo):
    result, _ = demo
    metrics = json.loads((result.folder / "metrics.json").read_text())
    assert metrics == result.metrics
    _, _, test, truth = digits(0)
    saved = keras.models.load_model(result.folder / "model.keras")
    right = saved.predict(test, batch_size=500, verbose=0).argmax(axis=1) == truth
    assert right.mean() == metrics["accuracy"]
    assert metrics["comparison"]["accuracy"][TRANSFERRED]["each"] == [metrics["accuracy"]]
    assert metrics["comparison"]["num_test"] == metrics["num_examples"] == 1_697


@pytest.mark.slow
def test_the_file_repeats_the_network(demo):
    result, _ = demo
    test = digits(0)[2][:8]
    lite = LiteRTModel(result.folder / "model.tflite")
    found = np.concatenate([lite.predict(image[None]) for image in test])
    expected = result.model.predict(test, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert result.metrics["tflite"]["agreement"] == 1.0


@pytest.mark.slow
def test_the_run_folder_says_what_happened(demo):
    result, _ = demo
    config = json.loads((result.folder / "config.json").read_text())
    names = layer_groups(result.model).names
    assert list(config["multipliers"]) == list(names)
    thawed = [name for groups in config["schedule"].values() for name in groups]
    assert thawed == list(names)[::-1]  # from the head down to the stem
    assert (result.folder / "labels.txt").read_text().split() == list("0123456789")
    assert (result.folder / "curves.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_progress_reaches_its_end(demo):
    _, counter = demo
    total = 2 * contestants.EPOCHS
    assert counter.counts == [(done, total) for done in range(1, total + 1)]
    assert len(counter.stages) == 2


@pytest.mark.parametrize("seeds", [0, 1.5])
def test_seeds_must_be_positive_ints(seeds, tmp_path):
    with pytest.raises((ValueError, TypeError), match="Received: seeds"):
        run_demo(tmp_path / "run", seeds=seeds)
    assert list(tmp_path.iterdir()) == []
