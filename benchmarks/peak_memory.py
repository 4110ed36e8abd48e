"""Peak memory of one epoch with the lower half frozen: FineTuner over plain Keras.

Each run is a process of its own: it builds the network, freezes the lower half of its layers,
compiles AdamW, notes how much memory it holds, fits one epoch and asks the system for the peak
since it started. Plain Keras sets `layer.trainable = False`; FineTuner freezes the same layers and
gives its groups rates that fall towards the input. Keras makes the optimizer's slots while it
traces the first step, and so traces it twice; FineTuner does not. "Built first" is plain Keras
spared that too. Told are the peak above what was held before the optimizer was built, which is
what training costs, and the peak of the whole process, medians of several runs in turn. It does
not depend on what else the machine does. Linux only: it reads /proc.

    python benchmarks/peak_memory.py [--runs N]
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

NETWORKS = {"mobilenet": "MobileNetV2, 96 px, batch 16", "bert": "BERT 4 x 128, batch 16"}
KINDS = ("plain Keras", "built first", "FineTuner")
NUM_EXAMPLES, BATCH_SIZE = 128, 16


def child(network, kind):
    """One run; prints its megabytes as JSON."""
    import keras
    import models

    keras.utils.set_random_seed(0)
    model, inputs, labels = getattr(models, network)(NUM_EXAMPLES)
    lower = model.layers[: len(model.layers) // 2]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.AdamW(1e-4, weight_decay=0.01)
    if kind == "FineTuner":
        model = with_fine_tuner(model, lower, optimizer, loss)
    else:
        for layer in lower:
            layer.trainable = False
        model.compile(optimizer, loss)
    held = resident()
    if kind == "built first":
        model.optimizer.build(model.trainable_variables)
    model.fit(inputs, labels, batch_size=BATCH_SIZE, verbose=0)
    trained = sum(keras.ops.size(v) for v in model.trainable_variables)
    print(json.dumps({"training": peak() - held, "process": peak(), "trained": int(trained)}))


def with_fine_tuner(model, lower, optimizer, loss):
    """The same with kerastl, which only this process imports."""
    from kerastl.freezing import freeze
    from kerastl.optimizers import layer_decay
    from kerastl.training import FineTuner

    tuner = FineTuner.from_model(model)
    freeze(tuner, lower)
    tuner.compile(optimizer, loss, multipliers=layer_decay(tuner.groups, 0.75))
    return tuner


def resident():
    """Megabytes that this process holds now."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def peak():
    """The most megabytes that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def measure(network, runs):
    """For each kind, the list of its runs; the kinds take turns."""
    found = {kind: [] for kind in KINDS}
    for _ in range(runs):
        for kind in KINDS:
            command = [sys.executable, __file__, "--child", network, kind]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found[kind].append(json.loads(done.stdout.splitlines()[-1]))
    return found


def report(title, found):
    """Print medians, ranges and the ratio."""
    trained = {run["trained"] for runs in found.values() for run in runs}
    print(f"\n{title}: {trained.pop():,} weights train")
    assert not trained, "both must train the same weights"
    for name, key in (("of training", "training"), ("of the process", "process")):
        values = {kind: [run[key] for run in runs] for kind, runs in found.items()}
        for kind, megabytes in values.items():
            print(
                f"  peak {name:<15} {kind:<12} {statistics.median(megabytes):7.1f} MB"
                f"  ({min(megabytes):.1f} to {max(megabytes):.1f})"
            )
        *others, ours = (statistics.median(values[kind]) for kind in KINDS)
        for kind, other in zip(KINDS, others, strict=False):
            print(f"  peak {name:<15} FineTuner / {kind:<12} {ours / other:.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--child", nargs=2, metavar=("NETWORK", "KIND"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child)
        return
    for network, title in NETWORKS.items():
        report(title, measure(network, arguments.runs))
    print("\nbar: <= 1.00")


if __name__ == "__main__":
    main()
