"""Quantization-aware training and int8 files of eleven networks of keras.applications.

Each network learns to tell ten made-up patterns, since a random one has no signal to lose: 100
steps at a time until it is right on nine of ten others, 500 steps at most. Then: how equal its
tf_keras twin and its folded form are (largest difference of an output, as a share of the largest
output); some steps of quantization-aware training; the int8 file of it; the share of the file's
operations on real numbers that compute in int8; how often file and fake-quantized model choose the
same class on 256 other pictures, and how far apart the two best scores of the model lie, in steps
of int8, where they do not (below 1 is a tie in the file); the accuracy of the float network, the
fake-quantized one and the file on these; seconds to convert.

    python benchmarks/quantize_table.py [--out TABLE.md] [NETWORK ...]
"""

import argparse
import os
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from kerastl.compression import quantize_aware, twin
from kerastl.compression.quantize import fold, ranges_of
from kerastl.export import LiteRTModel, parity, to_litert

# Pixels a side, whether the network rescales pixels itself, learning rate.
NETWORKS = {
    "VGG16": (64, False, 1e-4), "MobileNet": (64, False, 1e-3), "MobileNetV2": (64, False, 1e-3),
    "MobileNetV3Small": (64, True, 1e-3), "ResNet50": (64, False, 1e-3),
    "ResNet50V2": (64, False, 1e-3), "DenseNet121": (64, False, 1e-3),
    "Xception": (96, False, 1e-3), "EfficientNetB0": (64, True, 1e-3),
    "EfficientNetV2B0": (64, True, 1e-3), "InceptionV3": (96, False, 1e-3),
}  # fmt: skip
HEADER = (
    "network", "twin", "fold", "int8 ops", "float ops", "same class", "widest miss", "float",
    "fake-quantized", "file", "MB", "s",
)  # fmt: skip
CLASSES, BATCH, STEPS, QAT_STEPS, TESTED = 10, 16, 100, 8, 256
MOST_STEPS, LEARNT = 500, 0.9


def pictures(count, size, rng):
    """Gratings of ten directions and colours under noise, 0 to 255, and their classes."""
    labels = rng.integers(0, CLASSES, count)
    y, x = np.mgrid[:size, :size] / size
    angle = labels[:, None, None] * np.pi / CLASSES
    phase = rng.uniform(0, 2 * np.pi, (count, 1, 1))
    wave = np.sin(2 * np.pi * 5 * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    colour = 0.5 + 0.5 * np.cos(labels[:, None] * 2 * np.pi / CLASSES + np.array([0.0, 2.0, 4.0]))
    image = 127 + 80 * (2 * colour[:, None, None] - 1) + 40 * wave[..., None]
    return np.clip(image + rng.normal(0, 25, image.shape), 0, 255).astype("float32"), labels


def prepared(network, count, rng):
    size, own_rescaling, _ = NETWORKS[network]
    x, y = pictures(count, size, rng)
    return (x if own_rescaling else x / 127.5 - 1), y


def trained(name, rng, steps=None):
    """The network after `steps`, or after as many as it needs, with statistics that have followed.

    A network that has hardly learnt tells classes apart by less than what one rounding in 100,000
    values grows to over its layers.
    """
    size, _, rate = NETWORKS[name]
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=CLASSES, classifier_activation=None
    )
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.8
    for _ in range(1 if steps else MOST_STEPS // STEPS):
        x, y = prepared(name, BATCH * (steps or STEPS), rng)
        learn(model, x, y, rate)
        for start in range(0, 8 * BATCH, BATCH):  # the weights stand still and statistics arrive
            model(x[start : start + BATCH], training=True)
        if steps is None and accuracy(model, *prepared(name, TESTED, rng)) >= LEARNT:
            break
    return model


def accuracy(model, x, y):
    return (model.predict(x, batch_size=BATCH, verbose=0).argmax(1) == y).mean()


def learn(model, x, y, rate):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    model.fit(x, y, batch_size=BATCH, verbose=0)


def difference(ours, theirs):
    return f"{np.abs(ours - theirs).max() / np.abs(ours).max():.1e}"


def widest_miss(quantized, scores, answers):
    """Largest gap, in int8 steps of the scores, between the model's choice and the file's."""
    misses = np.flatnonzero(scores.argmax(1) != answers.argmax(1))
    if not len(misses):
        return "-"
    last = ranges_of(quantized)[-1]
    step = float(last.maximum - last.minimum) / 255
    gaps = scores.max(1) - scores[np.arange(len(scores)), answers.argmax(1)]
    return f"{gaps[misses].max() / step:.0f}"


def row(name, folder):
    """One line of the table."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    model = trained(name, rng)
    x, y = prepared(name, TESTED, rng)
    before = model.predict(x, batch_size=BATCH, verbose=0)
    theirs = twin(model).model.predict(x[:32], batch_size=BATCH, verbose=0)
    folded = fold(model).model.predict(x[:32], batch_size=BATCH, verbose=0)
    more, classes = prepared(name, BATCH * QAT_STEPS, rng)
    quantized = quantize_aware(model, more)
    learn(quantized, more, classes, NETWORKS[name][2] / 10)
    scores = quantized.predict(x, batch_size=BATCH, verbose=0)
    start = time.perf_counter()
    path = to_litert(quantized, os.path.join(folder, f"{name}.tflite"), quantization="int8")
    seconds = time.perf_counter() - start
    found = parity(quantized, path, x, y)
    floats = sum(op.count for op in found.ops if op.in_float)
    accuracies = ((before.argmax(1) == y).mean(), found.model_accuracy, found.file_accuracy)
    return (
        name,
        difference(before[:32], theirs),
        difference(before[:32], folded),
        f"{found.int8_share:.0%}",
        str(floats),
        f"{found.agreement:.3f}",
        widest_miss(quantized, scores, LiteRTModel(path).predict(x)),
        *(f"{accuracy:.3f}" for accuracy in accuracies),
        f"{found.size_bytes / 1e6:.1f}",
        f"{seconds:.0f}",
    )


def line(cells):
    return "| " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", help="default: all eleven")
    parser.add_argument("--out", help="also write the table to this file")
    options = parser.parse_args()
    lines = [line(HEADER), line(["---"] + ["---:"] * (len(HEADER) - 1))]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks or NETWORKS:
            lines.append(line(row(name, folder)))
            print(lines[-1], flush=True)
            keras.utils.clear_session()
    if options.out:
        with open(options.out, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
