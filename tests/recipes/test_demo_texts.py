"""`run_text_demo`: what it compares, that its figures are its answers', and that its run works."""

import json

import numpy as np
import pytest

from kerastl.backbones.prose import sentences
from kerastl.recipes import demo_texts, predict
from kerastl.recipes.demo_results import PROBE, SCRATCH
from kerastl.recipes.demo_texts import COUNTED, TRANSFERRED, run_text_demo
from kerastl.tasks import Paired
from kerastl_cli.output import contestants_table


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setattr(demo_texts, "EPOCHS", 2)
    patch.setattr(demo_texts, "SCRATCH_EPOCHS", 2)
    yield run_text_demo(tmp_path_factory.mktemp("demo") / "run", seeds=1)
    patch.undo()


@pytest.mark.slow
def test_pretraining_shows_on_sentences_that_it_never_saw(demo):
    accuracy = demo.metrics["comparison"]["accuracy"]
    assert list(accuracy) == [TRANSFERRED, PROBE, SCRATCH, COUNTED]
    assert accuracy[PROBE]["mean"] > 0.9 > accuracy[SCRATCH]["mean"]


@pytest.mark.slow
def test_each_difference_is_that_of_the_accuracies(demo):
    comparison = demo.metrics["comparison"]
    accuracy, num_test = comparison["accuracy"], comparison["num_test"]
    assert num_test == len(sentences(seed=0)[2])
    for name, told in comparison["differences"].items():
        gap = accuracy[TRANSFERRED]["mean"] - accuracy[name]["mean"]
        found = Paired(**told)
        assert found.difference == pytest.approx(gap) and found.low <= gap <= found.high
        assert (found.gained - found.lost) / num_test == pytest.approx(gap)
    assert comparison["difference"] == comparison["differences"][PROBE]


@pytest.mark.slow
def test_the_tables_name_every_way_with_its_interval(demo, capsys):
    contestants_table(demo.metrics["comparison"], 1)
    printed = " ".join(capsys.readouterr().out.split())
    assert "40 labelled sentences, 1 seed, " in printed and "± 0.0" not in printed
    mean = f"{demo.metrics['comparison']['accuracy'][COUNTED]['mean']:.1%}".replace("%", " %")
    assert f"{COUNTED} {mean} - {mean}" in printed
    for name in (TRANSFERRED, PROBE, SCRATCH, COUNTED):
        assert name in printed
    told = Paired(**demo.metrics["comparison"]["differences"][COUNTED])
    assert f"{told.text(is_share=True)} {told.gained} {told.lost}" in printed


@pytest.mark.slow
def test_the_run_reads_new_sentences(demo, tmp_path):
    lines = tmp_path / "lines.txt"
    lines.write_text(
        "I was glad of it: I never liked long walks, Mrs. Reed.\n"
        "Variation under domestication is a slow process of natural selection.\n"
    )
    first, second = predict(demo.folder, lines)
    assert (first["top"][0]["label"], second["top"][0]["label"]) == ("bronte", "darwin")
    assert json.loads((demo.folder / "config.json").read_text())["labels_per_author"] == 20
    answers = demo.model.predict(demo_texts._task_data(0, 20).test.inputs(range(8)), verbose=0)
    np.testing.assert_allclose(answers.sum(axis=1), 1, rtol=1e-5)


def test_seeds_are_a_positive_number(tmp_path):
    with pytest.raises(ValueError, match="`seeds`"):
        run_text_demo(tmp_path / "run", seeds=0)
    assert not list(tmp_path.iterdir())
