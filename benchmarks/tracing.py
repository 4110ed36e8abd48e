"""What a trace of the training step takes, and what a step: the constants of `plans/work.py`.

Networks with random weights are trained on made-up pictures with the head, the upper half of their
groups and all groups thawed. For each the table has seconds of the trace and of a step as measured,
and in brackets as `TrainingWork` counts them. Below it stand the constants that fit these best, in
relative error, none below zero. Seconds are those of the processor, which other programs disturb
less than those on the clock: a trace has one core, a step two.

    python benchmarks/tracing.py [--steps N] [--traces N]
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from scipy.optimize import nnls

from kerastl import FineTuner, freeze, unfreeze
from kerastl.backbones.glyphs import load_glyphnet
from kerastl.freezing.groups import layers_of
from kerastl.plans.work import GroupWork, TrainingWork, work_of

BATCH, CORES = 32, 2
APPLICATIONS = keras.applications
NETWORKS = {
    "MobileNet 0.25": (APPLICATIONS.MobileNet, {"alpha": 0.25}, (96, 160, 224)),
    "MobileNetV2 0.35": (APPLICATIONS.MobileNetV2, {"alpha": 0.35}, (96, 160)),
    "EfficientNetB0": (APPLICATIONS.EfficientNetB0, {}, (96,)),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=8, help="Steps of each, the first left out.")
    parser.add_argument("--traces", type=int, default=2, help="Traces of each.")
    options = parser.parse_args()
    rows = []
    print("| network | pixels | groups | operations | variables | trace | step |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, size, model in networks():
        work = work_of(model, model.groups)
        for groups in (1, len(model.groups) // 2, len(model.groups)):
            training = model.groups.names[-groups:]
            trace, step = measured(model, size, training, options)
            rows.append((columns(work, training), trace, step))
            said = TrainingWork(work, BATCH, BATCH, copies=0)
            _, above = rows[-1][0][0][1:3]
            print(
                f"| {name} | {size} | {groups} of {len(model.groups)} | {above} | "
                f"{rows[-1][0][0][3]} | {trace:.2f} s ({said.trace(training, 1):.2f}) | "
                f"{1000 * step:.0f} ms ({1000 * said.epochs(training, 1):.0f}) |",
                flush=True,
            )
    for what, index in (("TRACE", 0), ("STEP", 1)):
        matrix = np.array([row[0][index] for row in rows], float)
        wanted = np.array([row[1 + index] for row in rows])
        found, _ = nnls(matrix / wanted[:, None], np.ones(len(rows)))
        errors = matrix @ found / wanted - 1
        print(what, found, f"relative errors {np.round(errors, 2)}")


def networks():
    """Triples of a name, the pixels of a side and a compiled `FineTuner` with a head."""
    for name, (make, options, sizes) in NETWORKS.items():
        for size in sizes:
            yield (
                name,
                size,
                tuner(make(input_shape=(size, size, 3), include_top=False, weights=None,
                           pooling="avg", **options)),
            )  # fmt: skip
    yield "glyphnet", 32, tuner(load_glyphnet())


def tuner(backbone):
    hidden = keras.layers.Dropout(0.2)(backbone.output)
    outputs = keras.layers.Dense(5, activation="softmax", name="head")(hidden)
    return FineTuner.from_model(keras.Model(backbone.input, outputs))


def measured(model, size, training, options):
    """Median seconds of tracing a step in which the groups `training` train, and of a step."""
    rng = np.random.default_rng(0)
    count = BATCH * (1 + options.steps)
    data = rng.uniform(size=(count, size, size, 3)).astype("float32"), rng.integers(5, size=count)
    traces, steps = [], []
    for _ in range(options.traces):
        unfreeze(model, slice(None))
        frozen = [name for name in model.groups.names if name not in training]
        if frozen:
            freeze(model, layers_of(model.groups, frozen))
        model.compile(
            keras.optimizers.AdamW(1e-4, global_clipnorm=1.0, use_ema=True, ema_momentum=0.9),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        begun, ended = [], []
        told = keras.callbacks.LambdaCallback(
            on_train_batch_begin=lambda batch, logs, begun=begun: begun.append(time.process_time()),
            on_train_batch_end=lambda batch, logs, ended=ended: ended.append(time.process_time()),
        )
        model.fit(*data, batch_size=BATCH, callbacks=[told], verbose=0, cache_frozen=False)
        first, *later = np.subtract(ended, begun)
        traces.append(first - statistics.median(later))
        steps += later
    return statistics.median(traces), statistics.median(steps) / CORES


def columns(work, training):
    """What the constants of a trace and of a step are multiplied with."""
    below, above = parts(work, training)
    run = below + above + above + above
    learnt = sum(work[name].variables for name in training)
    return (
        (1, below.operations + above.operations, above.operations, learnt),
        (run.operations, BATCH * run.multiply_adds, BATCH * run.values),
    )


def parts(work, training):
    names = list(work)
    first = min(names.index(name) for name in training)
    works = list(work.values())
    return sum(works[:first], GroupWork()), sum(works[first:], GroupWork())


if __name__ == "__main__":
    main()
