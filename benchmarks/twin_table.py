"""How equal the tf_keras twin of each network of keras.applications is to its Keras 3 model.

Random weights and statistics, small random pictures. For each network: the layers of the twin and
how many of them run Keras 3's own layer in a wrapper; the largest difference of the outputs as a
share of the largest output, in inference and, for the networks without random layers, in training
mode; whether the weights come back bit for bit from a trip to the twin; seconds to make the twin.

    python benchmarks/twin_table.py [--all] [NETWORK ...]
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from kerastl.compression import twin

# Pixels a side, and whether the network rescales pixels itself.
NETWORKS = {
    "VGG16": (64, False), "MobileNet": (64, False), "MobileNetV2": (64, False),
    "MobileNetV3Small": (64, True), "ResNet50": (64, False), "ResNet50V2": (64, False),
    "DenseNet121": (64, False), "Xception": (96, False), "EfficientNetB0": (64, True),
    "EfficientNetV2B0": (64, True), "InceptionV3": (96, False),
}  # fmt: skip
OTHERS = {
    "MobileNetV3Large": (64, True), "NASNetMobile": (64, False), "ConvNeXtTiny": (64, True),
}  # fmt: skip
STATISTICS = ("moving_mean", "moving_variance", "gamma", "beta")
HEADER = ("network", "layers", "wrapped", "inference", "training", "round trip", "seconds")


def network(name):
    """The network with random weights and statistics, and a batch of pictures for it."""
    size, own_rescaling = (NETWORKS | OTHERS)[name]
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None
    )
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.path.rsplit("/")[-1] in STATISTICS:
            weight.assign(weight + rng.uniform(0, 0.5, weight.shape))
    pixels = rng.uniform(0, 255, (4, size, size, 3)).astype("float32")
    return model, pixels if own_rescaling else pixels / 127.5 - 1


def difference(model, made, x, training):
    """Largest difference of the outputs, as a share of the largest output."""
    ours = tf.function(lambda x: model(x, training=training))(x)
    theirs = tf.function(lambda x: made.model(x, training=training))(x)
    return float(tf.reduce_max(tf.abs(ours - theirs)) / tf.reduce_max(tf.abs(ours)))


def comes_back(model, made):
    """Whether all weights are bit-equal after a trip to the twin and back."""
    before = model.get_weights()
    made.push()
    for variable in model.weights:
        variable.assign(keras.ops.zeros_like(variable))
    made.pull()
    carried = {id(a) for entry in made.entries if entry.pairs for a, _ in entry.pairs}
    after = zip(model.weights, before, strict=True)
    return all(np.array_equal(v, w) for v, w in after if id(v) in carried)


def row(name):
    """One line of the table."""
    keras.utils.set_random_seed(0)
    model, x = network(name)
    start = time.perf_counter()
    made = twin(model)
    seconds = time.perf_counter() - start
    inference = difference(model, made, x, False)
    random = any(isinstance(layer, keras.layers.Dropout) for layer in made.source.layers)
    training = "random" if random else f"{difference(model, made, x, True):.1e}"
    back = "exact" if comes_back(model, made) else "NOT EQUAL"
    counts = (len(made.model.layers), len(made.wrapped))
    return (name, *map(str, counts), f"{inference:.1e}", training, back, f"{seconds:.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", help="default: the eleven of the table in docs/")
    parser.add_argument("--all", action="store_true", help="three more")
    options = parser.parse_args()
    names = options.networks or [*NETWORKS, *(OTHERS if options.all else ())]
    widths = (18, 6, 7, 9, 8, 10, 7)
    for cells in (HEADER, *map(row, names)):
        pairs = zip(cells, widths, strict=True)
        print("  ".join(f"{cell:<{width}}" for cell, width in pairs), flush=True)
        keras.utils.clear_session()


if __name__ == "__main__":
    main()
