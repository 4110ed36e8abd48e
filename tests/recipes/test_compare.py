"""Strategies side by side: the table, what it measures, and what is refused."""

import json

import keras
import numpy as np
import pytest

from kerastl.recipes import compare_worker, fine_tune, training
from kerastl.recipes.compare import as_markdown, cells, header
from kerastl.report import draw_comparison
from kerastl.tasks import Classification, Paired, Regression, find_source
from kerastl.tasks.settings import CompareSettings, TuneSettings
from kerastl.training import solve_head
from kerastl_cli.main import run
from tests.recipes.test_tune import write_pictures

FAST = {"backbone": "glyphnet", "epochs": 1, "batch_size": 8, "augment": "none"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("compare") / "glyphs", classes=2, each=10)


def job_for(data, strategy, seeds, **settings):
    """What a worker is told."""
    return {
        "data": str(data),
        "settings": {**FAST, **settings, "strategy": strategy},
        "seeds": seeds,
    }


def test_a_worker_trains_once_a_seed_and_measures(data):
    counts = []
    head, answers = compare_worker.run(job_for(data, "head", 2), counts.append)
    assert counts == [1, 2] and len(head["score"]["each"]) == 2
    assert head["frozen_layers"] == head["layers"] - 1  # all but the new head
    assert 0 < head["trainable_weights"] < head["weights"] / 10
    assert head["seconds"] > 0 and head["peak_memory"] > 1e7 and head["num_test"] == 4
    right = answers["outputs"].argmax(axis=2) == answers["targets"]
    assert answers["outputs"].shape == (2, 4, 2) and answers["targets"].shape == (4,)
    assert right.mean(axis=1).tolist() == head["score"]["each"]
    full, _ = compare_worker.run(job_for(data, "full", 1, epochs=2), counts.append)
    assert full["frozen_layers"] == 0 and full["trainable_weights"] > head["trainable_weights"]


def test_a_worker_solves_the_probe_and_trains_nothing(data):
    """The head equals `solve_head` on the same network; the seed draws nothing but the folds."""
    probe, answers = compare_worker.run(job_for(data, "probe", 1), print)
    assert probe["strategy"] == "probe" and probe["frozen_layers"] == probe["layers"] - 1
    settings = TuneSettings(**FAST, strategy="head")
    source = find_source(data)
    backbone = source.load_backbone(settings)
    prepare = source.prepare_for(backbone, settings)
    read = source.read(prepare, settings, seed=settings.seed)
    model = training.build(backbone, read, dropout=settings.dropout, name="probe")
    solve_head(model, read.train.inputs(), read.train.targets)
    expected = model.predict(read.test.inputs(), verbose=0)
    np.testing.assert_allclose(answers["outputs"][0], expected, rtol=1e-3, atol=1e-4)


def test_the_probe_tries_the_augmented_views_that_tune_tries(data, tmp_path, monkeypatch):
    asked, solve = [], training.solve

    def spied(model, examples, settings, **options):
        asked.append(options["augmented_copies"])
        return solve(model, examples, settings, **options)

    monkeypatch.setattr(training, "solve", spied)
    settings = {**FAST, "augment": "light"}
    _, answers = compare_worker.run(job_for(data, "probe", 1, augment="light"), print)
    fine_tune(data, tmp_path / "run", **settings, strategy="probe", export="none")
    assert asked == [training.VIEWS, training.VIEWS]
    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    read = find_source(data)
    own = TuneSettings(**settings)
    held = read.read(read.prepare_for(read.load_backbone(own), own), own, seed=0).test
    expected = model.predict(held.inputs(), verbose=0)
    np.testing.assert_allclose(answers["outputs"][0], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_the_command_writes_table_and_picture(data, tmp_path, capfd):
    options = [item for name, value in FAST.items() for item in (f"--{name}", str(value))]
    options = [option.replace("_", "-") for option in options]
    out = tmp_path / "comparison"
    code = run(["compare", str(data), "--strategies", "head,probe", "--out", str(out), *options])
    assert code == 0
    printed = capfd.readouterr().out
    assert (
        all(name.split()[0] in printed for name in header(Classification())) and "head" in printed
    )
    metrics = json.loads((out / "metrics.json").read_text())
    assert [row["strategy"] for row in metrics["rows"]] == ["probe", "head"]
    probe, head = metrics["rows"]
    difference = Paired(**head["difference"])
    assert metrics["seeds"] == 2 and probe["difference"] is None
    gap = head["score"]["mean"] - probe["score"]["mean"]
    assert difference.difference == pytest.approx(gap) and difference.num_examples == 4
    assert (difference.gained - difference.lost) / 8 == pytest.approx(gap)  # 4, twice
    table = (out / "comparison.md").read_text()
    assert table.count("\n") == 4 and "points over the probe" in table
    assert cells(head, Classification())[5] in table
    assert (out / "comparison.png").stat().st_size > 5000
    assert not list(out.rglob("*.npz"))


def test_what_a_worker_finds_unusable_is_one_line(data, tmp_path, capfd):
    options = ["--backbone", "glyphnett", "--strategies", "head", "--out", str(tmp_path / "x")]
    assert run(["compare", str(data), *options]) == 2
    assert "glyphnet" in capfd.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--strategies", "heads"], "head"),
        (["--strategies", "head,head"], "none twice"),
        (["--seeds", "0"], "seeds"),
    ],
)
def test_wrong_options_are_refused_before_anything_starts(data, options, message, capfd):
    assert run(["compare", str(data), "--backbone", "glyphnet", *options]) == 2
    assert message in capfd.readouterr().err


def test_the_probe_needs_no_start_of_its_own():
    """A head that starts at nothing is for the others."""
    settings = CompareSettings(strategies="head", start="zero")
    assert settings.for_strategy("probe").start == "probe"
    assert settings.for_strategy("head").start == "zero"


def test_table_and_picture(tmp_path):
    row = {
        "strategy": "head", "frozen_layers": 3, "layers": 4, "trainable_weights": 12_345,
        "seconds": 1.0, "peak_memory": 2e9, "score": {"mean": 0.5, "std": 0.1, "each": [0.5]},
        "difference": None,
    }  # fmt: skip
    assert cells(row, Classification())[4] == "50.0 %"  # one seed has no spread
    assert (
        as_markdown([row], Classification())
        .splitlines()[2]
        .startswith("| head | 3 of 4 | 12,345 |")
    )
    better = Paired(0.05, 0.01, 0.09, 12, 2, 0.013, 200)
    full = {**row, "strategy": "full", "difference": better.to_dict()}
    assert cells(full, Classification())[5:7] == ("+5.0 (+1.0 to +9.0)", "yes: +12 -2")
    number = {**full, "difference": {**full["difference"], "p": None, "low": -0.1}}
    assert cells(number, Regression())[5:7] == ("+0.050 (-0.100 to +0.090)", "no")
    for name, rows in (("alone", [row]), ("beside", [row, full])):
        draw_comparison(rows, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
