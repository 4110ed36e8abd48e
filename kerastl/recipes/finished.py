"""A finished run opened again: its model, and pictures divided and prepared as it did."""

import dataclasses
import json
import pathlib

import keras
import numpy as np

from kerastl._base import checks
from kerastl.data import load_image_folder, load_image_paths


@dataclasses.dataclass(frozen=True)
class Finished:
    """A model to go on with.

    Attributes:
        model: `keras.Model`.
        labels: Tuple of class names from `labels.txt` beside it, or None.
        resize: How pictures were brought to size in training.
        seed: Int that divided the pictures of its run, or None if that is unknown.
        path: `pathlib.Path` of the `.keras` file.
    """

    model: keras.Model
    labels: tuple | None
    resize: str
    seed: int | None
    path: pathlib.Path

    @property
    def name(self):
        """What to call it: the name of its run folder, or of its file."""
        return run_name(self.path)


def run_name(path):
    """The name of the run folder, or of the `.keras` file, at `path`.

    Example:
        >>> run_name("runs/flowers/model.keras"), run_name("runs/flowers"), run_name("mine.keras")
        ('flowers', 'flowers', 'mine')
    """
    path = pathlib.Path(path).resolve()
    return path.parent.name if path.name == "model.keras" else path.name.removesuffix(".keras")


def open_finished(path):
    """The model of the run folder or the `.keras` file at `path`.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it does not load, or gives no scores of classes.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        path = path / "model.keras"
    if not path.exists():
        raise FileNotFoundError(f"There is no model at {path}. Give a run folder or a .keras file")
    model = load_keras(path)
    labels = None
    if path.with_name("labels.txt").is_file():
        labels = labels_beside(path, model.output_shape[-1])
    return Finished(model, labels, resize_beside(path), _seed_beside(path), path)


def read_pictures(finished, data, *, validation=0.0, seed=None, strict=False, **options):
    """`ImageData` of the folder `data` for the model: its size, its classes in its order.

    What trained the model is told from what did not by the seed of its run, which divides the
    pictures where the folders do not.

    Args:
        finished: `Finished`.
        data: Folder of class folders, or one with `train/` and `val/` or `test/` in it.
        validation: Float in [0, 0.5], share of the training pictures held back.
        seed: Int that divides the pictures of a model of unknown seed.
        strict: Boolean, whether unreadable files are refused.
        **options: `cache_dir` and `progress` of `load_image_folder`.

    Raises:
        ValueError: If the model takes no pictures, or the classes are not its own.
    """
    shape = finished.model.input_shape
    takes_pictures(finished.path, shape)
    _check_scores(finished)
    known = finished.seed if finished.seed is not None else seed
    images = load_image_folder(
        data,
        image_size=shape[1:3],
        seed=known or 0,
        strict=strict,
        val_share=validation,
        resize=finished.resize,
        **options,
    )
    return _in_order_of(finished, images, data)


def _check_scores(finished):
    shape = finished.model.output_shape
    if not isinstance(shape, tuple) or len(shape) != 2 or shape[1] < 2:
        raise ValueError(
            "The model must give one score for each of two classes or more, (batch, classes). "
            f"Received: {finished.path} with output shape {shape}"
        )


def check_probabilities(finished, pixels):
    """Refuse a model whose outputs are no probabilities, which cross-entropy is trained on.

    Args:
        finished: `Finished`.
        pixels: A few pictures of shape `(n, height, width, 3)`.

    Raises:
        ValueError: If a row of its outputs does not sum to 1.
    """
    scores = finished.model.predict(np.asarray(pixels[:8], "float32"), verbose=0)
    if (scores < 0).any() or not np.allclose(scores.sum(axis=1), 1, atol=1e-2):
        raise ValueError(
            f"The model must give one probability for each class. {finished.path} gives scores "
            "that are negative or do not sum to 1. Put a softmax behind its last layer."
        )


def _in_order_of(finished, images, data):
    """`images` with the labels that the model's outputs mean."""
    labels = finished.labels or images.class_names
    count = finished.model.output_shape[1]
    if len(labels) != count or set(labels) != set(images.class_names):
        own = f"{count} classes"
        if finished.labels:
            own = f"{own}: {checks.listed(finished.labels, 20)}"
        raise ValueError(
            f"The classes in {data} must be those of {finished.path}, which knows {own}. "
            f"Received: {checks.listed(images.class_names, 20)}"
        )
    number = np.array([labels.index(name) for name in images.class_names])
    parts = {
        name: dataclasses.replace(part, labels=number[part.labels])
        for name in ("train", "val", "test")
        for part in [getattr(images, name)]
    }
    return dataclasses.replace(images, class_names=tuple(labels), **parts)


def _seed_beside(path):
    file = path.with_name("config.json")
    if not file.is_file():
        return None
    said = json.loads(file.read_text(encoding="utf-8"))
    return said.get("split_seed", said.get("config", {}).get("seed"))


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
