"""Measure a model or file on a folder of pictures, beside the others of its run."""

import pathlib

import numpy as np

from kerastl._base import checks
from kerastl.data import decode_files, scan_images
from kerastl.recipes.device_files import Entry, file_rows
from kerastl.recipes.finished import load_predictor

BESIDE = ("model.keras", "float.tflite")


def evaluate_folder(predictor, data, *, progress=None):
    """Measure `predictor` on a folder of class folders: its `test/` or `val/` if it has one.

    Args:
        predictor: `Predictor`.
        data: The folder.
        progress: Called as `progress(done, total)` while pictures are read.

    Returns:
        The dict of `evaluate_probabilities`; `"data"`, the folder measured on; `"skipped"`,
        the files that are no readable pictures; of a `.tflite`, `"files"`, its row of
        `file_rows` after those of the `model.keras` and the `float.tflite` beside it, and
        `"notices"`, why one of them is not there.

    Raises:
        ValueError: If the folder has a class that the model does not know.
    """
    pixels, labels, measured, skipped = _read(predictor, data, progress)
    report = {
        **evaluate_probabilities(predictor.predict(pixels), labels, predictor.labels),
        "data": measured,
        "skipped": skipped,
        "files": [],
        "notices": [],
    }
    if predictor.path.endswith(".tflite"):
        others, report["notices"] = _beside(predictor)
        named = [*others, predictor]
        entries = [Entry(pathlib.Path(one.path).name, one.predict, one.path) for one in named]
        report["files"] = file_rows(entries, pixels, labels)
    return report


def _read(predictor, data, progress):
    """Pixels, labels as numbers of the predictor's classes, the folder, and what is unreadable."""
    folder = scan_images(data)
    split = next(name for name in ("test", "val", "all", "train") if name in folder.splits)
    unknown = [name for name in folder.class_names if name not in predictor.labels]
    if unknown:
        raise ValueError(
            f"Every class in {data} must be one that the model knows: "
            f"{checks.listed(predictor.labels, 20)}. Received also: {checks.listed(unknown)}"
        )
    files, labels = zip(*folder.splits[split], strict=True)
    pixels, records = decode_files(
        files, image_size=predictor.image_size, resize=predictor.resize, progress=progress
    )
    kept = [i for i, record in enumerate(records) if not record["reason"]]
    if not kept:
        raise ValueError(f"{data} must hold at least one readable picture. Received: none")
    number = [predictor.labels.index(name) for name in folder.class_names]
    skipped = [
        {"file": str(file), "reason": record["reason"]}
        for file, record in zip(files, records, strict=True)
        if record["reason"]
    ]
    measured = str(data) if split == "all" else str(pathlib.Path(data, split))
    return pixels[kept], np.array([number[labels[i]] for i in kept]), measured, skipped


def _beside(predictor):
    """Predictors of the other forms of the same run, and why one cannot be compared."""
    found, notices = [], []
    for name in BESIDE:
        path = pathlib.Path(predictor.path).with_name(name)
        if not path.is_file() or path.samefile(predictor.path):
            continue
        try:
            other = load_predictor(path)
        except ValueError as error:
            notices.append(f"{path} is not compared: {error}")
            continue
        if (other.image_size, other.labels) == (predictor.image_size, predictor.labels):
            found.append(other)
        else:
            notices.append(f"{path} is not compared: it has another input or other classes.")
    return found, notices


def evaluate_probabilities(probabilities, labels, class_names):
    """Accuracy, cross-entropy, recall of each class and the confusion matrix.

    Args:
        probabilities: Float array of shape `(n, num_classes)`, rows sum to 1.
        labels: Int array of shape `(n,)`.
        class_names: The `num_classes` names.

    Returns:
        Dict ready for JSON. `loss` is the mean of `-log p[label]` in nats; `confusion[i][j]`
        counts pictures of class `i` that were taken for class `j`.

    Raises:
        ValueError: If there are no pictures or the numbers of classes differ.

    Example:
        >>> report = evaluate_probabilities([[0.9, 0.1], [0.4, 0.6]], [0, 0], ["cat", "dog"])
        >>> report["accuracy"], report["confusion"]
        (0.5, [[1, 1], [0, 0]])
    """
    probabilities = np.asarray(probabilities, np.float64)
    labels = np.asarray(labels)
    if probabilities.ndim != 2 or probabilities.shape != (len(labels), len(class_names)):
        raise ValueError(
            "`probabilities` must have the shape (n, num_classes). Received: shape "
            f"{probabilities.shape} for {len(labels)} labels and {len(class_names)} classes"
        )
    if not len(labels):
        raise ValueError("`labels` must hold at least one picture. Received: none")
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((len(class_names), len(class_names)), int)
    np.add.at(confusion, (labels, predicted), 1)
    of_label = probabilities[np.arange(len(labels)), labels]
    return {
        "accuracy": float((predicted == labels).mean()),
        "loss": float(-np.log(np.maximum(of_label, 1e-12)).mean()),
        "num_examples": len(labels),
        "per_class": {name: _recall(confusion[i], i) for i, name in enumerate(class_names)},
        "confusion": confusion.tolist(),
    }


def _recall(row, i):
    total = int(row.sum())
    return {"num_examples": total, "recall": float(row[i] / total) if total else None}
