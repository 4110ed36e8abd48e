"""The `.tflite` of a run, compared with its model before the run is published."""

import numpy as np

from kerastl import export

COMPARED = 1000  # pictures at most on which file and model are compared
QUANTIZATIONS = {"float": None, "float16": "float16", "dynamic": "dynamic", "int8": "int8"}


def write_device_files(run, model, images, mode):
    """Write the files of `mode`; return what `metrics.json` says of them.

    Args:
        run: `RunFolder`. It gets `model.tflite`, and beside a quantized one `float.tflite`, the
            same network in float32.
        model: `keras.Model` that gives one score a class.
        images: `ImageData`. Files are compared with the model on pictures held out, and int8
            is calibrated on pictures that trained.
        mode: A key of `QUANTIZATIONS`.

    Returns:
        Dict with `tflite`, and for a quantized file `float_tflite`, each as `write_device_file`
        tells it.
    """
    known = images.test.images, images.class_names, images.test.labels
    if mode == "float":
        return {"tflite": write_device_file(run, model, *known)}
    float_file = write_device_file(run, model, *known, name="float.tflite")
    options = {"quantization": QUANTIZATIONS[mode]}
    if mode == "int8":
        options["representative_data"] = some_of(images.train)
    quantized = write_device_file(run, model, *known, **options)
    return {"tflite": quantized, "float_tflite": float_file}


def write_device_file(
    run, model, images, class_names=None, labels=None, *, name="model.tflite", **options
):
    """Write one file into `run`, compare it with `model`, return what `metrics.json` says.

    Args:
        run: `RunFolder`.
        model: `keras.Model`.
        images: Pixels 0 to 255 of shape `(n, height, width, 3)`; the first 1,000 are compared.
        class_names: Class names to put into the file, or None.
        labels: Int array `(n,)` to measure accuracy by, or None.
        name: Of the file in `run`.
        **options: `quantization` and `representative_data` of `export.to_litert`.

    Returns:
        Dict with `quantization`; `size_bytes` and `gzip_bytes`; `accuracy` of the file;
        `max_abs_error` and `agreement` with Keras; `median_ms` of one picture at one thread;
        and `compared_on`, the number of pictures.
    """
    path = run.file(name)
    export.to_litert(model, path, labels=class_names, **options)
    labels = None if labels is None else labels[:COMPARED]
    parity = export.parity(model, path, np.asarray(images[:COMPARED], "float32"), labels)
    return {
        "quantization": options.get("quantization"),
        "size_bytes": parity.size_bytes,
        "gzip_bytes": parity.gzip_bytes,
        "accuracy": parity.file_accuracy,
        "max_abs_error": parity.max_abs_error,
        "agreement": parity.agreement,
        "median_ms": parity.median_ms,
        "compared_on": parity.num_examples,
    }


def some_of(split, *, count=COMPARED, seed=0):
    """At most `count` pictures of a `Split`, drawn at random, as `(float32 pixels, labels)`.

    What is measured on them, ranges or a drop of accuracy, needs no more, and they fit in memory.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(split))[:count])
    return np.asarray(split.images[rows], "float32"), split.labels[rows]
