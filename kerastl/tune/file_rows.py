"""What models and device files give and cost, side by side: the rows that verbs print."""

import dataclasses
import statistics

import numpy as np

from kerastl.export import LiteRTModel, file_sizes
from kerastl.export.accuracy import accuracy, agreement

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
