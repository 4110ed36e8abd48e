"""Strategies side by side: the table, what it measures, and what is refused."""

import json

import pytest

from kerastl.recipes import compare_worker
from kerastl.recipes.compare import as_markdown, cells, header
from kerastl.report import draw_comparison
from kerastl.tasks import Classification
from kerastl_cli.main import run
from tests.recipes.test_tune import write_pictures

FAST = {"backbone": "glyphnet", "epochs": 1, "batch_size": 8, "augment": "none"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("compare") / "glyphs", classes=2, each=10)


def test_a_worker_trains_once_a_seed_and_measures(data):
    counts = []
    job = {"data": str(data), "settings": {**FAST, "strategy": "head"}, "seeds": 2}
    head = compare_worker.run(job, counts.append)
    assert counts == [1, 2] and len(head["score"]["each"]) == 2
    assert head["frozen_layers"] == head["layers"] - 1  # all but the new head
    assert 0 < head["trainable_weights"] < head["weights"] / 10
    assert head["seconds"] > 0 and head["peak_memory"] > 1e7 and head["num_test"] == 4
    job.update(settings={**FAST, "epochs": 2, "strategy": "full"}, seeds=1)
    full = compare_worker.run(job, counts.append)
    assert full["frozen_layers"] == 0 and full["trainable_weights"] > head["trainable_weights"]


def test_the_command_writes_table_and_picture(data, tmp_path, capfd):
    options = [item for name, value in FAST.items() for item in (f"--{name}", str(value))]
    options = [option.replace("_", "-") for option in options]
    out = tmp_path / "comparison"
    code = run(["compare", str(data), "--strategies", "head", "--out", str(out), *options])
    assert code == 0
    printed = capfd.readouterr().out
    assert (
        all(name.split()[0] in printed for name in header(Classification())) and "head" in printed
    )
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["rows"][0]["strategy"] == "head" and metrics["seeds"] == 2
    assert (out / "comparison.md").read_text().count("\n") == 3
    assert (out / "comparison.png").stat().st_size > 5000


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


def test_table_and_picture(tmp_path):
    row = {
        "strategy": "head", "frozen_layers": 3, "layers": 4, "trainable_weights": 12_345,
        "seconds": 1.0, "peak_memory": 2e9, "score": {"mean": 0.5, "std": 0.1, "each": [0.5]},
    }  # fmt: skip
    assert cells(row, Classification())[4] == "50.0 %"  # one seed has no spread
    assert (
        as_markdown([row], Classification())
        .splitlines()[2]
        .startswith("| head | 3 of 4 | 12,345 |")
    )
    draw_comparison([row], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 5000
