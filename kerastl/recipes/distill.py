"""`distill`: a large teacher in, a small student out that learnt what it answers."""

import dataclasses
import math
import os
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kerastl._base import checks, files
from kerastl._base.types import PathLike
from kerastl.callbacks import Audit, EvaluateAverages, FollowPlan, Resume
from kerastl.distillation import Distill
from kerastl.graph.flags import count_weights
from kerastl.recipes import training
from kerastl.recipes.device_files import write_device_files
from kerastl.recipes.finished import Finished, check_outputs, check_range, checked, load_run
from kerastl.recipes.learn import Learnt
from kerastl.recipes.run_folder import Progress, RunFolder, Silent, free_name
from kerastl.recipes.solved import Solved
from kerastl.recipes.tune import evaluated, run_name_for, write_run
from kerastl.tasks import TaskData, find_source, paired
from kerastl.tasks.protocols import Examples
from kerastl.tasks.settings import STARTS, DistillSettings

PART = 256  # examples that a teacher is given at once
TEMPERATURE = 2.0  # of probabilities, where nobody says another


@dataclasses.dataclass(frozen=True)
class DistillResult:
    """What a distillation gave: the student, what `metrics.json` holds, and its folder."""

    model: keras.Model
    metrics: dict[str, Any]
    folder: pathlib.Path


@dataclasses.dataclass(frozen=True, eq=False)
class Lesson:
    """What a student learns, and how.

    Attributes:
        data: `TaskData` with labels.
        whole: The same with the examples without labels behind those to train on.
        answers: What the teacher says of these, float32 `(num_examples, outputs)`.
        settings: `DistillSettings`, settled.
    """

    data: TaskData
    whole: TaskData
    answers: np.ndarray
    settings: DistillSettings

    @property
    def temperature(self) -> float:
        """What was said, or what suits what is learnt."""
        if self.settings.temperature is not None:
            return self.settings.temperature
        return 1.0 if self.data.objective.name == "regression" else TEMPERATURE

    @property
    def taught(self) -> TaskData:
        """`whole` with labels as targets where there are some, and answers where there are none."""
        labels = _as_answers(np.asarray(self.data.train.targets), self.answers.shape[1])
        targets = np.concatenate([labels, self.answers[len(labels) :]]).astype("float32")
        return dataclasses.replace(self.whole, train=self.whole.train.with_targets(targets))


def distill(
    teacher: PathLike | Sequence[PathLike],
    data: PathLike,
    out: PathLike | None = None,
    *,
    settings: DistillSettings | None = None,
    progress: Progress | None = None,
    overwrite: bool = False,
    **options: Any,
) -> "DistillResult":
    """Have a student learn what a teacher answers, and write its run folder.

    The teacher answers each example once, prepared as its own run says: of another size, or with
    another vocabulary than the student's. Several teachers answer by the mean of what they say.
    Examples with labels are learnt by both, a `share` of the answers and the rest of labels;
    those of `unlabelled` by the answers alone. The student begins as the regression on its frozen
    features, the probe, which is what labels alone give for nothing, and trains by a strategy.

    A run that is killed or interrupted is gone on with by the same call: it ends with the weights
    of a run that was not, bit for bit on one machine.

    Args:
        teacher: A run folder, a `.keras` file that gives probabilities or numbers, or a sequence
            of such.
        data: Path of data as `fine_tune` takes them, with the classes of the teacher. What is held
            out of them is what was held out when the first teacher was trained.
        out: Folder to write. None makes a new one under `saved_models/`.
        settings: `DistillSettings`. None makes them from `options`.
        progress: Object with the methods of `run_folder.Silent`; None for silence.
        overwrite: Boolean, whether an earlier run at `out` is replaced.
        **options: Fields of `DistillSettings`, such as `student="mobilenet_v3_small"`.

    Returns:
        `DistillResult`. The folder is that of `fine_tune`. `metrics` has, on the examples held out,
        the `teacher`, the student's `probe` and what was `trained`, their paired `difference`, and
        that between the student and the teacher, `beside_teacher`.

    Raises:
        ValueError, OSError: For settings, models or data that cannot be used, before training.
        FloatingPointError: If the loss is no longer a number.

    Example:
        >>> options = {"student": "glyphnet", "epochs": 1, "export": "none"}
        >>> result = distill(run, pictures, home / "student", **options)
        >>> sorted({"teacher", "probe", "trained"} & set(result.metrics))
        ['probe', 'teacher', 'trained']
    """
    progress = progress or Silent()
    started = time.perf_counter()
    asked = DistillSettings.of(settings, options)
    source = find_source(data)  # what is wrong with the data is told before anything is loaded
    if not source.objective.solves:
        raise ValueError(
            "A student learns the answers to examples: classes, labels or numbers. Received: "
            f"{source.path}, to learn to write."
        )
    progress.stage("Loading the teacher")
    paths = [teacher] if isinstance(teacher, (str, os.PathLike)) else list(teacher)
    loaded = [load_run(path) for path in paths]
    found = [_ready(one, source) for one in loaded]
    settings = source.settled(dataclasses.replace(asked, unlabelled=None))
    settings = dataclasses.replace(settings, unlabelled=asked.unlabelled)
    settings, notices = _seeded(settings, [one.trained_for.seed for one in found])
    job = _job(found, data, settings)
    out = out or free_name("saved_models", f"{run_name_for(data, settings)}-distilled", job)
    with RunFolder(out, overwrite=overwrite, job=job) as run:
        model, examples = training.begin(source, settings, progress)
        for original, one in zip(loaded, found, strict=True):
            _check(original, one, examples)
        whole, told = _with_unlabelled(examples, settings, progress)
        seconds = {"reading": time.perf_counter() - started}
        before = time.perf_counter()
        answers = _kept(run, found, whole.train, examples, progress)
        seconds["teacher"] = time.perf_counter() - before
        lesson = Lesson(examples, whole, answers["train"], settings)
        learnt = _learn(model, lesson, run.work / "checkpoints", progress)
        metrics = evaluated(model, examples, settings, learnt)
        metrics["notices"] += [*notices, *_warn(learnt, examples)]
        metrics |= _beside_teacher(found, examples, answers["test"], learnt)
        metrics["unlabelled"] = told
        metrics |= {"share": settings.share, "temperature": lesson.temperature}
        progress.stage("Writing")
        source_of = {"data": job["data"], "teacher": [str(one.path.resolve()) for one in found]}
        write_run(run, model, examples, settings, learnt, source_of)
        source.write(run.file("model.keras").parent)
        if settings.export not in (None, "none"):
            progress.stage("Exporting and checking model.tflite")
            written = write_device_files(run, model, examples, settings.export)
            metrics["notices"] += written.pop("notices")
            metrics.update(written)
        seconds = {**seconds, **learnt.seconds}
        metrics["seconds_of"] = {name: round(value, 1) for name, value in seconds.items()}
        metrics["seconds"] = round(time.perf_counter() - started, 1)
        run.write_json("metrics.json", metrics)
    return DistillResult(model, metrics, pathlib.Path(out))


def _ready(loaded, source) -> Finished:
    """The teacher `loaded`, which must be for what `source` holds."""
    known = checked(loaded).trained_for.for_data(loaded.path, source)
    return dataclasses.replace(loaded, trained_for=known)


def _seeded(settings, seeds):
    """`settings` with a seed, that of the first teacher if nobody said one, and what to tell."""
    if settings.seed is None:
        settings = dataclasses.replace(settings, seed=seeds[0] or 0)
    if {settings.seed} == set(seeds):
        return settings, []
    return settings, [
        f"The examples are divided by the seed {settings.seed}, those of the teacher by "
        f"{checks.listed(['one that nobody knows' if s is None else s for s in seeds])}: where "
        "DATA has no test/, some of those held out may have trained it."
    ]


def _job(found, data, settings):
    """What a distillation depends on: a stopped one is gone on with only by the same."""
    return {
        "teacher": [[str(one.path.resolve()), one.path.stat().st_mtime_ns] for one in found],
        "data": str(pathlib.Path(data).resolve()),
        "config": settings.to_dict(),
    }


def _check(loaded, teacher, data):
    """Refuse a teacher, `loaded` and made ready, of other answers than the examples ask for."""
    count = data.objective.num_names(teacher.model.output_shape)
    names = teacher.trained_for.outputs
    if count != len(data.outputs) or set(names or data.outputs) != set(data.outputs):
        raise ValueError(
            f"The teacher {teacher.path} must answer for what the data hold: "
            f"{checks.listed(data.outputs, 20)}. Received: {count} outputs"
            + (f", {checks.listed(names, 20)}" if names else "")
        )
    prepare = teacher.trained_for.prepare
    rows = np.arange(min(8, len(data.test)))
    few = data.test.prepared(prepare, rows)
    check_outputs(teacher, dataclasses.replace(data, test=few, prepare=prepare))
    check_range(loaded, dataclasses.replace(data, train=few, prepare=prepare), asked=False)


def _with_unlabelled(data, settings, progress) -> tuple[TaskData, dict[str, Any] | None]:
    """`data` with the examples without labels behind those to train on, and what to tell."""
    if settings.unlabelled is None:
        return data, None
    progress.stage(f"Reading {settings.unlabelled}")
    raw = data.prepare.find([settings.unlabelled])
    train, kept = data.train.with_further(raw, data.prepare)
    told = {
        "path": str(settings.unlabelled),
        "num_examples": len(kept),
        "num_left_out": len(raw) - len(kept),
    }
    return dataclasses.replace(data, train=train), told


def _kept(run, found, train, data, progress):
    """What the teachers answer, `"train"` and `"test"`, kept for a process that goes on."""
    path = run.work / "answers.npz"
    if path.is_file():
        with np.load(path) as loaded:
            known = {name: loaded[name] for name in loaded.files}
        if len(known["train"]) == len(train) and len(known["test"]) == len(data.test):
            return known
    parts = {"train": train, "test": data.test}
    told = {name: _answers(found, part, data, progress) for name, part in parts.items()}
    with files.replacing(path) as new:
        np.savez(new, train=told["train"], test=told["test"])
    return told


def _answers(found, examples: Examples, data, progress) -> np.ndarray:
    """The mean of what the teachers answer, each in the order of the outputs of `data`."""
    progress.stage("Asking the teacher", len(examples))
    each = []
    for teacher in found:
        known, outputs = teacher.trained_for, []
        for start in range(0, len(examples), PART):
            rows = np.arange(start, min(start + PART, len(examples)))
            same = known.prepare == data.prepare
            part = examples.at(rows) if same else examples.prepared(known.prepare, rows)
            outputs.append(teacher.model.predict(part.inputs(), verbose=0))
            progress.count(len(rows) + start, len(examples))
        told = np.concatenate(outputs).astype("float32")
        if known.outputs:
            told = told[:, [known.outputs.index(name) for name in data.outputs]]
        each.append(told)
    return np.mean(each, axis=0)


def _learn(model, lesson, checkpoints, progress) -> Learnt:
    """Solve the student's head by labels, then train it on everything."""
    settings = lesson.settings
    solved = Solved.of(model, lesson.data, settings, progress)
    probe_outputs = solved.outputs(settings)
    plan = training.plan_for(model, lesson.whole, settings)
    if settings.weights is None:  # statistics of a network that knows nothing are of nothing
        phases = [dataclasses.replace(phase, batch_norm="train") for phase in plan.phases]
        plan = dataclasses.replace(plan, phases=phases)
    if STARTS[settings.start] != "probe":
        model.set_weights(solved.zero)
        model.fit_state.probe = None
    keras.utils.set_random_seed(settings.seed)
    progress.stage(f"Training by {plan.name}", plan.epochs)
    callbacks = [FollowPlan(plan), *progress.callbacks(), Resume(checkpoints)]
    history = _fit(model, lesson, plan.epochs, callbacks)
    spent = history.seconds
    seconds = {"probe": solved.probe.seconds, "comparing": 0.0}
    seconds |= {"tracing": spent.tracing, "training": spent.training}
    learnt = Learnt(solved, plan, probe_outputs, seconds=seconds, kept="trained")
    learnt.outputs, learnt.start = solved.outputs(settings), plan.start
    learnt.history, learnt.frozen_features = history.history, history.frozen_features
    return learnt


def _fit(model, lesson, epochs, callbacks):
    """Train on labels and answers where there are both, else on answers alone."""
    settings, data, taught = lesson.settings, lesson.data, lesson.taught
    if lesson.temperature == 1:  # answers are mixed into the labels, and are smooth as they are
        smoothing = (1 - settings.share) * settings.label_smoothing
        settings = dataclasses.replace(settings, label_smoothing=smoothing)
    term = Distill(lesson.answers, settings.share, temperature=lesson.temperature)
    steps = epochs * math.ceil(len(taught.train) / settings.batch_size)
    averaged = settings.averaging * steps if settings.averages else 0.0
    training.compile_at_peak(model, taught, settings, averaged=averaged, terms=[term])
    history = model.fit(
        training.batches(taught, settings),
        epochs=epochs,
        validation_data=data.val.batches(settings.batch_size) if len(data.val) else None,
        class_weight=data.objective.class_weight(data),
        callbacks=[Audit(), EvaluateAverages(), keras.callbacks.TerminateOnNaN(), *callbacks],
        verbose=0,
        augmented_copies=settings.augmented_copies,
    )
    training.check_losses(history.history["loss"], settings)
    return history


def _as_answers(targets, width):
    """Targets as what a model gives for them: one-hot rows, labels, or columns of numbers."""
    if targets.ndim == 1 and width > 1:
        return np.eye(width, dtype="float32")[targets]
    return targets.reshape(len(targets), width)


def _beside_teacher(found, data, answers, learnt):
    """What `metrics.json` says of the teacher, and of the student beside it."""
    objective, targets = data.objective, data.test.targets
    judged = objective.judge(answers, targets, data.outputs)
    return {
        "teacher": {
            "names": [one.name for one in found],
            "score": judged.score,
            "loss": judged.loss,
            "num_weights": sum(count_weights(one.model) for one in found),
        },
        "beside_teacher": paired(objective, learnt.of_kept, answers, targets).to_dict(),
    }


def _warn(learnt, data):
    """A line that says so where the probe does better on the examples held out."""
    score = data.objective.score
    probe = score(learnt.probe_outputs, data.test.targets)
    if score(learnt.outputs, data.test.targets) >= probe:
        return []
    return [
        "The probe of the student, which learnt nothing of the teacher, does better on the "
        f"{data.prepare.noun} held out: more of them without labels (--unlabelled), more epochs or "
        "a smaller share may help."
    ]
