"""The `.tflite` of a run, compared with its model before the run is published."""

import dataclasses
import statistics

import numpy as np

from kerastl import export
from kerastl.export import LiteRTModel, file_sizes
from kerastl.export.parity import accuracy, agreement

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


PART = 256  # pictures at once
ROUNDS = 3


@dataclasses.dataclass(frozen=True)
class Entry:
    """One model or file of a comparison.

    Attributes:
        name: String.
        predict: Function from float32 pixels `(n, height, width, 3)`, 0 to 255, to scores
            `(n, classes)`.
        path: Path of its file, or None for a model that lies in none.
    """

    name: str
    predict: object
    path: object = None

    @classmethod
    def of_file(cls, name, path):
        """The `.tflite` file at `path`."""
        return cls(name, LiteRTModel(path).predict, path)

    @classmethod
    def of_model(cls, name, model, path=None):
        """A Keras model; `path` is that of its `.keras` file, if it has one."""
        return cls(name, lambda x: model.predict(x, batch_size=32, verbose=0), path)


def file_rows(entries, pixels, labels):
    """Measure several forms of one network on the same pictures.

    Args:
        entries: List of `Entry`.
        pixels: Array or `Rows` of shape `(n, height, width, 3)`, 0 to 255.
        labels: Int array of shape `(n,)`.

    Returns:
        List of one dict an entry: `name`; `accuracy` in [0, 1]; `bytes`, `gzip`, `sparse` and
        `zeros` of its file as `export.file_sizes` measures them;
        `ms`, median milliseconds for one picture on one thread, of a `.tflite`; `agreement`, how
        often it has the class of the entry above it, and `max_abs_error`, its largest difference
        from that. None where there is no such figure.
    """
    above, rows = None, []
    for entry in entries:
        scores = in_parts(entry.predict, pixels)
        rows.append(
            {
                "name": entry.name,
                "accuracy": accuracy(scores, labels),
                **sizes_of(entry.path),
                **_difference(above, scores),
            }
        )
        above = scores
    for row, time in zip(rows, _times(entries, pixels), strict=True):
        row["ms"] = time
    return rows


def rung_name(rung):
    """What to call the file of a `Rung` of `export.to_litert_within`.

    Example:
        >>> from kerastl.export import Rung
        >>> rung_name(Rung("int8")), rung_name(Rung("int8_mixed", kept=("low", "high")))
        ('int8', 'int8, 2 in float')
    """
    return f"int8, {len(rung.kept)} in float" if rung.kept else rung.name


def in_parts(predict, pixels):
    """The scores of all `pixels`, a part of them in memory as float32 at a time."""
    parts = [
        predict(np.asarray(pixels[start : start + PART], "float32"))
        for start in range(0, len(pixels), PART)
    ]
    return np.concatenate(parts)


def sizes_of(path):
    """Dict with `bytes`, `gzip`, `sparse` and `zeros` of the file at `path`, None without one."""
    if path is None:
        return dict.fromkeys(("bytes", "gzip", "sparse", "zeros"))
    size = file_sizes([path]).rows[0]
    return {"bytes": size.dense, "gzip": size.gzip, "sparse": size.sparse, "zeros": size.zeros}


def in_turn(runners, example):
    """Median milliseconds of each `LiteRTModel` for one example.

    Timed in turn, several rounds, so that what else the machine does slows all alike.

    Args:
        runners: List of `LiteRTModel` with one thread.
        example: Their input.
    """
    rounds = [[runner.milliseconds(example) for runner in runners] for _ in range(ROUNDS)]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def _times(entries, pixels):
    """Milliseconds of the entries that are `.tflite` files, None for the others."""
    files = [entry for entry in entries if str(entry.path).endswith(".tflite")]
    example = np.asarray(pixels[:1], "float32")
    runners = [LiteRTModel(entry.path, threads=1) for entry in files]
    found = dict(zip(map(id, files), in_turn(runners, example), strict=True))
    return [found.get(id(entry)) for entry in entries]


def _difference(above, scores):
    if above is None:
        return {"agreement": None, "max_abs_error": None}
    return {
        "agreement": agreement(above, scores),
        "max_abs_error": float(np.abs(above - scores).max()),
    }
