"""`run_text_demo`: the comparison of the embedded encoder with other ways to learn of texts."""

import time
from typing import Any

import keras
import numpy as np

from kerastl import backbones
from kerastl._base import checks
from kerastl._base.types import PathLike
from kerastl.backbones.prose import authors, held_out_sentences, sentences
from kerastl.plans import strategies
from kerastl.recipes import training
from kerastl.recipes.demo_results import (
    PROBE,
    SCRATCH,
    DemoResult,
    FirstTransfer,
    accuracies,
)
from kerastl.recipes.run_folder import Progress, RunFolder, Silent, free_name
from kerastl.tasks import (
    Classification,
    PrepareTexts,
    TaskData,
    TextExamples,
    pooled,
    tf_idf,
)
from kerastl.tasks.settings import StrategySettings

TRANSFERRED = "fine-tuned from prose"
COUNTED = "TF-IDF and a logistic regression"
LABELS_PER_AUTHOR = 20
_EVALUATED_ON = "sentences that nothing was learnt from; the first seed's network"
LONGEST = 64  # ids of a sentence
EPOCHS = 12
BATCH_SIZE = 8
EVALUATED_AT_ONCE = 64  # sentences at once when nothing is trained
DROPOUT = 0.2
# Not tuned: the rate of texts that `tune` takes, and one for weights that begin anywhere.
TRANSFER_RATE = 1e-3  # of a head at zero; layers learn 3 to 30 times as slowly
SCRATCH_RATE = 1e-3  # of every layer
SCRATCH_EPOCHS = 24


def run_text_demo(
    out: PathLike | None = None,
    *,
    seeds: int = 3,
    labels_per_author: int = LABELS_PER_AUTHOR,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> DemoResult:
    """Transfer the embedded encoder to the question who wrote a sentence, beside other ways.

    These are a regression on the features of the network as it is, the same network from scratch,
    and TF-IDF with a logistic regression. Every seed labels other sentences and starts from other
    weights; all that are not labelled are held out. Nothing is downloaded.

    Args:
        out: Folder to write. None makes a new one under `saved_models/`.
        seeds: Int > 0, how many seeds.
        labels_per_author: Int > 0, labelled sentences of each of the two authors.
        progress: As in `run_demo`.
        overwrite: Boolean, whether an earlier run at `out` is replaced.

    Returns:
        `DemoResult`. The folder holds the transferred network of the first seed as `model.keras`,
        `labels.txt`, `task.json`, `config.json`, `plan.json`, `metrics.json` and
        `curves.png`. `metrics["comparison"]` is as in `run_demo`, with `differences`: what
        fine-tuning gains over each of the other ways, a dict of `tasks.Paired` each.

    Raises:
        ValueError, OSError: If `seeds` is no positive int or `out` cannot be written.

    Example:
        >>> result = run_text_demo(home / "texts", seeds=1)
        >>> accuracy = result.metrics["comparison"]["accuracy"]
        >>> accuracy[PROBE]["mean"] > accuracy[SCRATCH]["mean"]
        True
    """
    checks.whole(seeds, 1, 1000, "seeds")
    progress = progress or Silent()
    started = time.perf_counter()
    with RunFolder(out or free_name("saved_models", "demo-texts"), overwrite=overwrite) as run:
        progress.stage(f"Training on {2 * labels_per_author} sentences", None)
        first, comparison = _compare(seeds, labels_per_author, progress)
        progress.stage("Writing", None)
        _write(run, first, seeds, labels_per_author)
        metrics = {**first.metrics("sentences", _EVALUATED_ON), "comparison": comparison}
        metrics["seconds"] = round(time.perf_counter() - started, 1)
        run.write_json("metrics.json", metrics)
    return DemoResult(first.model, metrics, run.path)


def _compare(seeds, labels, progress):
    """The first seed's transfer, and every contestant's accuracy on every seed."""
    answers, truths, scores = [], [], {}
    first: Any = None
    for seed in range(seeds):
        data = _task_data(seed, labels)
        truth = data.test.targets
        model, plan, history, probed, tuned = _transferred(data, seed)
        progress.count(2 * seed + 1, 2 * seeds)
        rival: Any = tf_idf(data, seed=seed)
        found = {
            TRANSFERRED: tuned,
            PROBE: probed,
            SCRATCH: _outputs(_from_scratch(data, seed), data),
            COUNTED: rival.outputs,
        }
        progress.count(2 * seed + 2, 2 * seeds)
        for name, given in found.items():
            scores.setdefault(name, []).append(Classification().score(given, truth))
        answers.append(found)
        truths.append(truth)
        if first is None:
            first = FirstTransfer(model, plan, history, data, tuned)
    return first, _comparison(scores, answers, truths, labels)


def _task_data(seed, labels_per_author):
    """The sentences of a seed as a task has them."""
    train, labels, test, truth = sentences(seed, labels_per_author=labels_per_author)
    prepare = PrepareTexts.for_backbone("prosenet", LONGEST)
    known, held_out = (
        TextExamples([(one,) for one in texts], prepare.rows([(one,) for one in texts]), so, 2)
        for texts, so in ((train, labels), (test, truth))
    )
    none = held_out.at(np.arange(0))
    return TaskData(known, none, held_out, authors(), prepare, Classification())


def _settings(seed):
    return StrategySettings(
        backbone="prosenet",
        strategy="full",
        epochs=EPOCHS,
        learning_rate=TRANSFER_RATE,
        batch_size=BATCH_SIZE,
        augment="none",
        dropout=DROPOUT,
        seed=seed,
    )


def _transferred(data, seed):
    """`(model, plan, history, answers of the probe, answers)` of the tuned encoder.

    It begins with the regression on its features, as `tune` has it.
    """
    settings = _settings(seed)
    keras.utils.set_random_seed(seed)
    backbone = backbones.load("prosenet")
    model = training.build(backbone, data, dropout=DROPOUT, name="author")
    training.solve(model, data, settings)
    probed = _outputs(model, data)
    plan = training.plan_for(model, data, settings)
    history = training.train(model, data, settings, plan)
    return model, plan, history.history, probed, _outputs(model, data)


def _from_scratch(data, seed):
    """The same network from fresh weights: same sentences, twice the epochs, all at one rate."""
    keras.utils.set_random_seed(seed)
    backbone = backbones.load("prosenet", weights=None)
    model = training.build(backbone, data, dropout=DROPOUT, name="author")
    batches = data.train.batches(BATCH_SIZE, seed=seed)
    rate: Any = strategies.COSINE.over(SCRATCH_RATE, SCRATCH_EPOCHS * len(batches))
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=1e-4, global_clipnorm=1.0),
        "categorical_crossentropy",
    )
    model.fit(batches, epochs=SCRATCH_EPOCHS, shuffle=False, verbose=0)
    return model


def _outputs(model, data):
    return data.objective.outputs_of(model, data.test, EVALUATED_AT_ONCE)


def _comparison(scores, answers, truths, labels_per_author):
    held_out = [
        np.flatnonzero(held_out_sentences(seed, labels_per_author=labels_per_author))
        for seed in range(len(answers))
    ]
    differences = {}
    for name in (PROBE, SCRATCH, COUNTED):
        runs = [
            (found[TRANSFERRED], found[name], truth)
            for found, truth in zip(answers, truths, strict=True)
        ]
        differences[name] = pooled(Classification(), runs, held_out).to_dict()
    return {
        "num_labels": 2 * labels_per_author,
        "num_test": len(held_out[0]),
        "examples": "sentences",
        "accuracy": accuracies(scores),
        "difference": differences[PROBE],
        "differences": differences,
    }


def _write(run, first, seeds, labels_per_author):
    settings = {
        **_settings(0).to_dict(),
        "seeds": seeds,
        "labels_per_author": labels_per_author,
        "learning_rate_from_scratch": SCRATCH_RATE,
        "epochs_from_scratch": SCRATCH_EPOCHS,
    }
    first.write(run, settings, "prosenet to two authors")
