"""Which way to train with int8 rounding: ours on the Keras 3 model, or stock TFMOT on its twin.

A network that `kerastl tune` has trained goes through the same few epochs of quantization-aware
training (Adam, batches of 32) both ways. For each: accuracy on the test pictures of the
fake-quantized model and of its int8 file, before training and after; how often model and file
choose the same class; milliseconds a training step, the first left out. Stock TFMOT refuses a
`Rescaling` layer, so it is given the network behind it, and pictures that are rescaled. Neither
way augments the pictures.

    kerastl tune FLOWERS --backbone mobilenet --alpha 0.25 --seed 0 --out RUN
    python benchmarks/quantize_flowers.py RUN FLOWERS [--epochs 5] [--rate 3e-5] [--out TABLE.md]
"""

import argparse
import itertools
import os
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from kerastl.compression import quantize_aware, twin
from kerastl.compression.island import tf_keras, tfmot
from kerastl.data import load_image_folder
from kerastl.export import parity, to_litert

BATCH = 32
HEADER = (
    "way", "model at start", "file at start", "model", "file", "same class", "int8 ops", "ms a step"
)  # fmt: skip


class StepTime:
    """Median milliseconds from the end of one training step to the end of the next."""

    def __init__(self, base):
        outer = self

        class Clock(base):
            def on_train_batch_end(self, batch, logs=None):
                outer.ends.append((batch, time.perf_counter()))

        self.ends, self.callback = [], Clock()

    @property
    def milliseconds(self):
        ends = self.ends[2:]  # the first step is traced
        pairs = itertools.pairwise(ends)
        return 1e3 * float(np.median([b - a for (_, a), (n, b) in pairs if n]))


def measured(model, x, y, path):
    """Accuracies of a model and its file, their agreement and the share of int8."""
    found = parity(model, to_litert(model, path, quantization="int8"), x, y)
    return found.model_accuracy, found.file_accuracy, found.agreement, found.int8_share


def row(way, model, package, data, options):
    """One line: `model` is fake-quantized and of `package`, Keras 3 or tf_keras."""
    (x, y), (test, classes) = data
    path = os.path.join(options.folder, "model.tflite")
    start = ("-", "-")
    if options.ranged:
        start = tuple(f"{value:.3f}" for value in measured(model, test, classes, path)[:2])
    # As `kerastl tune` trained it.
    loss = package.losses.CategoricalCrossentropy(options.gives_logits, label_smoothing=0.1)
    model.compile(package.optimizers.Adam(options.rate), loss)
    clock = StepTime(package.callbacks.Callback)
    package.utils.set_random_seed(0)
    model.fit(
        x,
        np.eye(y.max() + 1)[y],
        batch_size=BATCH,
        epochs=options.epochs,
        verbose=0,
        callbacks=[clock.callback],
    )
    ours, theirs, agreement, share = measured(model, test, classes, path)
    end = (f"{ours:.3f}", f"{theirs:.3f}", f"{agreement:.3f}", f"{share:.0%}")
    return (way, *start, *end, f"{clock.milliseconds:.0f}")


def behind_rescaling(model):
    """The network without its first layer, and that layer."""
    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.Rescaling))
    inputs = keras.Input(first.output.shape[1:])
    return keras.Model(inputs, keras.Model(first.output, model.output)(inputs)), first


def rows(model, data, options):
    options.gives_logits = model.layers[-1].activation is keras.activations.linear
    options.ranged = True
    yield row("kerastl, ranges from data", quantize_aware(model, data[0][0]), keras, data, options)
    options.ranged = False
    yield row("kerastl, no data", quantize_aware(model), keras, data, options)
    quantize = tfmot().quantization.keras.quantize_model
    try:
        quantize(twin(model).model)
    except (ValueError, RuntimeError) as error:
        print(f"Stock TFMOT on the whole network: {str(error).splitlines()[0][:120]}")
    network, rescaling = behind_rescaling(model)
    rescaled = [(np.asarray(rescaling(x)), y) for x, y in data]
    with tfmot().quantization.keras.quantize_scope():
        stock = quantize(twin(network).model)
        options.ranged = True
        yield row("stock TFMOT on the twin", stock, tf_keras(), rescaled, options)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="folder that `kerastl tune` wrote")
    parser.add_argument("data", help="folder with train/ and test/")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rate", type=float, default=3e-5)
    parser.add_argument("--out", help="also write the table to this file")
    options = parser.parse_args()
    loaded = keras.saving.load_model(os.path.join(options.run, "model.keras"))
    model = keras.Model(loaded.input, loaded.output, name=loaded.name)
    model.trainable = True
    images = load_image_folder(options.data, image_size=model.input_shape[1:3], val_share=0)
    data = [
        (np.asarray(split.images, "float32"), split.labels) for split in (images.train, images.test)
    ]
    scores = model.predict(data[1][0], verbose=0)
    lines = [
        f"Float network: {(scores.argmax(1) == data[1][1]).mean():.3f} of {len(scores)} pictures.",
        "",
        f"| {' | '.join(HEADER)} |",
        f"| --- |{' ---: |' * (len(HEADER) - 1)}",
    ]
    with tempfile.TemporaryDirectory() as options.folder:
        for cells in rows(model, data, options):
            lines.append(f"| {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    print("\n".join(lines))
    if options.out:
        with open(options.out, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
