"""`compress`: a finished model in, a smaller one and its device file out, each stage measured."""

import dataclasses
import importlib.metadata
import pathlib
import time

import keras

from kerastl import export
from kerastl.compression import restore
from kerastl.compression.quantize import is_quantized
from kerastl.data import scan_images, write_skipped
from kerastl.recipes.device_files import rung_name, some_of
from kerastl.recipes.finished import check_probabilities, open_finished, read_pictures, run_name
from kerastl.recipes.run_folder import RunFolder, Silent, free_name
from kerastl.recipes.settings import CompressConfig
from kerastl.recipes.stage_store import StageMeasurements, StageStore
from kerastl.recipes.stages import Task, stages_of
from kerastl.report import draw_stages
from kerastl.training import FineTuner


@dataclasses.dataclass(frozen=True)
class CompressResult:
    """What a compression gave: the model, what `metrics.json` holds, and the folder it lies in."""

    model: keras.Model
    metrics: dict
    folder: pathlib.Path


def compress(model, data, out=None, *, config=None, progress=None, overwrite=False, **settings):
    """Make a finished model small and write its run folder: channels, zeros, 8 bits, in this order.

    Each stage trains on the training pictures of `data` and is written as a file, which is
    compared with its model and with the stage before on the pictures held out. Without `qat` the
    int8 file is calibrated, and where it loses more than `max_drop` of the accuracy, layers stay
    in float. `max_drop` is judged on `val/` or the pictures held back by `validation`, else on
    those that train; the pictures held out decide nothing.

    One that is stopped, by Ctrl-C or a kill, goes on when it is called again with the same
    arguments, and ends with the weights of one that was never stopped.

    Args:
        model: A run folder or a `.keras` file, of a model that takes RGB pixels 0 to 255 and gives
            one probability a class.
        data: Folder of pictures as `fine_tune` takes it, with the classes of the model.
        out: Folder to write. None makes a new one under `saved_models/`.
        config: `CompressConfig`. None makes one from `settings`.
        progress: Object with the methods of `tune.progress.Silent`; None for silence.
        overwrite: Boolean, whether an earlier run at `out` is replaced, and an unfinished one of
            other arguments removed.
        **settings: Fields of `CompressConfig`, such as `prune=0.6, qat=True`.

    Returns:
        `CompressResult`. The folder holds `model.keras`, `model.tflite`, `float.tflite` (the same
        weights in float32), `labels.txt`, `config.json`, `metrics.json`, whose `rows` has one row
        a stage, `stages.png`, and `skipped.csv` if files were skipped.

    Raises:
        ValueError, OSError: For settings, a model or data that cannot be used, before training.
        RuntimeError: If no file keeps the accuracy.
        FloatingPointError: If a loss is no longer a number.
    """
    if config is not None and settings:
        raise ValueError(f"Give either `config` or settings. Received both: {sorted(settings)}")
    config = config or CompressConfig(**settings)
    progress = progress or Silent()
    started = time.perf_counter()
    scan_images(data)  # what is wrong with the folders is told before anything is loaded
    progress.stage("Loading the model")
    finished = open_finished(model)
    seed = config.seed if config.seed is not None else finished.seed or 0
    config = dataclasses.replace(config, seed=seed)
    job = _job(finished, data, config)
    out = out or free_name("saved_models", f"{run_name(model)}-compressed", job)
    with RunFolder(out, overwrite=overwrite, job=job) as run:
        keras.utils.set_random_seed(seed)
        progress.stage("Reading pictures")
        images = _read(finished, data, config, progress)
        smaller, plain, trail, histories = _through_stages(finished, images, config, progress, run)
        progress.stage("Writing and checking model.tflite")
        notices = write_int8(run, smaller, trail, images, config)
        export.to_litert(plain, run.file("float.tflite"), labels=images.class_names)
        progress.stage("Measuring")
        rows = trail.rows()
        metrics = {
            "accuracy": rows[-1]["accuracy"],
            "rows": rows,
            "notices": [*images.notices, *notices, *lost(rows, config)],
            "num_examples": len(images.test),
            "num_train": len(images.train),
            "num_skipped": len(images.skipped),
            "seconds": round(time.perf_counter() - started, 1),
        }
        smaller = FineTuner.from_model(smaller)  # without the state of its optimizer
        write_run(run, smaller, finished, images, config, histories)
        draw(run, rows, finished, images)
        run.write_json("metrics.json", metrics)
    return CompressResult(smaller, metrics, pathlib.Path(out))


def _job(finished, data, config):
    """What a compression depends on: a stopped one is gone on with only by the same."""
    path = finished.path.resolve()
    return {
        "model": [str(path), path.stat().st_mtime_ns],
        "data": str(pathlib.Path(data).resolve()),
        "config": dataclasses.asdict(config),
    }


def _read(finished, data, config, progress):
    if is_quantized(finished.model):
        raise ValueError(
            f"{finished.path} was trained with quantization in the loop already. Compress the "
            "model it was made of, whose path is the `source` in the config.json beside it."
        )
    images = read_pictures(
        finished,
        data,
        validation=config.validation,
        seed=config.seed,
        strict=config.strict,
        cache_dir=config.cache_dir,
        progress=progress.count,
    )
    check_probabilities(finished, images.test.images)
    return images


def _through_stages(finished, images, config, progress, run):
    """The model after all stages, the same without rounding, the `Trail`, and the histories."""
    model, histories = FineTuner.from_model(finished.model), {}
    plain, trail = model, StageMeasurements(images, run.work)
    progress.stage("Measuring the model as it is")
    trail.add_model("float", model)
    stages = stages_of(config)
    # Opened once more: the stages change the weights of the one that is open.
    teacher = open_finished(finished.path).model if stages and config.distill else None
    task = Task(images, config, teacher, progress)
    kept = StageStore(run.work)
    for number, stage in enumerate(stages):
        if number:  # the same whether the stages before ran in this process or an earlier one
            keras.utils.set_random_seed(config.seed + number)
        done = kept.load(stage.name)
        progress.stage(f"{stage.what}{': done before' if done else ''}", config.epochs)
        model, histories[stage.name] = done or _run(stage, plain, task, kept)
        trail.add_model(stage.name, model, as_file=not stage.rounds)
        plain = restore(model, plain) if stage.rounds else model
    return model, plain, trail, histories


def _run(stage, model, task, kept):
    task = dataclasses.replace(task, checkpoints=kept.checkpoints(stage.name))
    changed, history = stage.run(model, task)
    kept.save(stage.name, changed, history)
    return changed, history


PACKAGES = (
    "kerastl",
    "tensorflow",
    "keras",
    "tf-keras",
    "tensorflow-model-optimization",
    "ai-edge-litert",
)


def write_run(run, model, finished, images, config, histories):
    """Write all but the device files and what was measured.

    Args:
        run: `RunFolder`.
        model: The Keras model after all stages.
        finished: `Finished`, where it came from.
        images: `ImageData`.
        config: `CompressConfig`.
        histories: Dict from stage to the history of its training.
    """
    model.save(run.file("model.keras"))
    run.write_lines("labels.txt", images.class_names)
    run.write_json(
        "config.json",
        {
            "config": dataclasses.asdict(config),
            "source": str(finished.path.resolve()),
            "split_seed": config.seed if finished.seed is None else finished.seed,
            "image_size": images.image_size,
            "resize": images.resize,
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
            "history": histories,
        },
    )
    if images.skipped:
        write_skipped(run.file("skipped.csv"), images.skipped)


def lost(rows, config):
    """Lines that say so where the last file lost more than it might on the pictures held out."""
    before, last = [row for row in rows if row["name"] != "qat"][-2:]
    drop = before["accuracy"] - last["accuracy"]
    if drop <= config.max_drop:
        return []
    return [
        f"model.tflite loses {100 * drop:.1f} points of accuracy on the pictures held out, more "
        f"than the {100 * config.max_drop:.1f} it may, which was judged on other pictures."
    ]


def draw(run, rows, finished, images):
    """Draw `stages.png`."""
    count = len(images.test)
    title = f"{finished.name}: accuracy on {count} pictures held out, against bytes"
    known = [{**row, "num_examples": count} for row in rows]
    draw_stages(known, run.file("stages.png"), title=title)


def write_int8(run, model, trail, images, config):
    """Write `model.tflite` in 8 bits into `run`, and add it to `trail`.

    Args:
        run: `RunFolder`.
        model: The Keras model after all stages.
        trail: `Trail` of the stages.
        images: `ImageData`.
        config: `CompressConfig`.

    Returns:
        List of lines for the user.

    Raises:
        RuntimeError: If no file keeps the accuracy.
    """
    path = run.file("model.tflite")
    if config.qat:
        name, notices = "int8", []
        export.to_litert(model, path, quantization="int8", labels=images.class_names)
    else:
        name, notices = _within(path, model, images, config)
    trail.add_file(name, path, model)
    return notices


def _within(path, model, images, config):
    """Write the first file of the ladder that keeps the accuracy; its name, and what to say."""
    judged = images.val if len(images.val) else images.train
    ladder = export.to_litert_within(
        model,
        path,
        *some_of(judged),
        max_drop=config.max_drop,
        representative_data=some_of(images.train),
        class_names=images.class_names,
    )
    chosen = ladder.chosen
    if chosen.name == "int8":
        return "int8", []
    kept = [entry.layer for entry in chosen.kept]
    notice = f"int8 lost more than {config.max_drop:g} of the accuracy. Taken: {ladder.verdict()}"
    if kept:
        notice += f" In float: {', '.join(kept)}."
    return rung_name(chosen), [notice]
