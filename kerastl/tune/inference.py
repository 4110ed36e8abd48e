"""Use a run: load its model or its file, classify pictures."""

import dataclasses
import json
import pathlib

import keras
import numpy as np

import kerastl
from kerastl.data import load_image_paths


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
    takes_pictures(path, shape)
    labels = labels_beside(path, num_classes, inside)
    return Predictor(predict, labels, tuple(shape[1:3]), resize_beside(path), str(path))


def takes_pictures(path, shape):
    """Refuse the model at `path` if its input shape is not that of pictures of one size."""
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[-1] != 3 or None in shape[1:3]:
        raise ValueError(
            "The model must take pictures of one size, (batch, height, width, 3). "
            f"Received: {path} with input shape {shape}"
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
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise ValueError(f"{path} is not a .keras file that loads here: {_cause(error)}") from error


def _cause(error):
    """What Keras says went wrong, without the configuration of the whole model before it.

    Example:
        >>> _cause(TypeError("config={...}. Exception encountered: No class 'A'. Object: {...}"))
        "No class 'A'"
    """
    return str(error).rpartition("Exception encountered: ")[2].split(". ")[0][:300]


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


def _keras_file(path):
    model = load_keras(path)
    predict = lambda images: model.predict(images, batch_size=32, verbose=0)  # noqa: E731
    return model.input_shape, model.output_shape[-1], predict, None


def _tflite(path):
    from kerastl.export import LiteRTModel

    model = LiteRTModel(path)
    shape = model.inputs[0].shape
    return (None, *shape[1:]), model.outputs[0].shape[-1], model.predict, model.labels


def labels_beside(path, num_classes, inside=None):
    """Class names from `labels.txt` beside `path`, else `inside`, else by number."""
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


def resize_beside(path):
    """How the run beside `path` brought pictures to size; stretched if that is unknown."""
    file = path.with_name("config.json")
    if not file.is_file():
        return "stretch"
    return json.loads(file.read_text(encoding="utf-8")).get("resize", "stretch")
