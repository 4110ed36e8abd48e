"""EfficientNetB0, which plain int8 ruins: float, calibrated int8 and quantization-aware training.

The network learns ten made-up patterns from nothing (those of `quantize_table.py`). The table says
how often the float network, an int8 file with ranges measured on 100 pictures, and an int8 file
after quantization-aware training are right on 500 other pictures, and the signal over error of the
scores. Then `export.layer_errors` names the layers that int8 hurts most. `--ladder` adds
`export.to_litert_within`, which keeps such layers in float where it must; it converts many times.

    python benchmarks/quantize_efficientnet.py [--steps 300] [--ladder] [--out TABLE.md]
"""

import argparse
import os
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from quantize_table import BATCH, learn, line, prepared, trained

from kerastl.compression import quantize_aware
from kerastl.export import LiteRTModel, layer_errors, to_litert, to_litert_within

NAME, TESTED, QAT_STEPS = "EfficientNetB0", 500, 30
HEADER = ("network", "accuracy", "decibels over its model", "classes of its model")


def row(name, scores, expected, labels):
    """Accuracy of `scores`, and how near they are to those `expected`."""
    accuracy = f"{(scores.argmax(1) == labels).mean():.3f}"
    if scores is expected:
        return (name, accuracy, "-", "-")
    decibels = 10 * np.log10(np.square(expected).sum() / np.square(expected - scores).sum())
    same = (scores.argmax(1) == expected.argmax(1)).mean()
    return (name, accuracy, f"{decibels:.1f}", f"{same:.3f}")


def plain(model, images, labels, test, path):
    """Scores of the calibrated file, or None with the reason where it is too bad to be written."""
    try:
        to_litert(model, path, quantization="int8", representative_data=(images, labels))
    except RuntimeError as error:
        print(f"Plain int8: {error}")
        return None
    return LiteRTModel(path).predict(test)


def rows(options, folder):
    rng = np.random.default_rng(0)
    model = trained(NAME, rng, options.steps)
    images, labels = prepared(NAME, BATCH * QAT_STEPS, rng)
    test, classes = prepared(NAME, TESTED, rng)
    expected = model.predict(test, verbose=0)
    yield row("float", expected, expected, classes)
    path = os.path.join(folder, "model.tflite")
    scores = plain(model, images, labels, test, path)
    if scores is None:
        yield ("int8, calibrated", "refused", "-", "-")
    else:
        yield row("int8, calibrated", scores, expected, classes)
    quantized = quantize_aware(model, images)
    yield row("fake-quantized, not trained", quantized.predict(test, verbose=0), expected, classes)
    learn(quantized, images, labels, 1e-4)
    simulated = quantized.predict(test, verbose=0)
    yield row("fake-quantized, trained", simulated, simulated, classes)
    to_litert(quantized, path, quantization="int8")
    yield row("int8, trained so", LiteRTModel(path).predict(test), simulated, classes)
    print(layer_errors(model, images).table(10), flush=True)
    if options.ladder:
        print(to_litert_within(
            model, path, test, classes, max_drop=0.02, representative_data=images,
            ladder=("int8", "int8_mixed", "dynamic"),
        ))  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--ladder", action="store_true")
    parser.add_argument("--out", help="also write the table to this file")
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    lines = [line(HEADER), line(["---"] + ["---:"] * (len(HEADER) - 1))]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for cells in rows(options, folder):
            lines.append(line(cells))
            print(lines[-1], flush=True)
    if options.out:
        with open(options.out, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
