"""What it saves to compute batch normalizations inside the convolutions before them.

The training step of a FineTuner as it is, and with every layer run by itself, in turn in one
process: with the head alone training, and with everything training but the statistics of batch
normalizations. Random weights, one fixed batch of 16 pictures. The ratio is that of the medians.

    python benchmarks/folding.py [--image-size N] [--rounds N] [NETWORK ...]
"""

import argparse
import os
import statistics
import time
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import kerastl.graph.run as folding
from kerastl.freezing import freeze, freeze_batch_norm, freeze_to, unfreeze
from kerastl.training import FineTuner

NETWORKS = ("MobileNetV2", "ResNet50", "EfficientNetB0")
BATCH = 16


def network(name, size):
    base = getattr(keras.applications, name)(
        weights=None, include_top=False, input_shape=(size, size, 3), pooling="avg"
    )
    return FineTuner(base.input, keras.layers.Dense(5, name="classes")(base.output))


def step_of(model, images, labels, folds):
    """A traced training step, forward and backward, without the update."""
    loss_function = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            loss = loss_function(labels, model(images, training=True))
        return tape.gradient(loss, [v.value for v in model.trainable_variables])

    with mock.patch.object(
        folding, "folded_pairs", folding.folded_pairs if folds else lambda model: []
    ):
        step()
    return step


def seconds(steps, rounds):
    """Median seconds of each of `steps`, which take turns."""
    found = [[] for _ in steps]
    for _ in range(rounds):
        for step, times in zip(steps, found, strict=True):
            start = time.perf_counter()
            step()[0].numpy()
            times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in found]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    rng, size = np.random.default_rng(0), options.image_size
    images = tf.constant(rng.uniform(0, 255, (BATCH, size, size, 3)), tf.float32)
    labels = tf.constant(rng.integers(0, 5, BATCH))
    for name in options.networks:
        model = network(name, size)
        for what in ("head", "everything"):
            if what == "head":
                freeze_to(model, -1)
            else:
                freeze(model, ".*")
                unfreeze(model, ".*")
                freeze_batch_norm(model, affine=False)
            steps = [step_of(model, images, labels, folds) for folds in (True, False)]
            folded, alone = seconds(steps, options.rounds)
            print(
                f"{name}, {what} trains: {1e3 * folded:.0f} ms a step, layer by layer "
                f"{1e3 * alone:.0f} ms, ratio {folded / alone:.2f}",
                flush=True,
            )
        keras.utils.clear_session()


if __name__ == "__main__":
    main()
