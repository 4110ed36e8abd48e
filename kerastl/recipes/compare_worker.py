"""`python -m kerastl.recipes.compare_worker`: a job on standard input, JSON lines on output."""

import dataclasses
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def main() -> None:
    """Do the job and tell of it; what the libraries print goes to standard error."""
    tell = _tell_on(os.fdopen(os.dup(1), "w"))
    os.dup2(2, 1)
    job = json.load(sys.stdin)
    try:
        row, answers = run(job, lambda done: tell(done=done))
        np.savez(job["answers"], outputs=answers["outputs"], targets=answers["targets"])
        tell(row=row)
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        tell(error=" ".join(str(error).split()))


def run(
    job: Mapping[str, Any], count: Callable[[int], object]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Train once a seed; return the strategy's row, and what its models gave.

    Args:
        job: Dict with `data`, `settings` of `TuneSettings` and `seeds`.
        count: Called with the number of seeds that are done.

    Returns:
        The row, and a dict with `outputs` for the examples held out, of shape `(seeds, n, ...)`,
        and their `targets`, `(n, ...)`.
    """
    from kerastl.tasks import find_source
    from kerastl.tasks.settings import TuneSettings

    settings = TuneSettings(**job["settings"])
    source = find_source(job["data"])
    prepare = source.prepare_for(source.load_backbone(settings), settings)
    read = source.read(prepare, settings, seed=settings.seed)
    examples = dataclasses.replace(read, objective=read.objective.by(settings.metric))
    examples.objective.check_data(examples)
    scores, seconds, outputs = [], [], []
    for i in range(job["seeds"]):
        one = dataclasses.replace(settings, seed=settings.seed + i)
        model, spent = _train(one, source, examples)
        seconds.append(spent)
        given = examples.objective.outputs_of(model, examples.test, one.batch_size)
        outputs.append(given)
        scores.append(examples.objective.score(outputs[-1], examples.test.targets))
        count(i + 1)
    row = {
        "strategy": settings.strategy,
        **_sizes(model),
        "seconds": float(np.mean(seconds)),
        "score": {
            "mean": float(np.mean(scores)),
            "std": float(np.std(scores)),
            "each": scores,
        },
        "num_test": len(examples.test),
        "peak_memory": _peak_memory(),
    }
    return row, {"outputs": np.stack(outputs), "targets": examples.test.targets}


def _train(settings, source, examples):
    import keras

    from kerastl.freezing import freeze, freeze_to
    from kerastl.recipes import adapting, training

    keras.utils.set_random_seed(settings.seed)
    backbone = source.load_backbone(settings)
    model = training.build(backbone, examples, dropout=settings.dropout, name=settings.strategy)
    started = time.perf_counter()
    training.adapt(model, examples, settings)
    if settings.strategy == "probe" and not examples.objective.solves:
        freeze(model, slice(None))  # as it was loaded
        return model, time.perf_counter() - started
    if settings.strategy == "probe":
        freeze_to(model, -1)
        training.solve(model, examples, settings, augmented_copies=training.views_of(settings))
    else:
        plan = training.plan_for(model, examples, settings)
        adapting.add_for(model, plan, settings.seed)
        training.train(model, examples, settings, plan)
    return model, time.perf_counter() - started


def _sizes(model):
    """How much of `model` is frozen, in layers that have weights and in weights."""
    from kerastl.graph.flags import all_leaves, count_weights, is_frozen

    layers = [layer for layer in all_leaves(model) if layer.weights]
    return {
        "frozen_layers": sum(is_frozen(layer) for layer in layers),
        "layers": len(layers),
        "trainable_weights": int(sum(np.prod(v.shape) for v in model.trainable_variables)),
        "weights": count_weights(model),
    }


def _peak_memory():
    """Most memory this process has held, in bytes; on a GPU, most of its memory."""
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024


def _tell_on(stream):
    def tell(**message):
        stream.write(json.dumps(message) + "\n")
        stream.flush()

    return tell


if __name__ == "__main__":
    main()
