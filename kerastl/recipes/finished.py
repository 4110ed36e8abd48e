"""A finished run opened again: its model, or its device file, and examples prepared as it did."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kerastl._base import checks
from kerastl._base.errors import cause
from kerastl._base.types import OnProgress, PathLike
from kerastl.tasks import Source, TrainedFor, find_source
from kerastl.tasks.protocols import HeldOut, TaskData
from kerastl.tasks.settings import ReadSettings


@dataclasses.dataclass(frozen=True)
class Finished:
    """A model to go on with.

    Attributes:
        model: `keras.Model`.
        trained_for: `TrainedFor`.
        path: `pathlib.Path` of the `.keras` file.
    """

    model: keras.Model
    trained_for: TrainedFor
    path: pathlib.Path

    @property
    def name(self) -> str:
        """What to call it: the name of its run folder, or of its file."""
        return run_name(self.path)


def run_name(path: PathLike) -> str:
    """The name of the run folder, or of the `.keras` file, at `path`.

    Example:
        >>> run_name("runs/flowers/model.keras"), run_name("runs/flowers"), run_name("mine.keras")
        ('flowers', 'flowers', 'mine')
    """
    path = pathlib.Path(path).resolve()
    return path.parent.name if path.name == "model.keras" else path.name.removesuffix(".keras")


def load_run(path: PathLike) -> "Finished":
    """The model of the run folder or the `.keras` file at `path`, and what it was trained for.

    Args:
        path: A run folder, or a `.keras` file of anybody's.

    Returns:
        `Finished`: its `model`, and in `trained_for` the names of its outputs, how examples are
        prepared for it and what its answers mean.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it does not load.

    Example:
        >>> load_run(run).trained_for.outputs
        ('dark', 'light')
    """
    path = _existing(path, "Give a run folder or a .keras file")
    model = load_keras(path)
    return Finished(model, TrainedFor.beside(path), path)


def read_for(
    finished: "Finished",
    source: Source,
    settings: ReadSettings,
    *,
    seed: int | None = None,
    progress: OnProgress | None = None,
) -> TaskData:
    """`TaskData` of a source for a finished model: in its form, in the order of its outputs.

    What trained the model is told from what did not by the seed of its run, which divides the
    examples where the data do not.

    Args:
        finished: `Finished`.
        source: `Source`, as `find_source` found it.
        settings: `tasks.settings.ReadSettings`.
        seed: Int that divides the examples of a model of unknown seed.
        progress: Called as `progress(done, total)`.

    Raises:
        ValueError: If the data are for another kind of answer, or have other classes.
    """
    known = checked(finished).trained_for
    _check_same_objective(finished.path, known, source)
    divides = known.seed if known.seed is not None else seed or 0
    read = source.read(known.prepare, settings, seed=divides, progress=progress)
    names = known.outputs or read.outputs
    count = finished.model.output_shape[-1]
    if len(names) != count or set(names) != set(read.outputs):
        own = f"{count} outputs"
        if known.outputs:
            own = f"{own}: {checks.listed(known.outputs, 20)}"
        raise ValueError(
            f"The classes in {source.path} must be those of {finished.path}, which knows {own}. "
            f"Received: {checks.listed(read.outputs, 20)}"
        )
    parts = {
        name: part.with_targets(read.objective.aligned(part.targets, read.outputs, names))
        for name in ("train", "val", "test")
        for part in [getattr(read, name)]
    }
    return dataclasses.replace(read, outputs=tuple(names), **parts)


def checked(finished: "Finished") -> "Finished":
    """`finished` if its model takes and gives what it was trained for, else raise ValueError."""
    shapes = finished.model.input_shape, finished.model.output_shape
    known = finished.trained_for.check(finished.path, *shapes)
    return dataclasses.replace(finished, trained_for=known)


def check_outputs(finished: "Finished", data: TaskData) -> None:
    """Refuse a model whose outputs its objective cannot be trained on.

    Args:
        finished: `Finished`.
        data: `TaskData`, of which a few examples are tried.
    """
    outputs = finished.model.predict(data.test.inputs(slice(0, 8)), verbose=0)
    finished.trained_for.objective.check_outputs(finished.path, outputs)


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A model or a device file, ready for examples.

    Attributes:
        predict: Function from inputs to outputs.
        trained_for: `TrainedFor`, whose `outputs` are named, by number if nobody knows better.
        path: The file it came from, a string.
    """

    predict: Callable[[Any], Any]
    trained_for: TrainedFor
    path: str


def load_predictor(path: PathLike) -> "Predictor":
    """The model at `path`: a run folder, a `.keras` or a `.tflite` file.

    `task.json` beside it says how examples are prepared and what answers mean; names of outputs
    are those inside a `.tflite`, else of `labels.txt` beside it, else numbers.

    Raises:
        FileNotFoundError: If there is nothing at `path`.
        ValueError: If it is no model, or not one from examples to answers.
    """
    path = _existing(path, "Give a run folder, a .keras or a .tflite file")
    read = _tflite if path.suffix == ".tflite" else _keras_file
    inputs: Any
    outputs: Any
    inputs, outputs, predict, inside = read(path)
    known = TrainedFor.beside(path, inside).check(path, inputs, outputs)
    if known.outputs is None:
        numbered = tuple(f"class {i}" for i in range(outputs[-1]))
        known = dataclasses.replace(known, outputs=numbered)
    return Predictor(predict, known, str(path))


def load_keras(path: PathLike) -> keras.Model:
    """The Keras model in the `.keras` file at `path`, not compiled; a clear error if none."""
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. Give the path of a .keras file")
    if path.suffix != ".keras":
        raise ValueError(f"The model must be a .keras file. Received: {path}")
    try:
        model: Any = keras.models.load_model(path, compile=False)
        return model
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise ValueError(f"{path} is not a .keras file that loads here: {cause(error)}") from error


def held_out(
    trained_for: TrainedFor, path: PathLike, data: PathLike, *, progress: OnProgress | None = None
) -> HeldOut:
    """`HeldOut` of the data at the path `data`, with targets in the order of the model's outputs.

    Args:
        trained_for: `TrainedFor`, with outputs.
        path: Of the model, for messages.
        data: Path, as `fine_tune` takes it.
        progress: Called as `progress(done, total)`.

    Raises:
        ValueError: If the data have a class that the model does not know.
    """
    source = find_source(data)
    _check_same_objective(path, trained_for, source)
    found = source.read_held_out(trained_for.prepare, progress=progress)
    names: Any = trained_for.outputs
    objective = trained_for.objective
    unknown = [name for name in found.outputs if name not in names]
    if unknown and objective.companions(names):
        raise ValueError(
            f"Every class in {data} must be one that the model knows: "
            f"{checks.listed(names, 20)}. Received also: {checks.listed(unknown)}"
        )
    targets = objective.aligned(np.asarray(found.examples.targets), found.outputs, names)
    return dataclasses.replace(found, outputs=names, examples=found.examples.with_targets(targets))


def _check_same_objective(path, known, source):
    if known.objective.name != source.objective.name:
        raise ValueError(
            f"The model {path} learnt {known.objective.name}; the data must be for that. "
            f"Received: {source.path}, which is for {source.objective.name}"
        )


def _existing(path, what):
    """The model's file at `path`, a file or a run folder."""
    path = pathlib.Path(path)
    if path.is_dir():
        path = path / "model.keras"
    if not path.exists():
        raise FileNotFoundError(f"There is no model at {path}. {what}")
    return path


def _keras_file(path):
    model = load_keras(path)

    def predict(inputs):
        return model.predict(inputs, batch_size=32, verbose=0)

    return model.input_shape, model.output_shape, predict, None


def _tflite(path):
    from kerastl.export import LiteRTModel

    model = LiteRTModel(path)
    inputs, outputs = ((None, *tensors[0].shape[1:]) for tensors in (model.inputs, model.outputs))
    return inputs, outputs, model.predict, model.labels
