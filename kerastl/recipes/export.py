"""`export_model`: a finished model in, a device file that was measured beside the float one out."""

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from kerastl import export
from kerastl._base.checks import one_spelling
from kerastl._base.types import PathLike
from kerastl.backbones import load_causal
from kerastl.compression.quantize import is_quantized
from kerastl.export import Ladder
from kerastl.export import labels as label_file
from kerastl.recipes.device_files import (
    Deployed,
    Entry,
    file_rows,
    for_ranges,
    in_turn,
    names_inside,
    rung_name,
    sizes_of,
)
from kerastl.recipes.finished import Finished, check_range, checked, load_run, read_for
from kerastl.recipes.run_folder import Progress, Silent
from kerastl.tasks import TrainedFor, find_source, said_of
from kerastl.tasks.protocols import DeviceForm, TaskData
from kerastl.tasks.settings import ExportSettings, ReadSettings
from kerastl.tasks.writing import learnt_otherwise


@dataclasses.dataclass(frozen=True)
class ExportResult:
    """What was written, and what it gives and costs.

    Attributes:
        path: String.
        rows: List of dicts as `file_rows` gives them, of the float32 file and of this one; empty
            for other formats than LiteRT. Score and agreement are None without data.
        ladder: `export.Ladder` with `max_drop`, else None.
        judged_on: String, the examples that the ladder judged on, or None.
        notices: List of lines for the user.
        metrics: Dict with `objective` and `score_name`.
    """

    path: str
    rows: list[dict[str, Any]]
    metrics: dict[str, Any]
    ladder: Ladder | None = None
    judged_on: str | None = None
    notices: list[str] = dataclasses.field(default_factory=list)


def export_model(
    model: PathLike,
    out: PathLike | None = None,
    *,
    data: PathLike | None = None,
    settings: ExportSettings | None = None,
    progress: Progress | None = None,
    overwrite: bool = False,
    **options: Any,
) -> "ExportResult":
    """Write the model of a run as a file for a device, and measure it beside the float32 file.

    int8 is calibrated on training examples; the score is that on the examples held out. With
    `max_drop` the ways to quantize are judged on `val/` where `data` has one, else on the
    examples held out.

    Args:
        model: A run folder or a `.keras` file. For files of Hugging Face that of a language model,
            or what `backbones.load_causal` takes.
        out: File to write, a folder for a SavedModel and for files of Hugging Face. None puts it
            beside the model.
        data: Path of data as `fine_tune` takes them. int8, int16x8 and `max_drop` need them; for
            the format `"litert"` alone.
        settings: `ExportSettings`. None makes them from `options`.
        progress: Object with the methods of `run_folder.Silent`; None for silence.
        overwrite: Boolean, whether what lies at `out` is replaced.
        **options: Fields of `ExportSettings`, such as `quantize="int8", max_drop=0.01`.

    Returns:
        `ExportResult`.

    Raises:
        ValueError, OSError: For settings, a model or data that cannot be used.
        RuntimeError: If no file keeps the score, or one does not repeat the model. In each case
            nothing is written.

    Example:
        >>> result = export_model(run, home / "dynamic.tflite", quantize="dynamic")
        >>> [row["name"] for row in result.rows]
        ['float32', 'dynamic']
    """
    settings = ExportSettings.of(settings, options)
    settings.check_format(data)
    progress = progress or Silent()
    progress.stage("Loading the model")
    if settings.format == "huggingface":
        return _transformers(model, out, settings, progress, overwrite=overwrite)
    finished = load_run(model)
    settings = finished.trained_for.settled(settings, finished.path)
    settings.check_data(data, has_ranges=is_quantized(finished.model))
    out = free(out or default_out(finished.path, settings), settings, overwrite)
    form = finished.trained_for.on_device(finished.model, settings.length)
    if form.prepare is not None:
        form.prepare.check_beside(out.parent)
    if settings.format != "litert":
        return _portable(finished, form, out, settings, progress)
    examples: Any = None
    notices = []
    if data is not None:
        loaded, finished = finished, checked(finished, settings.input_range)
        progress.stage(f"Reading {finished.trained_for.prepare.noun}")
        plain = ReadSettings()
        source = find_source(data)
        examples = read_for(finished, source, plain, seed=settings.seed, progress=progress.count)
        notices = check_range(
            loaded,
            examples,
            asked=settings.input_range is not None,
            calibrates=settings.quantize in ("int8", "int16x8") and not is_quantized(loaded.model),
        )
    if form.prepare is not None:
        notices += form.prepare.device_notices(examples)
    job = _Job(finished, form, examples, out, settings)
    return dataclasses.replace(_litert(job, progress), notices=notices)


@dataclasses.dataclass(frozen=True, eq=False)
class _Job:
    """What is written, from what and where.

    Attributes:
        finished: `Finished`.
        form: `DeviceForm` of its model.
        examples: `TaskData` as the model takes them, or None.
        out: Path.
        settings: `ExportSettings`.
    """

    finished: Finished
    form: DeviceForm
    examples: TaskData | None
    out: pathlib.Path
    settings: ExportSettings


def _litert(job, progress):
    finished, out, examples = job.finished, job.out, job.examples
    labels = _names(finished) if examples is None else names_inside(examples)
    keep_labels(out, labels)
    deployed: Any = examples and Deployed.of(finished.model, examples, job.form)
    with tempfile.TemporaryDirectory() as work:
        progress.stage("Converting to float32, to compare with")
        files = _float_file(finished, job.form, work)
        progress.stage(f"Writing and checking {out.name}")
        if job.form.prepare is not None:
            job.form.prepare.write_beside(out.parent)
        ladder: Any
        ladder, judged_on = _written(job, deployed, labels)
        progress.stage("Measuring")
        name = rung_name(ladder.chosen) if ladder else job.settings.quantization or out.name
        files[name] = str(out)
        rows = _made_up_rows(files) if examples is None else _rows(files, deployed.data)
    return ExportResult(str(out), rows, _metrics(finished), ladder, judged_on)


def _metrics(finished):
    return said_of(finished.trained_for.objective)


def _names(finished):
    """Names of the model's outputs for the inside of a file, or None."""
    known = finished.trained_for
    return known.objective.names_inside(known.outputs) if known.outputs else None


def _float_file(finished, form, work):
    """The network in float32 as a dict from name to path, empty where it cannot be had."""
    if not is_quantized(finished.model):
        path = os.path.join(work, "float.tflite")
        return {"float32": export.to_litert(form.model, path)}
    beside = finished.path.with_name("float.tflite")  # what was trained with rounding has no other
    return {"float32": str(beside)} if beside.is_file() else {}


def _written(job, deployed: Any, labels):
    """Write the file; return the `Ladder` and what it judged on, or twice None."""
    settings, model = job.settings, job.form.model
    if settings.max_drop is None:
        calibration = None
        if deployed is not None and settings.quantization and not is_quantized(model):
            calibration = for_ranges(deployed.data)
        export.to_litert(
            model,
            job.out,
            quantization=settings.quantization,
            io_dtype=settings.io_dtype,
            representative_data=calibration,
            labels=labels,
            carried=deployed.carried if deployed else job.finished.trained_for.carried(job.form),
        )
        return None, None
    data = deployed.data  # there are some where there is `max_drop`
    has_val = len(data.val) > 0
    held = data.val if has_val else data.test
    ladder = deployed.write_within(job.out, held, settings.quantize, settings.max_drop)
    return ladder, "val/" if has_val else f"the {data.prepare.noun} held out"


def _transformers(model, out, settings, progress, *, overwrite):
    """A language model as files of Hugging Face."""
    _refuse_others(model)
    out = free(out or default_out(pathlib.Path(model), settings), settings, overwrite)
    lm = load_causal(model)
    progress.stage(f"Writing and checking {out.name}")
    return ExportResult(export.to_transformers(lm, out), [], {})


def _refuse_others(model):
    """Refuse a run that has not learnt to write before anything is loaded."""
    if not learnt_otherwise(model):
        return
    path = pathlib.Path(model)
    known = TrainedFor.beside(path / "model.keras" if path.is_dir() else path)
    learnt = "is no run" if known.inferred else f"learnt {known.objective.name}"
    raise ValueError(
        "The format 'huggingface' (--format) is for language models alone: the folder of a run "
        f"that learnt to write, or a preset. Received: {path}, which {learnt}"
    )


def _portable(finished, form, out, settings, progress):
    progress.stage(f"Writing and checking {out.name}")
    write = export.to_onnx if settings.format == "onnx" else export.to_saved_model
    return ExportResult(write(form.model, out), [], _metrics(finished))


def _rows(files, examples):
    entries = [Entry.of_file(name, path) for name, path in files.items()]
    return file_rows(entries, examples.test, examples.objective)


def _made_up_rows(files):
    """Rows without a score: nobody gave examples to measure it on."""
    runners = [export.LiteRTModel(path, threads=1) for path in files.values()]
    example = {tensor.name: _zeros(tensor) for tensor in runners[0].inputs}
    times = in_turn(runners, example)
    unknown = {"score": None, "agreement": None, "max_abs_error": None}
    return [
        {"name": name, **unknown, **sizes_of(path), "ms": time}
        for (name, path), time in zip(files.items(), times, strict=True)
    ]


def _zeros(tensor):
    return np.zeros([size or 1 for size in tensor.shape], tensor.dtype)


ENDINGS = {"litert": ".tflite", "onnx": ".onnx", "saved_model": "", "huggingface": ""}


def default_out(path: pathlib.Path, settings: ExportSettings) -> pathlib.Path:
    """The path beside the model at `path` that says what the file is."""
    stem = path.with_suffix("")
    if settings.format in ("saved_model", "huggingface"):
        return stem.with_name(f"{stem.name}-{settings.format}")
    kind = "" if settings.format == "onnx" else f"-{settings.quantization or 'float'}"
    return stem.with_name(f"{stem.name}{kind}{ENDINGS[settings.format]}")


def free(out: PathLike, settings: ExportSettings, overwrite: bool) -> pathlib.Path:
    """`out` as a path that may be written; told before any work.

    Raises:
        ValueError: If it has not the ending of its format.
        FileExistsError: If something is there and is not to be replaced.
        OSError: If one may not write there.
    """
    out, ending = pathlib.Path(out), ENDINGS[settings.format]
    if not out.name.endswith(ending):
        raise ValueError(f"`out` must end in {ending} (--out). Received: out={str(out)!r}")
    if not os.access(out.resolve().parent, os.W_OK | os.X_OK):
        raise OSError(f"{out} cannot be written: {out.parent} is no folder one may write in.")
    if os.path.lexists(out) and not overwrite:
        raise FileExistsError(
            f"{out} exists already. Pass --overwrite to replace it, or choose another with --out."
        )
    return out


def keep_labels(out: pathlib.Path, labels: Sequence[str] | None) -> None:
    """Refuse to put `labels` beside `out` where other ones lie.

    Raises:
        FileExistsError: If they do.
    """
    file = out.with_name("labels.txt")
    if labels is None or not file.is_file():
        return
    there = label_file.beside(out) or ()
    if tuple(map(one_spelling, there)) != tuple(map(one_spelling, labels)):
        raise FileExistsError(
            f"{file} holds other classes than the model's, whose names lie beside its file. "
            "Choose another folder with --out."
        )
