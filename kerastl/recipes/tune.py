"""`fine_tune`: data in, a tuned, evaluated and exported model out."""

import dataclasses
import importlib.metadata
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import keras

from kerastl._base.types import PathLike
from kerastl.data import write_skipped
from kerastl.graph.flags import count_weights
from kerastl.recipes import adapting, training
from kerastl.recipes.device_files import write_device_files
from kerastl.recipes.learn import learn
from kerastl.recipes.run_folder import Progress, RunFolder, Silent, free_name
from kerastl.recipes.unlabelled import learn_unlabelled
from kerastl.report import draw_curves
from kerastl.tasks import TaskData, TrainedFor, find_source, paired, said_of
from kerastl.tasks.settings import StrategySettings, TrainSettings, TuneSettings

PACKAGES = ("kerastl", "tensorflow", "keras", "keras-hub", "ai-edge-litert")


@dataclasses.dataclass(frozen=True)
class TuneResult:
    """What a run gave: the model, what `metrics.json` holds, and the folder it lies in."""

    model: keras.Model
    metrics: dict[str, Any]
    folder: pathlib.Path


def fine_tune(
    data: PathLike,
    out: PathLike | None = None,
    *,
    settings: TuneSettings | None = None,
    progress: Progress | None = None,
    overwrite: bool = False,
    **options: Any,
) -> "TuneResult":
    """Tune a pretrained network on a small set of examples and write the run folder.

    The head begins as the regression on frozen features, the probe, and what is trained further is
    kept where training examples that were held back say that it is better.

    What the data are says what is learnt: a folder of class folders, one class each; a table with
    the columns `file` and `labels`, any number of labels each; `file` and `value`, a number. With
    running text, or prompts and responses, a language model is trained on, which has no new head:
    it is measured before and after, and the better one is kept.

    A run that is killed or interrupted is gone on with by the same call: it ends with the weights
    of a run that was not, bit for bit on one machine.

    Args:
        data: Folder of class folders, or one with `train/` and `val/` or `test/` in it; or a table
            (`data.scan_table`), or a folder with a `labels.csv` in it; or texts to learn to write
            (`data.scan_lines`).
        out: Folder to write. None makes a new one under `saved_models/`.
        settings: `TuneSettings`. None makes them from `options`.
        progress: Object with the methods of `run_folder.Silent`, such as the command line's;
            None for silence.
        overwrite: Boolean, whether an earlier run at `out` is replaced.
        **options: Fields of `TuneSettings`, such as `backbone="resnet50", epochs=20`.

    Returns:
        `TuneResult`. The folder holds `model.keras`, `model.tflite`, `labels.txt` where outputs
        have names, `task.json` (what is needed to read new examples), `config.json`, `plan.json`,
        `metrics.json`, `curves.png` if anything was trained, `float.tflite` beside a quantized
        `model.tflite`, and `skipped.csv` if files were skipped; that of a language model has no
        files for devices, and `preset/`, with which it writes. Where adapters were trained,
        `adapters.adapter` holds them by themselves, and the others have those of `lora` merged.
        `metrics` has the `probe` (or what the network gave `before`), what was `trained` and their
        paired `difference` on the examples held out, which was `kept` and why (`choice`), and
        `seconds_of` each part, those of processes that were stopped among them. `metrics["score"]`
        is the accuracy, the mean average precision of several labels, the R² of a number or minus
        the bits per byte of text, on examples held out; the others are as the objective judges.

    Raises:
        ValueError, OSError: For settings, data or weights that cannot be used, before training.

    Example:
        >>> options = {"backbone": "glyphnet", "epochs": 2, "augment": "none"}
        >>> result = fine_tune(pictures, home / "tuned", **options)
        >>> sorted(path.name for path in result.folder.iterdir())[:2]
        ['config.json', 'labels.txt']
    """
    progress = progress or Silent()
    started = time.perf_counter()
    asked = TuneSettings.of(settings, options)
    source = find_source(data)  # what is wrong with the data is told before anything is loaded
    settings = source.settled(asked)
    job = {"data": str(pathlib.Path(data).resolve()), "config": settings.to_dict()}
    out = out or free_name("saved_models", run_name_for(data, settings), job)
    with RunFolder(out, overwrite=overwrite, job=job) as run:
        model, examples = training.begin(source, settings, progress)
        reading = time.perf_counter() - started
        further = learn_unlabelled(
            model,
            examples,
            source=source,
            settings=settings,
            folder=run.work,
            progress=progress,
        )
        learnt = learn(model, examples, settings, run.work, progress, source)
        model, examples = learnt.model, learnt.data  # those of finer ones, maybe
        if learnt.adapters is not None and learnt.kept == "trained":
            adapting.finish(model, learnt.adapters, run.file(adapting.FILE))
        metrics = evaluated(model, examples, settings, learnt)
        metrics.update(_beside_rival(source, examples, settings, learnt, progress))
        seconds = {"reading": reading, **learnt.seconds}
        if further is not None:
            metrics["unlabelled"] = further.to_dict()
            metrics["notices"] += further.notices
            seconds["unlabelled"] = further.seconds
        progress.stage("Writing")
        written = time.perf_counter()
        write_run(run, model, examples, settings, learnt, {"data": job["data"]})
        source.write(run.file("model.keras").parent)
        if settings.export not in (None, "none"):
            progress.stage("Exporting and checking model.tflite")
            files = write_device_files(run, model, examples, settings.export)
            metrics["notices"] += files.pop("notices")
            metrics.update(files)
        seconds["writing"] = time.perf_counter() - written
        metrics["seconds_of"] = {name: round(value, 1) for name, value in seconds.items()}
        metrics["seconds"] = round(time.perf_counter() - started + learnt.earlier, 1)
        metrics["seconds_before_a_stop"] = round(learnt.earlier, 1)
        run.write_json("metrics.json", metrics)
    return TuneResult(model, metrics, pathlib.Path(out))


def run_name_for(data: PathLike, settings: TrainSettings) -> str:
    """What to call a run where nobody says."""
    backbone = pathlib.Path(settings.backbone.replace(":", "-")).stem
    data = pathlib.Path(data).resolve()
    return f"{data.name if data.is_dir() else data.stem}-{backbone}"


def evaluated(
    model: keras.Model, data: TaskData, settings: StrategySettings, learnt: Any
) -> dict[str, Any]:
    """What `metrics.json` says of what was `learnt`, a `Learnt`, on the examples held out."""
    objective, history = data.objective, learnt.history
    judged = objective.judge(learnt.of_kept, data.test.targets, data.outputs)
    return {
        **said_of(objective),
        "score": judged.score,
        **judged.details,
        "evaluated_on": f"held-out {data.prepare.noun} that training never saw",
        "examples": data.prepare.noun,
        "prepared": data.prepare.describe(),
        "num_train": len(data.train),
        "num_val": len(data.val),
        "num_skipped": len(data.skipped),
        "strategy": settings.strategy,
        "num_weights": count_weights(model),
        "adapters": learnt.adapters,
        "learning_rate": settings.learning_rate,
        f"val_{objective.metric}": history.get(f"val_{objective.metric}", [None])[-1],
        "frozen_features": training.cache_summary(learnt.frozen_features),
        **learnt.side_by_side(),
        "notices": [*data.notices, *learnt.notices, *_advice(settings, data)],
        "seed": settings.seed,
    }


def _beside_rival(source, data, settings, learnt, progress):
    """What `metrics.json` says of the cheapest way without a network, and of ours beside it."""
    progress.stage("Measuring the cheapest way beside it")
    rival = source.rival(data, settings)
    if rival is None:
        return {}
    objective, targets = data.objective, data.test.targets
    judged = objective.judge(rival.outputs, targets, data.outputs)
    told = {"name": rival.name, "score": judged.score, "loss": judged.loss}
    told["seconds"] = round(rival.seconds, 1)
    told["difference"] = None
    if rival.by_row:
        told["difference"] = paired(objective, learnt.of_kept, rival.outputs, targets).to_dict()
    return {"rival": told}


def _advice(settings, data):
    passes = training.passes_of(settings, len(data.train))
    if passes > 1:
        return [
            f"An epoch of {settings.strategy} was {passes} passes over the {len(data.train)} "
            f"{data.prepare.noun}, as many as make {training.OF_PAIRS} steps: "
            f"{settings.epochs * passes} passes in all."
        ]
    if settings.backbone == "glyphnet" and settings.augment != "none":
        return ["Writing means something else in the mirror: --augment none suits glyphnet better."]
    return []


def write_run(
    run: RunFolder,
    model: keras.Model,
    data: TaskData,
    settings: StrategySettings,
    learnt: Any,
    told: Mapping[str, Any],
) -> None:
    """Write the model of a run and all about it but its metrics; `told` stands in config.json."""
    plan, history = learnt.plan, learnt.history
    thaws = plan.resolve(model.groups).thaws
    model.save(run.file("model.keras"))
    run.write_task(TrainedFor(data.objective, data.prepare, data.outputs, settings.seed))
    plan.save(run.file("plan.json"))
    run.write_json(
        "config.json",
        {
            "config": settings.to_dict(),
            **told,
            "schedule": thaws,
            "multipliers": plan.phases[-1].multipliers if plan.phases else {},
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
            "history": history,
        },
    )
    if history:
        network = pathlib.Path(settings.backbone).name  # of a folder its last part
        draw_curves(
            history,
            run.file("curves.png"),
            metric=data.objective.metric,
            thaws=thaws,
            title=f"{network}, {plan.name}: {len(data.train)} {data.prepare.noun}",
        )
    if data.skipped:
        write_skipped(run.file("skipped.csv"), data.skipped)
