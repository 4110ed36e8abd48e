"""Use a run: load its model or its file, classify pictures, measure on a folder."""

import dataclasses
import json
import pathlib

import keras
import numpy as np

import kerastl
from kerastl import _checks
from kerastl.data import decode_files, load_image_paths, scan_images
from kerastl.tune.evaluation import evaluate_probabilities


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A model ready for pictures.

    Attributes:
        predict: Function from pixels `(n, height, width, 3)`, 0 to 255, to probabilities.
        labels: Tuple of class names.
        image_size: `(height, width)`.
        resize: How pictures were brought to that size in training.
        path: The file it came from.
    """

    predict: object
    labels: tuple
    image_size: tuple
    resize: str
    path: str


def load_predictor(path):
    """The model at `path`: a run folder, a `.keras` or a `.tflite` file.

    `labels.txt` and `config.json` are looked for beside it. Without the first, classes have the
    names inside a `.tflite` or go by number; without the second, pictures are stretched to size.

    Raises:
        FileNotFoundError: If there is nothing at `path`.
        ValueError: If it is no model, or not one from pictures to classes.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        path = path / "model.keras"
    if not path.exists():
        raise FileNotFoundError(
            f"There is no model at {path}. Give a run folder, a .keras or a .tflite file"
        )
    read = _tflite if path.suffix == ".tflite" else _keras_file
    shape, num_classes, predict, inside = read(path)
    if len(shape) != 4 or shape[-1] != 3 or None in shape[1:3]:
        raise ValueError(
            "The model must take pictures of one size, (batch, height, width, 3). "
            f"Received: {path} with input shape {tuple(shape)}"
        )
    return Predictor(
        predict, _labels(path, num_classes, inside), tuple(shape[1:3]), _resize(path), str(path)
    )


def load_keras(path):
    """The Keras model in the `.keras` file at `path`, not compiled; a clear error if none."""
    kerastl.register()
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. Give the path of a .keras file")
    if path.suffix != ".keras":
        raise ValueError(f"The model must be a .keras file. Received: {path}")
    try:
        return keras.models.load_model(path, compile=False)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(f"{path} is not a .keras file that loads here: {error}") from error


def predict_files(predictor, files, *, top=3, progress=None):
    """The `top` classes of each picture among `files`, best first.

    Returns:
        List of `{"file": path, "top": [{"label": name, "probability": p}, ...]}`.
    """
    images, paths = load_image_paths(
        files, image_size=predictor.image_size, resize=predictor.resize, progress=progress
    )
    found = []
    for path, row in zip(paths, predictor.predict(images), strict=True):
        best = np.argsort(-row, kind="stable")[:top]
        found.append(
            {
                "file": str(path),
                "top": [{"label": predictor.labels[i], "probability": float(row[i])} for i in best],
            }
        )
    return found


def evaluate_folder(predictor, data, *, progress=None):
    """Measure `predictor` on a folder of class folders: its `test/` or `val/` if it has one.

    Returns:
        The dict of `evaluate_probabilities`, `"data"`, the folder measured on, and `"skipped"`,
        the files that are no readable pictures.

    Raises:
        ValueError: If the folder has a class that the model does not know.
    """
    folder = scan_images(data)
    split = next(name for name in ("test", "val", "all", "train") if name in folder.splits)
    unknown = [name for name in folder.class_names if name not in predictor.labels]
    if unknown:
        raise ValueError(
            f"Every class in {data} must be one that the model knows: "
            f"{_checks.listed(predictor.labels, 20)}. Received also: {_checks.listed(unknown)}"
        )
    files, labels = zip(*folder.splits[split], strict=True)
    pixels, records = decode_files(
        files, image_size=predictor.image_size, resize=predictor.resize, progress=progress
    )
    kept = [i for i, record in enumerate(records) if not record["reason"]]
    if not kept:
        raise ValueError(f"{data} must hold at least one readable picture. Received: none")
    number = [predictor.labels.index(name) for name in folder.class_names]
    report = evaluate_probabilities(
        predictor.predict(pixels[kept]),
        np.array([number[labels[i]] for i in kept]),
        predictor.labels,
    )
    skipped = [
        {"file": str(file), "reason": record["reason"]}
        for file, record in zip(files, records, strict=True)
        if record["reason"]
    ]
    measured = str(data) if split == "all" else str(pathlib.Path(data, split))
    return {**report, "data": measured, "skipped": skipped}


def _keras_file(path):
    model = load_keras(path)
    predict = lambda images: model.predict(images, batch_size=32, verbose=0)  # noqa: E731
    return model.input_shape, model.output_shape[-1], predict, None


def _tflite(path):
    from kerastl.export import LiteRTModel

    model = LiteRTModel(path)
    shape = model.inputs[0].shape
    return (None, *shape[1:]), model.outputs[0].shape[-1], model.predict, model.labels


def _labels(path, num_classes, inside):
    file = path.with_name("labels.txt")
    if file.is_file():
        labels = tuple(file.read_text(encoding="utf-8").splitlines())
    else:
        labels = inside or tuple(f"class {i}" for i in range(num_classes))
    if len(labels) != num_classes:
        raise ValueError(
            f"{file} must have one line for each of the {num_classes} classes of {path.name}. "
            f"Received: {len(labels)} lines"
        )
    return labels


def _resize(path):
    file = path.with_name("config.json")
    if not file.is_file():
        return "stretch"
    return json.loads(file.read_text(encoding="utf-8")).get("resize", "stretch")
