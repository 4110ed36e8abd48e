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
from kerastl.recipes.demo import INK, SCRATCH, TRANSFERRED


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


def test_the_transfer_wins(demo):
    accuracy = demo[0].metrics["comparison"]["accuracy"]
    assert accuracy[TRANSFERRED]["mean"] > accuracy[SCRATCH]["mean"] > accuracy[INK]["mean"]
    # Errors on held-out digits fall by a third at least; over three seeds they halve.
    assert 1 - accuracy[TRANSFERRED]["mean"] < (1 - accuracy[SCRATCH]["mean"]) * 2 / 3


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


def test_the_file_repeats_the_network(demo):
    result, _ = demo
    test = digits(0)[2][:8]
    lite = LiteRTModel(result.folder / "model.tflite")
    found = np.concatenate([lite.predict(image[None]) for image in test])
    expected = result.model.predict(test, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert result.metrics["tflite"]["agreement"] == 1.0


def test_the_run_folder_says_what_happened(demo):
    result, _ = demo
    config = json.loads((result.folder / "config.json").read_text())
    names = layer_groups(result.model).names
    assert list(config["multipliers"]) == list(names)
    thawed = [name for groups in config["schedule"].values() for name in groups]
    assert thawed == list(names)[::-1]  # from the head down to the stem
    assert (result.folder / "labels.txt").read_text().split() == list("0123456789")
    assert (result.folder / "curves.png").read_bytes()[:4] == b"\x89PNG"


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
