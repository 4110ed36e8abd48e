"""`run_demo`: the comparison over several seeds, and the run folder."""

import dataclasses
import pathlib
import time

import keras
import numpy as np

from kerastl import _checks
from kerastl.demo import contestants
from kerastl.freezing import count_weights
from kerastl.glyphs import digits
from kerastl.report import draw_curves
from kerastl.tune import RunFolder
from kerastl.tune.device_file import write_device_file
from kerastl.tune.evaluation import evaluate_probabilities
from kerastl.tune.progress import Silent
from kerastl.tune.run_folder import free_name

LABELS_PER_CLASS = 10
CLASS_NAMES = tuple("0123456789")
TRANSFERRED = "fine-tuned from glyphs"
SCRATCH = "same network from scratch"
PIXELS = "logistic regression on pixels"
BATCH_SIZE = 500  # pictures at once when nothing is trained


@dataclasses.dataclass(frozen=True)
class DemoResult:
    """What a demo gave: the first seed's model, `metrics.json`, and the folder both lie in."""

    model: keras.Model
    metrics: dict
    folder: pathlib.Path


def run_demo(out=None, *, seeds=3, progress=None, overwrite=False):
    """Transfer the glyph network to handwritten digits and compare with training from scratch.

    Every seed labels other pictures, ten of each digit, and starts from other weights; all
    pictures that are not labelled are held out. Nothing is downloaded.

    Args:
        out: Folder to write. None makes a new one under `saved_models/`.
        seeds: Int > 0, how many seeds.
        progress: Object with `stage(name, total)` and `count(done, total)`, such as the command
            line's; None for silence.
        overwrite: Boolean, whether an earlier run at `out` is replaced.

    Returns:
        `DemoResult`. The folder holds the transferred network of the first seed as
        `model.keras` and `model.tflite`, `labels.txt`, `config.json`, `plan.json`,
        `metrics.json` and `curves.png`. `metrics["comparison"]["accuracy"]` maps each of the
        three ways to learn to its `mean`, `std` and `each` seed's accuracy.

    Raises:
        ValueError, OSError: If `seeds` is no positive int or `out` cannot be written.
    """
    _checks.whole(seeds, 1, 1000, "seeds")
    progress = progress or Silent()
    started = time.perf_counter()
    with RunFolder(out or free_name("saved_models", "demo"), overwrite=overwrite) as run:
        progress.stage(f"Training on {len(CLASS_NAMES) * LABELS_PER_CLASS} digits", None)
        first, scores = _compare(seeds, progress)
        metrics = {**first.metrics, "comparison": _comparison(scores, first)}
        progress.stage("Writing, exporting and checking", None)
        _write(run, first, seeds)
        metrics["tflite"] = write_device_file(run, first.model, first.test, CLASS_NAMES)
        metrics["seconds"] = round(time.perf_counter() - started, 1)
        run.write_json("metrics.json", metrics)
    return DemoResult(first.model, metrics, run.path)


@dataclasses.dataclass(frozen=True)
class _First:
    """What is kept of the first seed's transfer."""

    model: keras.Model
    plan: object
    history: dict
    metrics: dict
    test: np.ndarray


def _compare(seeds, progress):
    """The first seed's transfer, and every contestant's accuracy on every seed."""
    scores = {PIXELS: [], SCRATCH: [], TRANSFERRED: []}
    first = None
    for seed in range(seeds):
        train, labels, test, truth = digits(seed, labels_per_class=LABELS_PER_CLASS)
        epochs = [_epochs(progress, 2 * seed + i, 2 * seeds) for i in range(2)]
        model, *trained = contestants.transferred(train, labels, seed=seed, callbacks=epochs[:1])
        metrics = _evaluate(model, test, truth)
        scores[TRANSFERRED].append(metrics["accuracy"])
        first = first or _First(model, *trained, metrics, test)
        scratch = contestants.from_scratch(train, labels, seed=seed, callbacks=epochs[1:])
        scores[SCRATCH].append(_evaluate(scratch, test, truth)["accuracy"])
        pixels = contestants.on_pixels(train, labels)
        scores[PIXELS].append(float(pixels.score(contestants.flat_pixels(test), truth)))
    return first, scores


def _epochs(progress, done, total):
    """A callback that counts epochs over `total` trainings, `done` of them finished before."""
    epochs = contestants.EPOCHS
    return keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: progress.count(done * epochs + epoch + 1, total * epochs)
    )


def _evaluate(model, test, truth):
    probabilities = model.predict(test, batch_size=BATCH_SIZE, verbose=0)
    return {
        **evaluate_probabilities(probabilities, truth, CLASS_NAMES),
        "evaluated_on": "handwritten digits that training never saw; the first seed's network",
        "num_train": len(CLASS_NAMES) * LABELS_PER_CLASS,
        "num_skipped": 0,
        "num_weights": count_weights(model),
        "seed": 0,
    }


def _comparison(scores, first):
    return {
        "num_labels": first.metrics["num_train"],
        "num_test": len(first.test),
        "accuracy": {
            name: {"mean": float(np.mean(each)), "std": float(np.std(each)), "each": each}
            for name, each in scores.items()
        },
    }


def _write(run, first, seeds):
    first.model.save(run.file("model.keras"))
    run.write_lines("labels.txt", CLASS_NAMES)
    first.plan.save(run.file("plan.json"))
    thaws = first.plan.resolve(first.model.groups).thaws
    settings = {
        "backbone": "glyphnet",
        "seeds": seeds,
        "labels_per_class": LABELS_PER_CLASS,
        "epochs": contestants.EPOCHS,
        "batch_size": contestants.BATCH_SIZE,
        "shift": contestants.SHIFT,
        "learning_rate": contestants.TRANSFER_RATE,
        "learning_rate_from_scratch": contestants.SCRATCH_RATE,
        "schedule": thaws,
        "multipliers": first.plan.phases[-1].multipliers,
        "history": first.history,
    }
    run.write_json("config.json", settings)
    draw_curves(
        first.history,
        run.file("curves.png"),
        thaws=thaws,
        title=f"glyphnet to handwritten digits, {first.metrics['num_train']} labels, first seed",
    )
