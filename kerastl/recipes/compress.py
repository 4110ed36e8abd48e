"""`compress`: a finished model in, a smaller one and its device file out, each stage measured."""

import dataclasses
import importlib.metadata
import pathlib
import time
from typing import Any

import keras

from kerastl._base.types import PathLike
from kerastl.compression import restore
from kerastl.compression.quantize import is_quantized
from kerastl.data import write_skipped
from kerastl.recipes.device_files import Deployed, rung_name
from kerastl.recipes.finished import (
    check_outputs,
    check_range,
    checked,
    load_run,
    read_for,
    run_name,
)
from kerastl.recipes.run_folder import Progress, RunFolder, Silent, free_name
from kerastl.recipes.stage_store import StageMeasurements, StageStore
from kerastl.recipes.stages import StageJob, stages_of
from kerastl.report import draw_stages
from kerastl.tasks import find_source, said_of
from kerastl.tasks.settings import CompressSettings
from kerastl.training import FineTuner

PACKAGES = (
    "kerastl",
    "tensorflow",
    "keras",
    "tf-keras",
    "tensorflow-model-optimization",
    "ai-edge-litert",
)


@dataclasses.dataclass(frozen=True)
class CompressResult:
    """What a compression gave: the model, what `metrics.json` holds, and the folder it lies in."""

    model: keras.Model
    metrics: dict[str, Any]
    folder: pathlib.Path


def compress(
    model: PathLike,
    data: PathLike,
    out: PathLike | None = None,
    *,
    settings: CompressSettings | None = None,
    progress: Progress | None = None,
    overwrite: bool = False,
    **options: Any,
) -> "CompressResult":
    """Make a finished model small and write its run folder: channels, zeros, 8 bits, in this order.

    Each stage trains on the training examples of `data` and is written as a file, which is
    compared with its model and with the stage before on the examples held out. Without `qat` the
    int8 file is calibrated, and where it loses more than `max_drop` of the score, layers stay
    in float. `max_drop` is judged on `val/` or the examples held back by `validation`, else on
    those that train; the examples held out decide nothing.

    One that is stopped, by Ctrl-C or a kill, goes on when it is called again with the same
    arguments, and ends with the weights of one that was never stopped.

    Args:
        model: A run folder or a `.keras` file; of a model of unknown origin it must give one
            probability a class.
        data: Path of data as `fine_tune` takes them, with the classes of the model.
        out: Folder to write. None makes a new one under `saved_models/`.
        settings: `CompressSettings`. None makes them from `options`.
        progress: Object with the methods of `run_folder.Silent`; None for silence.
        overwrite: Boolean, whether an earlier run at `out` is replaced, and an unfinished one of
            other arguments removed.
        **options: Fields of `CompressSettings`, such as `prune=0.6, qat=True`.

    Returns:
        `CompressResult`. The folder holds `model.keras`, `model.tflite`, `float.tflite` (the same
        weights in float32), `labels.txt` where outputs have names, `task.json`, `config.json`,
        `metrics.json`, whose `rows` has one row a stage, `stages.png`, and `skipped.csv` if files
        were skipped.

    Raises:
        ValueError, OSError: For settings, a model or data that cannot be used, before training.
        RuntimeError: If no file keeps the score.
        FloatingPointError: If a loss is no longer a number.

    Example:
        >>> options = {"prune_channels": 0.3, "epochs": 1, "augment": "none", "max_drop": 1.0}
        >>> result = compress(run, pictures, home / "small", **options)
        >>> [row["name"] for row in result.metrics["rows"]]
        ['float', 'channels', 'int8']
    """
    settings = CompressSettings.of(settings, options)
    progress = progress or Silent()
    started = time.perf_counter()
    source = find_source(data)  # what is wrong with the data is told before anything is loaded
    progress.stage("Loading the model")
    loaded = load_run(model)
    settings = loaded.trained_for.settled(settings, loaded.path)
    finished, settings = _ready(loaded, settings)
    known, seed = finished.trained_for, settings.seed
    job = _job(finished, data, settings)
    out = out or free_name("saved_models", f"{run_name(model)}-compressed", job)
    with RunFolder(out, overwrite=overwrite, job=job) as run:
        keras.utils.set_random_seed(seed)
        progress.stage(f"Reading {known.prepare.noun}")
        examples = _read(finished, source, settings, progress)
        check_range(loaded, examples, asked=settings.input_range is not None)
        smaller, plain, measured, histories = _through_stages(
            finished, examples, settings, progress, run
        )
        progress.stage("Writing and checking model.tflite")
        notices = _write_int8(run, smaller, measured, examples, settings)
        Deployed.of(plain, examples).write(run.file("float.tflite"))
        progress.stage("Measuring")
        rows = measured.rows()
        metrics = {
            **said_of(examples.objective),
            "score": rows[-1]["score"],
            "examples": known.prepare.noun,
            "rows": rows,
            "notices": [
                *examples.notices,
                *notices,
                *_lost(rows, settings, examples),
                *_grown(rows),
            ],
            "num_examples": len(examples.test),
            "num_train": len(examples.train),
            "num_skipped": len(examples.skipped),
            "seconds": round(time.perf_counter() - started, 1),
        }
        smaller = FineTuner.from_model(smaller)  # without the state of its optimizer
        told = {"data": job["data"], "history": histories}
        _write_run(run, smaller, finished, examples, settings, told)
        _draw(run, rows, finished, examples)
        run.write_json("metrics.json", metrics)
    return CompressResult(smaller, metrics, pathlib.Path(out))


def _ready(loaded, settings):
    """The run `loaded`, checked, and `settings` with the seed that divides its examples."""
    finished = checked(loaded, settings.input_range)
    known = finished.trained_for
    known.prepare.check_training(finished.path)
    seed = settings.seed if settings.seed is not None else known.seed or 0
    return finished, dataclasses.replace(settings, seed=seed)


def _job(finished, data, settings):
    """What a compression depends on: a stopped one is gone on with only by the same."""
    path = finished.path.resolve()
    return {
        "model": [str(path), path.stat().st_mtime_ns],
        "data": str(pathlib.Path(data).resolve()),
        "config": settings.to_dict(),
    }


def _read(finished, source, settings, progress):
    if is_quantized(finished.model):
        raise ValueError(
            f"{finished.path} was trained with quantization in the loop already. Compress the "
            "model it was made of, whose path is the `source` in the config.json beside it."
        )
    examples = read_for(finished, source, settings, seed=settings.seed, progress=progress.count)
    examples.objective.check_data(examples)
    check_outputs(finished, examples)
    return examples


def _through_stages(finished, examples, settings, progress, run):
    """The model after all stages, the same without rounding, their measurements and histories."""
    model, histories = FineTuner.from_model(finished.model), {}
    plain, measured = model, StageMeasurements(examples, run.work)
    progress.stage("Measuring the model as it is")
    measured.add_model("float", model)
    stages = stages_of(settings)
    # Opened once more: the stages change the weights of the one that is open.
    teacher = load_run(finished.path).model if stages and settings.distill else None
    job = StageJob(examples, settings, teacher, progress)
    store = StageStore(run.work)
    for number, stage in enumerate(stages):
        if number:  # the same whether the stages before ran in this process or an earlier one
            keras.utils.set_random_seed(settings.seed + number)
        done = store.load(stage.name)
        progress.stage(f"{stage.what}{': done before' if done else ''}", settings.epochs)
        model, histories[stage.name] = done or _run(stage, plain, job, store)
        measured.add_model(stage.name, model, as_file=not stage.rounds)
        plain = restore(model, plain) if stage.rounds else model
    return model, plain, measured, histories


def _run(stage, model, job, store):
    job = dataclasses.replace(job, checkpoints=store.checkpoints(stage.name))
    changed, history = stage.run(model, job)
    store.save(stage.name, changed, history)
    return changed, history


def _write_int8(run, model, measured, examples, settings):
    """Write `model.tflite` in 8 bits into `run`, and add it to `measured`; lines for the user."""
    path, deployed = run.file("model.tflite"), Deployed.of(model, examples)
    deployed.form.prepare.write_beside(path.parent)
    if settings.qat:
        name, notices = "int8", []
        deployed.write(path, quantization="int8")
    else:
        name, notices = _within(path, deployed, settings)
    measured.add_file(name, path, model, deployed)
    return [*notices, *examples.prepare.device_notices(examples)]


def _within(path, deployed, settings):
    """Write the first file of the ladder that keeps the score; its name, and what to say."""
    examples, first = deployed.data, deployed.form.smallest
    judged = examples.val if len(examples.val) else examples.train
    ladder = deployed.write_within(path, judged, first, settings.max_drop)
    chosen: Any = ladder.chosen  # without one it would have raised
    if chosen.name == first:
        return first, []
    kept = [entry.layer for entry in chosen.kept]
    score_name = examples.objective.score_name
    lost = f"{first} lost more than {settings.max_drop:g} of the {score_name}."
    notice = f"{lost} Taken: {ladder.verdict()}"
    if kept:
        notice += f" In float: {', '.join(kept)}."
    return rung_name(chosen), [notice]


def _lost(rows, settings, examples):
    """Lines that say so where the last file lost more than it might on the examples held out."""
    before, last = [row for row in rows if row["name"] != "qat"][-2:]
    drop = before["score"] - last["score"]
    if drop <= settings.max_drop:
        return []
    objective = examples.objective
    lost, may = (
        (f"{100 * drop:.1f} points", f"{100 * settings.max_drop:.1f}")
        if objective.is_share
        else (f"{drop:.3f}", f"{settings.max_drop:.3f}")
    )
    return [
        f"model.tflite loses {lost} of {objective.score_name} on the {examples.prepare.noun} held "
        f"out, more than the {may} it may, which was judged on other {examples.prepare.noun}."
    ]


def _grown(rows):
    """A line that says why zeros made the float file larger by gzip, where they did."""
    by = {row["name"]: row for row in rows}
    if "pruned" not in by or by["pruned"]["gzip"] <= by["float"]["gzip"]:
        return []
    return [
        "By gzip the pruned float file is larger than the one before: weights that trained have "
        "all digits of float32, and those before had been rounded, as in a float16 file. In 8 bits "
        "both have as many."
    ]


def _write_run(run, model, finished, examples, settings, told):
    """Write all but the device files and what was measured."""
    known = dataclasses.replace(
        finished.trained_for,
        outputs=examples.outputs,
        seed=settings.seed if finished.trained_for.seed is None else finished.trained_for.seed,
    )
    model.save(run.file("model.keras"))
    run.write_task(known)
    run.write_json(
        "config.json",
        {
            "config": settings.to_dict(),
            "source": str(finished.path.resolve()),
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
            **told,
        },
    )
    if examples.skipped:
        write_skipped(run.file("skipped.csv"), examples.skipped)


def _draw(run, rows, finished, examples):
    """Draw `stages.png`."""
    count, score_name = len(examples.test), examples.objective.score_name
    noun = examples.prepare.noun
    title = f"{finished.name}: {score_name} on {count} {noun} held out, against bytes"
    known = [{**row, "num_examples": count} for row in rows]
    draw_stages(
        known,
        run.file("stages.png"),
        score_name=score_name,
        is_share=examples.objective.is_share,
        title=title,
    )
