"""What it saves to compute frozen layers once: seconds, losses and memory, in one run.

On photographs of flowers (made-up pictures where those are absent): the head alone of MobileNetV2
and of EfficientNetB0 for 10 epochs, and the top third of MobileNetV2's layer groups for 5, each by
plain Keras (`trainable=False` below, and for all batch normalizations), by a `FineTuner` without
and with cached features: the same batches in the same order, from the same weights. The bars are
for cached features over plain Keras. More tables tell what each further epoch costs, and more
pictures. The networks have random weights and batch-normalization statistics of their first batch,
so that activations are those of a network in use. Every run is a process of its own. Its seconds
are those of `fit`, tracing and computing the features included; its memory is the peak of the
process above what it held before `fit` (Linux only). Tracing takes seconds whatever the data: the
more pictures and the larger the network, the nearer the ratio of the head comes to the number of
epochs. Plain Keras has EfficientNetB0's frozen blocks drop out at random, so its losses differ.

The layers below the head train by SGD with momentum: Adam divides a gradient by its own size, and
so turns the last digit of a gradient that is nearly zero into a step of full length. They train at
a low rate, because two ways of computing that differ in the last digit have one ReLU in a million
open or shut otherwise, which moves a gradient by a thousandth. Where TensorFlow computes a picture
alike wherever it stands in a batch, cached and uncached losses are equal to the bit at any rate.

    python benchmarks/frozen_features.py [TASK ...] [--image-size N] [--runs N] [--no-growth]
"""

import argparse
import json
import math
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")  # as the command line does, for all ways

FLOWERS = pathlib.Path(__file__).parents[2] / "shared" / "data" / "flowers"
NUM_CLASSES, NUM_MADE_UP, BATCH_SIZE = 5, 500, 32
# Network and what trains: epochs, the bars for the ratio of seconds and for the losses.
WAYS = ("plain Keras", "without cache", "with cache")
TASKS = {
    "MobileNetV2 head": (10, 8.0, 1e-5),
    "EfficientNetB0 head": (10, 8.0, 1e-5),
    "MobileNetV2 top third": (5, 2.0, 1e-4),
}
LOW_RATE = 1e-5


def pictures(image_size, num_examples):
    """uint8 pictures and labels for training and for validation."""
    import numpy as np

    from kerastl.data import load_image_folder

    if FLOWERS.is_dir():
        data = load_image_folder(FLOWERS, image_size=image_size, val_share=0)
        train, val = data.train, data.test
        images, labels = np.asarray(train.images), train.labels
        held_back = np.asarray(val.images), val.labels
    else:
        rng = np.random.default_rng(0)
        shape = (NUM_MADE_UP, image_size, image_size, 3)
        images = rng.integers(0, 256, shape, dtype="uint8")
        labels = rng.integers(0, NUM_CLASSES, NUM_MADE_UP)
        held_back = images[:64], labels[:64]
    chosen = np.random.default_rng(1).permutation(len(images))[:num_examples]
    return (images[chosen], labels[chosen]), held_back


def network(name, image_size, batch):
    """A `FineTuner` over the network `name` with the statistics of `batch` in all its layers."""
    import keras

    from kerastl.training import FineTuner

    keras.utils.set_random_seed(0)
    inputs = keras.Input((image_size, image_size, 3))
    has_scaling = name.startswith("EfficientNet")
    x = inputs if has_scaling else keras.layers.Rescaling(1 / 127.5, -1.0)(inputs)
    make = getattr(keras.applications, name)
    base = make(input_tensor=x, include_top=False, weights=None, pooling="avg")
    hidden = keras.layers.Dropout(0.2)(base.output)
    head = keras.layers.Dense(NUM_CLASSES, activation="softmax", name="classes")
    model = FineTuner(inputs, head(hidden))
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    for momentum in (0.0, 0.99):
        for norm in norms:
            norm.momentum = momentum
        if not momentum:
            model(batch.astype("float32"), training=True)
    return model


def fitted(way, model, optimizer, data, epochs, **settings):
    """The `History` of a `fit` in one of the three ways."""
    import keras

    loss = "sparse_categorical_crossentropy"
    if way != "plain Keras":
        model.compile(optimizer, loss)
        return model.fit(data, epochs=epochs, cache_frozen=way == "with cache", **settings)
    plain = keras.Model(model.input, model.output)
    plain.compile(optimizer, loss)
    in_turn = data.repeatable.epoch(0)
    for number in range(1, epochs):  # the passes that a FineTuner reads, one an epoch
        in_turn = in_turn.concatenate(data.repeatable.epoch(number))
    steps = int(data.cardinality())
    return plain.fit(in_turn, epochs=epochs, steps_per_epoch=steps, **settings)


def child(task, way, num_examples, image_size, epochs):
    """One `fit`; prints what it cost and its losses as JSON."""
    import keras

    from kerastl.data import make_dataset
    from kerastl.freezing import freeze_batch_norm, freeze_to

    (images, labels), held_back = pictures(image_size, num_examples)
    name, part = task.split(" ", 1)
    model = network(name, image_size, images[:BATCH_SIZE])
    freeze_to(model, -1 if part == "head" else -math.ceil(len(model.groups) / 3))
    freeze_batch_norm(model)  # as the usual recipe has it
    if part == "head":
        optimizer = keras.optimizers.Adam(1e-3)
    else:
        optimizer = keras.optimizers.SGD(LOW_RATE, momentum=0.9)
    seconds, held = [], resident()
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seconds.append(time.perf_counter() - started)
    )
    data = make_dataset(images, labels, batch_size=BATCH_SIZE, seed=0)
    validation = make_dataset(*held_back, batch_size=BATCH_SIZE)
    started = time.perf_counter()
    settings = {"validation_data": validation, "callbacks": [watch], "verbose": 0}
    history = fitted(way, model, optimizer, data, epochs, **settings).history
    print(json.dumps({"seconds": seconds, "memory": peak() - held, **history}))


def resident():
    """Megabytes that this process holds now."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def peak():
    """The most megabytes that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def run(task, way, *, num_examples=10**6, image_size, epochs=None):
    """The JSON of one run in a process of its own."""
    given = [task, way, num_examples, image_size, epochs or TASKS[task][0]]
    command = [sys.executable, __file__, "--child", json.dumps(given)]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def compare(task, image_size, runs):
    """The three ways in turn; prints ratios and the largest differences of losses."""
    epochs, ratio_bar, loss_bar = TASKS[task]
    found = {way: [] for way in WAYS}
    for _ in range(runs):
        for way, results in found.items():
            results.append(run(task, way, image_size=image_size))
    seconds = {way: statistics.median(r["seconds"][-1] for r in found[way]) for way in WAYS}
    memory = {way: statistics.median(r["memory"] for r in found[way]) for way in WAYS}
    print(f"\n{task}, {epochs} epochs (bars: {ratio_bar} times as fast, losses to {loss_bar:.0e}):")
    cached = found["with cache"][0]
    for way in WAYS:
        row = f"  {way:<14}{seconds[way]:7.1f} s, {memory[way]:6.0f} MB during fit"
        if way != "with cache":
            apart = [largest_difference(cached[k], found[way][0][k]) for k in ("loss", "val_loss")]
            row += f"; ratio {seconds[way] / seconds['with cache']:.2f}"
            row += f", losses apart by {apart[0]:.1e}, validation {apart[1]:.1e}"
        print(row, flush=True)
    print(f"  loss from {cached['loss'][0]:.4f} to {cached['loss'][-1]:.4f}")
    return found


def largest_difference(one, other):
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def print_epochs(task, found):
    """Seconds until the end of each epoch, from the first run of each kind."""
    print(f"\n{task}: seconds until the end of epoch")
    rows = {way: found[way][0]["seconds"] for way in WAYS}
    numbers = range(1, len(rows["with cache"]) + 1)
    print("  epoch         " + "".join(f"{number:7d}" for number in numbers))
    for name, seconds in rows.items():
        print(f"  {name:<14}" + "".join(f"{value:7.1f}" for value in seconds), flush=True)


def print_growth(image_size):
    """Seconds and memory of head training for more and more pictures."""
    print("\nMobileNetV2 head, 10 epochs: seconds and MB for more pictures")
    for num_examples in (125, 250, 500):
        plain, cached = (
            run("MobileNetV2 head", way, num_examples=num_examples, image_size=image_size)
            for way in ("plain Keras", "with cache")
        )
        print(
            f"  {num_examples:4d} pictures: plain {plain['seconds'][-1]:6.1f} s, "
            f"{plain['memory']:5.0f} MB; with {cached['seconds'][-1]:6.1f} s, "
            f"{cached['memory']:5.0f} MB; ratio "
            f"{plain['seconds'][-1] / cached['seconds'][-1]:.2f}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", help=f"of {', '.join(TASKS)}; default: all")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--no-growth", action="store_true", help="leave out the table of sizes")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*json.loads(arguments.child))
        return
    kind = "flowers" if FLOWERS.is_dir() else "made-up pictures"
    print(f"On {kind}, {arguments.image_size} px, batch {BATCH_SIZE}")
    for task in arguments.tasks or TASKS:
        print_epochs(task, compare(task, arguments.image_size, arguments.runs))
    if not arguments.no_growth:
        print_growth(arguments.image_size)


if __name__ == "__main__":
    main()
