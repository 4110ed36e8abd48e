"""Size and latency of int8 files over float32 ones, and how often the two agree.

MobileNetV2, EfficientNetB0 and ResNet50 of keras.applications, 224 pixels and 1,000 classes,
calibrated on photographs. Weights are random, with the batch-normalization statistics of a batch,
so that sizes and times are those of the trained network. Where calibrated int8 loses the signal,
as it does without training, the file is that of `quantize_aware`. Files are timed in turn at one
thread.
For the encoder see compress_encoder.py, for accuracies quantize_table.py and compress_flowers.py.

    python benchmarks/int8_ratios.py FLOWERS [NETWORK ...]
"""

import argparse
import os
import pathlib
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Whether the network rescales pixels itself; the bars for size and time of its int8 file, if any.
NETWORKS = {
    "MobileNetV2": (False, 0.27, 0.6),
    "EfficientNetB0": (True, None, None),
    "ResNet50": (False, None, None),
}
COMPARED = 100


def build(name, pictures):
    """The network with the statistics of `pictures`."""
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((224, 224, 3), name="image")
    x = inputs if NETWORKS[name][0] else keras.layers.Rescaling(1 / 127.5, -1.0)(inputs)
    make = getattr(keras.applications, name)
    model = make(input_tensor=x, weights=None)
    model = keras.Model(inputs, model.output)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(pictures, training=True)
    return model


def measure(name, pictures, folder):
    """The row of one network."""
    from kerastl import export
    from kerastl.compression import quantize_aware
    from kerastl.recipes.device_files import in_turn

    model = build(name, pictures[:32])
    paths = [pathlib.Path(folder, f"{name}-{kind}.tflite") for kind in ("float32", "int8")]
    export.to_litert(model, paths[0])
    way = "calibrated"
    try:
        export.to_litert(model, paths[1], quantization="int8", representative_data=pictures)
    except RuntimeError as error:
        print(f"{name}: {error}", file=sys.stderr)
        model, way = quantize_aware(model, pictures), "quantize_aware"
        export.to_litert(model, paths[1], quantization="int8")
    runners = [export.LiteRTModel(path, threads=1) for path in paths]
    plain, small = in_turn(runners, {"image": pictures[:1]})
    found = export.parity(model, paths[1], pictures[:8])
    sizes = [path.stat().st_size for path in paths]
    return (
        name,
        way,
        f"{sizes[0] / 1e6:.1f}",
        f"{sizes[1] / sizes[0]:.3f}",
        f"{plain:.1f}",
        f"{small / plain:.2f}",
        f"{found.int8_share:.0%}",
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="folder of pictures")
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    options = parser.parse_args()

    import numpy as np

    from kerastl.data import load_image_folder

    data = load_image_folder(options.folder, image_size=224, val_share=0)
    chosen = np.random.default_rng(0).permutation(len(data.train.images))[:COMPARED]
    pictures = np.asarray(data.train.images)[np.sort(chosen)].astype("float32")
    header = (
        "network",
        "way",
        "float MB",
        "int8 size",
        "float ms",
        "int8 time",
        "int8 ops",
    )
    print(f"| {' | '.join(header)} |\n|{' --- |' * len(header)}")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks:
            print(f"| {' | '.join(measure(name, pictures, folder))} |", flush=True)
    bars = [f"{n}: size {s}, time {t}" for n, (_, s, t) in NETWORKS.items() if s]
    print("Bars, at most: " + "; ".join(bars))


if __name__ == "__main__":
    main()
