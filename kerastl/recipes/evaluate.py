"""`evaluate`: a model or device file measured on data, beside the others of its run."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from kerastl._base.types import PathLike
from kerastl.recipes.device_files import Entry, file_rows, in_parts
from kerastl.recipes.finished import SEEN, held_out, load_predictor
from kerastl.recipes.run_folder import MARK, Progress, Silent
from kerastl.tasks import said_of

BESIDE = ("model.keras", "float.tflite")


def evaluate(
    model: PathLike,
    data: PathLike,
    *,
    input_range: Sequence[float] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure a model or a device file on data: on their `test/` or `val/` if they have one.

    Args:
        model: A run folder, a `.keras` or a `.tflite` file.
        data: Path, as `fine_tune` takes it.
        input_range: Pair of numbers between which the model takes values, such as `(0, 1)`, if
            neither its run nor the model itself says so.
        progress: Object with the methods of `run_folder.Silent`; None for silence.

    Returns:
        Dict: `score`, `score_name`, and what the objective judges besides; `data`, what was
        measured on; `skipped`, the files that cannot be read; `files`, of a `.tflite` its row of
        `device_files.file_rows` after those of the `model.keras` and the `float.tflite` beside it;
        and `notices`, why one of them is not there, and that the model was trained on the data.

    Raises:
        FileNotFoundError, ValueError: If the model or the data are unusable, or of two tasks.

    Example:
        >>> report = evaluate(run, pictures)
        >>> report["score_name"], report["num_examples"]
        ('accuracy', 40)
    """
    progress = progress or Silent()
    progress.stage("Loading the model")
    predictor = load_predictor(model, input_range)
    known = predictor.trained_for
    progress.stage(f"Reading {known.prepare.noun} and answering")
    found = held_out(known, predictor.path, data, progress=progress.count)
    question = predictor.check_range(found.examples.sample(SEEN)[0])
    objective = found.objective
    if predictor.model is None or objective.solves:
        outputs = in_parts(predictor.predict, found.examples)
    else:
        outputs = objective.outputs_of(predictor.model, found.examples)
    names = known.outputs or ()  # a model without any has numbers for names
    judged = objective.judge(outputs, found.examples.targets, names)
    report = {
        **said_of(objective),
        "score": judged.score,
        **judged.details,
        "data": found.path,
        "skipped": found.skipped,
        "files": [],
        "notices": [],
    }
    if question:
        report["notices"].append(question)
    if not found.is_apart and _trained_on(predictor.path, data):
        report["notices"].append(
            f"{data} is what the model was trained on, and names no part to test on: the score "
            "includes what it was trained on. That of what was held out is in its metrics.json."
        )
    if predictor.path.endswith(".tflite"):
        others, notices = _beside(predictor, input_range)
        report["notices"] += notices
        named = [*others, predictor]
        entries = [Entry(pathlib.Path(one.path).name, _on(known, one), one.path) for one in named]
        report["files"] = file_rows(entries, found.examples, objective)
    return report


def _trained_on(model, data):
    """Whether the run that the file `model` lies in says that it trained on `data`."""
    folder = pathlib.Path(model).parent
    if not all((folder / name).is_file() for name in (MARK, "config.json")):
        return False  # anybody's
    said = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return said.get("data") == str(pathlib.Path(data).resolve())


def _beside(predictor, input_range):
    """Predictors of the other forms of the same run, and why one cannot be compared."""
    found, notices = [], []
    for name in BESIDE:
        path = pathlib.Path(predictor.path).with_name(name)
        if not path.is_file() or path.samefile(predictor.path):
            continue
        try:
            other = load_predictor(path, input_range)
        except (ValueError, FileNotFoundError) as error:  # it lacks what belongs to it
            notices.append(f"{path} is not compared: {error}")
            continue
        ours, theirs = predictor.trained_for, other.trained_for
        if ours.prepare.goes_with(theirs.prepare) and _meaning(theirs) == _meaning(ours):
            found.append(other)
        else:
            notices.append(f"{path} is not compared: it has another input or other classes.")
    return found, notices


def _meaning(known):
    return known.outputs, getattr(known.objective, "reads", None)


def _on(known, predictor):
    """The function of `predictor` on the inputs that device files of `known` take."""
    if predictor.path.endswith(".tflite"):
        return predictor.predict
    return lambda inputs: predictor.predict(known.prepare.for_network(inputs))
