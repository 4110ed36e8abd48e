"""A causal network goes on learning to write texts without labels, and then learns of labels."""

import json

import numpy as np
import pytest

from kerastl import backbones, fine_tune
from kerastl.backbones import load_causal, next_token_lm
from kerastl.recipes import training
from kerastl.recipes.run_folder import Silent
from kerastl.tasks import find_source
from kerastl.tasks.settings import TuneSettings
from tests.tasks.lines_cases import network, prose
from tests.tolerances import REDUCTION


@pytest.fixture(scope="module", params=["GPT2", "Llama"])
def home(request, tmp_path_factory):
    """A network of one block; a table of two labels; 40 lines, each different."""
    home = tmp_path_factory.mktemp(request.param)
    network(home / "network", request.param, num_layers=1)
    words = prose(1600).split()
    lines = [" ".join(words[i : i + 9 + i % 7]) for i in range(0, 400, 10)]
    (home / "lines.txt").write_text("".join(f"{line} {i}\n" for i, line in enumerate(lines)))
    rows = [f"{' '.join(words[i : i + 5])}\t{'ab'[i % 2]}\n" for i in range(800, 848)]
    (home / "table.tsv").write_text("text\tlabel\n" + "".join(rows))
    return home


def options(home, **given):
    return {
        "backbone": str(home / "network"),
        "strategy": "probe",
        "export": "none",
        "unlabelled": str(home / "lines.txt"),
        "unlabelled_epochs": 4,
        **given,
    }


def test_the_head_is_that_of_the_language_model(home):
    model = backbones.load(str(home / "network"), pooling="avg")
    tokens = backbones.load_tokens(str(home / "network"))
    inputs = tokens.pack(tokens.ids(["a cat sat", "the fox"]), 12)
    sequence = backbones.load(str(home / "network"), pooling=None)
    ours = next_token_lm(sequence, sequence.output)(inputs)
    theirs = load_causal(str(home / "network")).model(inputs)
    np.testing.assert_allclose(ours, theirs, **REDUCTION)
    assert model.output_shape[-1] == sequence.output_shape[-1]


@pytest.mark.slow_but("Llama")
def test_it_writes_the_lines_better_and_then_learns_of_labels(home):
    run = fine_tune(home / "table.tsv", home / "run", **options(home))
    told = run.metrics["unlabelled"]
    assert (told["what"], told["num_examples"], told["num_held_out"]) == ("the next pieces", 38, 2)
    assert told["loss_after"] < told["loss_before"]
    source = find_source(home / "table.tsv")
    settings = source.settled(TuneSettings(**options(home)))
    model, data = training.begin(source, settings, Silent())
    given = source.unlabelled(model, data, settings)
    total = count = 0.0
    for inputs, targets, weights in given.held_out.epoch(0):
        logits = np.asarray(load_causal(str(home / "network")).model(inputs), "float64")
        logits -= logits.max(axis=-1, keepdims=True)
        sums = np.log(np.exp(logits).sum(axis=-1))
        picked = np.take_along_axis(logits, np.asarray(targets)[..., None], axis=-1)[..., 0]
        total += ((sums - picked) * np.asarray(weights)).sum()
        count += np.asarray(weights).sum()
    assert told["loss_before"] == pytest.approx(total / count, rel=1e-5)
    assert json.loads((run.folder / "task.json").read_text())["objective"] == "classification"
