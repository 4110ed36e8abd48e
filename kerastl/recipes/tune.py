"""`fine_tune`: pictures in, a tuned, evaluated and exported model out."""

import dataclasses
import importlib.metadata
import pathlib
import time

import keras

from kerastl.data import make_dataset, scan_images, write_skipped
from kerastl.graph.flags import count_weights
from kerastl.recipes import training
from kerastl.recipes.device_files import write_device_files
from kerastl.recipes.evaluate import evaluate_probabilities
from kerastl.recipes.run_folder import RunFolder, Silent, free_name
from kerastl.recipes.settings import TuneConfig
from kerastl.report import draw_curves

PACKAGES = ("kerastl", "tensorflow", "keras", "keras-hub", "ai-edge-litert")


@dataclasses.dataclass(frozen=True)
class TuneResult:
    """What a run gave: the model, what `metrics.json` holds, and the folder it lies in."""

    model: keras.Model
    metrics: dict
    folder: pathlib.Path


def fine_tune(data, out=None, *, config=None, progress=None, overwrite=False, **settings):
    """Tune a pretrained network on a folder of pictures and write the run folder.

    A run that is killed or interrupted is gone on with by the same call: it ends with the weights
    of a run that was not, bit for bit on one machine.

    Args:
        data: Folder of class folders, or one with `train/` and `val/` or `test/` in it.
        out: Folder to write. None makes a new one under `saved_models/`.
        config: `TuneConfig`. None makes one from `settings`.
        progress: Object with the methods of `tune.progress.Silent`, such as the command
            line's; None for silence.
        overwrite: Boolean, whether an earlier run at `out` is replaced.
        **settings: Fields of `TuneConfig`, such as `backbone="resnet50", epochs=20`.

    Returns:
        `TuneResult`. The folder holds `model.keras`, `model.tflite`, `labels.txt`, `config.json`,
        `plan.json`, `metrics.json`, `curves.png`, `float.tflite` beside a quantized `model.tflite`,
        and `skipped.csv` if files were skipped. Model and file take RGB pixels 0 to 255 as decoded
        and resized, and give one probability a class.

    Raises:
        ValueError, OSError: For settings, data or weights that cannot be used, before training.
    """
    if config is not None and settings:
        raise ValueError(f"Give either `config` or settings. Received both: {sorted(settings)}")
    config = config or TuneConfig(**settings)
    progress = progress or Silent()
    started = time.perf_counter()
    job = _job(data, config)
    out = out or free_name("saved_models", _run_name(data, config), job)
    scan_images(data)  # what is wrong with the folders is told before anything is loaded
    with RunFolder(out, overwrite=overwrite, job=job) as run:
        keras.utils.set_random_seed(config.seed)
        progress.stage(f"Loading {config.backbone}")
        backbone = training.load_backbone(config)
        progress.stage("Reading pictures")
        images = training.read(data, backbone, config, progress.count)
        model = training.build(
            backbone, len(images.class_names), dropout=config.dropout, name="tuned"
        )
        progress.stage("Training", config.epochs)
        plan, history = training.train(
            model,
            images,
            config,
            callbacks=progress.callbacks(),
            checkpoints=run.work / "checkpoints",
        )
        metrics = _evaluate(model, images, config, history)
        progress.stage("Writing")
        _write(run, model, images, config, plan, history.history)
        if config.export != "none":
            progress.stage("Exporting and checking model.tflite")
            metrics.update(write_device_files(run, model, images, config.export))
        metrics["seconds"] = round(time.perf_counter() - started, 1)
        run.write_json("metrics.json", metrics)
    return TuneResult(model, metrics, pathlib.Path(out))


def _job(data, config):
    """What a run depends on: a stopped one is gone on with only by the same."""
    return {"data": str(pathlib.Path(data).resolve()), "config": dataclasses.asdict(config)}


def _evaluate(model, images, config, history):
    batches = make_dataset(images.test.images, images.test.labels, batch_size=config.batch_size)
    probabilities = model.predict(batches.map(lambda pixels, _: pixels), verbose=0)
    report = evaluate_probabilities(probabilities, images.test.labels, images.class_names)
    return {
        **report,
        "evaluated_on": "held-out pictures that training never saw",
        "image_size": list(images.image_size),
        "num_train": len(images.train),
        "num_val": len(images.val),
        "num_skipped": len(images.skipped),
        "num_weights": count_weights(model),
        "val_accuracy": history.history.get("val_accuracy", [None])[-1],
        "frozen_features": training.cache_summary(history.frozen_features),
        "notices": [*images.notices, *_advice(config)],
        "seed": config.seed,
    }


def _advice(config):
    if config.backbone == "glyphnet" and config.augment != "none":
        return ["Writing means something else in the mirror: --augment none suits glyphnet better."]
    return []


def _write(run, model, images, config, plan, history):
    thaws = plan.resolve(model.groups).thaws
    model.save(run.file("model.keras"))
    run.write_lines("labels.txt", images.class_names)
    plan.save(run.file("plan.json"))
    run.write_json(
        "config.json",
        {
            "config": dataclasses.asdict(config),
            "schedule": thaws,
            "multipliers": plan.phases[-1].multipliers,
            "image_size": images.image_size,
            "resize": images.resize,
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
            "history": history,
        },
    )
    draw_curves(
        history,
        run.file("curves.png"),
        thaws=thaws,
        title=f"{config.backbone}, {config.strategy}: {len(images.train)} pictures",
    )
    if images.skipped:
        write_skipped(run.file("skipped.csv"), images.skipped)


def _run_name(data, config):
    backbone = pathlib.Path(config.backbone.replace(":", "-")).stem
    return f"{pathlib.Path(data).resolve().name}-{backbone}"
