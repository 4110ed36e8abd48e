"""A finished run opened again: its model, or its device file, and examples prepared as it did."""

import dataclasses
import json
import pathlib
import warnings
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from kerastl._base import checks
from kerastl._base.errors import cause
from kerastl._base.files import may_be_read
from kerastl._base.types import OnProgress, PathLike
from kerastl.export.answers import Answers, answers_of, answers_of_file
from kerastl.export.calibration import range_of_file
from kerastl.export.metadata import Carried, read_labels, read_task, read_vocabulary
from kerastl.tasks import Source, TrainedFor, find_source
from kerastl.tasks.prepare_ids import shapes_of
from kerastl.tasks.protocols import HeldOut, TaskData
from kerastl.tasks.settings import ReadSettings

SEEN = 64  # examples at most of which the range is looked at


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
    return Finished(model, _told(TrainedFor.beside(path, answers=_answers(model, path))), path)


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
    known = checked(finished).trained_for.for_data(finished.path, source)
    divides = known.seed if known.seed is not None else seed or 0
    read = source.read(known.prepare, settings, seed=divides, progress=progress)
    names = known.outputs or read.outputs
    count = known.objective.num_names(finished.model.output_shape)
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
    return dataclasses.replace(read, outputs=tuple(names), objective=known.objective, **parts)


def checked(finished: "Finished", input_range: Sequence[float] | None = None) -> "Finished":
    """`finished` if its model takes and gives what it was trained for, else raise ValueError.

    Args:
        finished: `Finished`.
        input_range: Pair of numbers between which the model takes values, if the user says so.
    """
    shapes = shapes_of(finished.model), finished.model.output_shape
    known = finished.trained_for.check(finished.path, *shapes, input_range)
    return dataclasses.replace(finished, trained_for=known)


def check_range(
    finished: "Finished", data: TaskData, *, asked: bool, calibrates: bool = True
) -> list[str]:
    """Refuse to measure ranges on examples, or to train on them, that the model does not take.

    What a run wrote down of its examples is right. Of another model its layers are asked, and
    where these say nothing, the user.

    Args:
        finished: `Finished` as `load_run` gave it, before `checked`.
        data: `TaskData` read for it.
        asked: Bool, whether the user has said what the model takes.
        calibrates: Bool, whether ranges are measured, so that not to know is an error.

    Returns:
        List of lines for the user.

    Raises:
        ValueError: If the examples are others, or nobody says.
    """
    if finished.trained_for.prepare is not None:
        return []
    inputs, _ = data.train.sample(SEEN)
    question = data.prepare.check_range(finished.path, finished.model, inputs, asked)
    if question is None:
        return []
    if calibrates:
        raise ValueError(question)
    return [question]


def check_outputs(finished: "Finished", data: TaskData) -> None:
    """Refuse a model whose outputs its objective cannot be trained on.

    Args:
        finished: `Finished`.
        data: `TaskData`, of which a few examples are tried.
    """
    outputs = finished.model.predict(data.test.inputs(slice(0, 8)), verbose=0)
    data.objective.check_outputs(finished.path, outputs)


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A model or a device file, ready for examples.

    Attributes:
        predict: Function from inputs to outputs.
        trained_for: `TrainedFor`, whose `outputs` are named, by number if nobody knows better.
        path: The file it came from, a string.
        check_range: Function that refuses inputs of another range than the model takes, and tells
            what it does not know: a line for the user, or None.
        model: `keras.Model`, or None of a device file.
    """

    predict: Callable[[Any], Any]
    trained_for: TrainedFor
    path: str
    check_range: Callable[[Any], str | None] = lambda inputs: None
    model: keras.Model | None = None


def load_predictor(path: PathLike, input_range: Sequence[float] | None = None) -> "Predictor":
    """The model at `path`: a run folder, a `.keras` or a `.tflite` file.

    `task.json` beside it says how examples are prepared and what answers mean; names of outputs
    are those inside a `.tflite`, else of `labels.txt` beside it, else numbers.

    Args:
        path: Of the model.
        input_range: Pair of numbers between which it takes values, such as `(0, 1)`. None is what
            its run or the model itself says, else 0 to 255.

    Raises:
        FileNotFoundError: If there is nothing at `path`.
        ValueError: If it is no model, or not one from examples to answers.
    """
    path = _existing(path, "Give a run folder, a .keras or a .tflite file")
    read = _tflite if path.suffix == ".tflite" else _keras_file
    opened = read(path)
    known = _told(TrainedFor.beside(path, opened.names, opened.answers, opened.carried))
    unknown = known.prepare is None
    if opened.model is None and not unknown:
        prepare = known.prepare.of_file(path, opened.input_shape)
        known = dataclasses.replace(known, prepare=prepare)
    known = known.check(path, opened.input_shape, opened.output_shape, input_range)
    prepare: Any = known.prepare
    if unknown:
        prepare.check_file_range(path, opened.taken)
    if known.outputs is None:
        numbered = _numbered(known.objective.num_names(opened.output_shape))
        known = dataclasses.replace(known, outputs=numbered)

    def check_range(inputs):
        if not unknown:
            return None
        if opened.model is None:
            return None if opened.taken or input_range else prepare.question(path)
        return prepare.check_range(path, opened.model, inputs, input_range is not None)

    return Predictor(opened.predict, known, str(path), check_range, opened.model)


def _numbered(count):
    return tuple(f"class {i}" for i in range(count))


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
    source = find_source(data, least=1)
    trained_for = trained_for.for_data(path, source)
    found = source.read_held_out(trained_for.prepare, progress=progress)
    names: Any = trained_for.outputs
    objective = trained_for.objective
    unknown = [name for name in found.outputs if name not in names]
    if unknown and objective.companions(names):
        raise ValueError(
            f"Every class in {data} must be one that the model knows: "
            f"{checks.listed(names, 20)}. Received also: {checks.listed(unknown)}"
            + (
                ""
                if names != _numbered(len(names))
                else f". Put a labels.txt beside {path}, a name a line, in the "
                "order of its outputs."
            )
        )
    targets = objective.aligned(np.asarray(found.examples.targets), found.outputs, names)
    examples = found.examples.with_targets(targets)
    return dataclasses.replace(found, outputs=names, examples=examples, objective=objective)


def _existing(path, what):
    """The model's file at `path`, a file or a run folder."""
    path = pathlib.Path(path)
    if path.is_dir():
        path = path / "model.keras"
    if not path.exists():
        raise FileNotFoundError(f"There is no model at {path}. {what}")
    if not may_be_read(path):
        raise ValueError(f"{path} is no file but a pipe, a socket or a device. {what}")
    return path


@dataclasses.dataclass(frozen=True)
class _Opened:
    """A model's file, opened: what it takes and gives, as far as it says so itself."""

    input_shape: Any
    output_shape: Any
    predict: Callable[[Any], Any]
    answers: Answers | None
    model: keras.Model | None = None
    names: tuple[str, ...] | None = None
    taken: tuple[float, float] | None = None
    carried: Carried | None = None


def _keras_file(path):
    model: Any = load_keras(path)

    def predict(inputs):
        return model.predict(inputs, batch_size=32, verbose=0)

    shapes = shapes_of(model), model.output_shape
    return _Opened(*shapes, predict, _answers(model, path), model)


def _told(known):
    """`known`, whose notices the user is warned by."""
    for line in known.notices:
        warnings.warn(line, stacklevel=3)
    return known


def _answers(model, path):
    """How to read what the model in the `.keras` file at `path` gives; it was not compiled here."""
    answers = answers_of(model, _saved_loss(path))
    return answers[0] if len(answers) == 1 else None


def _saved_loss(path):
    """The configuration of the loss with which the model in a `.keras` file was compiled."""
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    return (config.get("compile_config") or {}).get("loss")


def _tflite(path):
    from kerastl.export import LiteRTModel

    lite = LiteRTModel(path)
    shapes = {tensor.name: (None, *tensor.shape[1:]) for tensor in lite.inputs}
    inputs = shapes if len(shapes) > 1 else next(iter(shapes.values()))
    outputs = (None, *lite.outputs[0].shape[1:])
    content = path.read_bytes()
    task = read_task(content)
    carried = None if task is None else Carried(task, read_vocabulary(content))
    answers = answers_of_file(content, int(outputs[-1] or 1)) if len(lite.outputs) == 1 else None
    taken = range_of_file(content, lite.inputs[0])
    names = read_labels(content)
    return _Opened(inputs, outputs, lite.predict, answers, None, names, taken, carried)
