"""What a rate per layer group costs: ratios of step times, measured in one run.

Four optimizers take the same training step of the same model in turn, in interleaved rounds so
that a drift of the machine meets all alike: plain AdamW, LRMultiplier around it with 8 distinct
multipliers, the same with `fused=True`, and keras.optimizers.MultiOptimizer with 8 groups. A
fifth, plain AdamW once more, tells how far apart two equal steps come out. Each is traced several
times, because one trace of a graph may be a few per cent faster than the next for no reason but
where its memory lies; the ratio is that of the means over traces of the median step, and its
interval draws the traces again. Both the time on the clock and the processor time of this process
are told; other programs disturb the second less. The number of operations in the update's graph is
exact.

    python benchmarks/step_overhead.py [--rounds N] [--traces N] [--threads N]
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from models import bert, mobilenet

from kerastl.optimizers import LRMultiplier

NUM_GROUPS = 8


def groups_of(variables):
    """Variable path to one of 8 groups, in contiguous runs from input to head."""
    return {v.path: i * NUM_GROUPS // len(variables) for i, v in enumerate(variables)}


def make_optimizers(variables):
    """Those that are compared, each built on `variables`."""
    group, rate = groups_of(variables), 1e-5
    multipliers = [0.75 ** (NUM_GROUPS - 1 - i) for i in range(NUM_GROUPS)]

    def adamw(multiplier=1.0):
        return keras.optimizers.AdamW(rate * multiplier, weight_decay=0.01)

    several = [adamw(multiplier) for multiplier in multipliers]
    keys = {path: multipliers[i] for path, i in group.items()}
    made = {
        "plain": adamw(),
        "LRMultiplier": LRMultiplier(adamw(), keys),
        "fused": LRMultiplier(adamw(), keys, fused=True),
        "MultiOptimizer": keras.optimizers.MultiOptimizer(lambda v: several[group[v.path]]),
    }
    made["plain again"] = adamw()
    for optimizer in made.values():
        optimizer.build(variables)
    return made


def make_step(model, optimizer, inputs, labels):
    """A compiled training step, forward, backward and update, on one fixed batch."""
    loss_function = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    inputs = keras.tree.map_structure(tf.constant, inputs)
    labels = tf.constant(labels)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = loss_function(labels, model(inputs, training=True))
        gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    return step


def make_update(model, optimizer):
    """A compiled update alone, on fixed gradients: the part in which they differ."""
    gradients = [tf.ones(v.shape) * 1e-3 for v in model.trainable_variables]

    @tf.function
    def update():
        optimizer.apply(gradients, model.trainable_variables)
        return optimizer.iterations + 0

    return update


def measure(functions, rounds, calls):
    """Seconds per call on the clock and on the processor, interleaved.

    Args:
        functions: List over traces of lists over contestants.
        rounds: Int, times each is measured.
        calls: Int, calls in a measurement.

    Returns:
        Array of shape `(2, contestants, traces)`: medians over the rounds.
    """
    traces, contestants = len(functions), len(functions[0])
    flat = [function for trace in functions for function in trace]
    for function in flat:
        for _ in range(3):
            function().numpy()
    seconds = np.zeros((2, rounds, len(flat)))
    rng = np.random.default_rng(0)
    for one_round in range(rounds):
        for column in rng.permutation(len(flat)):
            start = np.array([time.perf_counter(), time.process_time()])
            for _ in range(calls):
                flat[column]().numpy()
            end = np.array([time.perf_counter(), time.process_time()])
            seconds[:, one_round, column] = (end - start) / calls
    medians = np.median(seconds, axis=1).reshape(2, traces, contestants)
    return medians.transpose(0, 2, 1)


def report(title, medians):
    """Print the time of the plain step and LRMultiplier's ratios to the others."""
    print(f"\n{title}: plain {medians[0, 0].mean() * 1e3:.2f} ms on the clock")
    for kind, (plain, ours, fused, several, again) in zip(
        ("clock", "processor"), medians, strict=True
    ):
        for left, right, top, bottom in (
            ("LRMultiplier", "plain", ours, plain),
            ("LRMultiplier", "MultiOptimizer", ours, several),
            ("fused", "plain", fused, plain),
            ("fused", "MultiOptimizer", fused, several),
            ("plain again", "plain", again, plain),
        ):
            low, high = interval(top, bottom)
            print(
                f"  {kind:<9} {left:<12} / {right:<14} {top.mean() / bottom.mean():.3f}"
                f"  (95 % interval {low:.3f} to {high:.3f})"
            )


def interval(top, bottom, draws=2000):
    """95 % interval of the ratio of means, by drawing each side's traces again."""
    rng = np.random.default_rng(0)
    rows, others = rng.integers(0, len(top), size=(2, draws, len(top)))
    return np.percentile(top[rows].mean(axis=1) / bottom[others].mean(axis=1), [2.5, 97.5])


def report_state(optimizers, updates):
    """Print how many variables each optimizer keeps, their size, and the size of its update."""
    for (name, optimizer), update in zip(optimizers.items(), updates, strict=True):
        sizes = [np.prod(v.shape) * np.dtype(v.dtype).itemsize for v in optimizer.variables]
        operations = len(update.get_concrete_function().graph.get_operations())
        print(
            f"  {name:<15} {len(sizes):4d} variables of state, {sum(sizes) / 1e6:7.3f} MB, "
            f"{operations} operations in its update"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--traces", type=int, default=6)
    parser.add_argument("--threads", type=int, default=0, help="0 leaves it to TensorFlow")
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.config.threading.set_inter_op_parallelism_threads(arguments.threads)
    for name, make in (("MobileNetV2, 96 px, batch 16", mobilenet), ("BERT 4 x 128", bert)):
        model, inputs, labels = make()
        contestants = [make_optimizers(model.trainable_variables) for _ in range(arguments.traces)]
        print(f"\n== {name}: {len(model.trainable_variables)} trainable variables")
        updates = [[make_update(model, o) for o in one.values()] for one in contestants]
        report_state(contestants[0], updates[0])
        report("update alone", measure(updates, arguments.rounds, 3))
        steps = [[make_step(model, o, inputs, labels) for o in one.values()] for one in contestants]
        report("training step", measure(steps, arguments.rounds, 1))
    print("\nbars: <= 1.02 against plain, <= 1.00 against MultiOptimizer, on the training step")


if __name__ == "__main__":
    main()
