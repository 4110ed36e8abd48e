"""The learning of a run: the probe, what is trained further, and the better one of the two."""

import dataclasses
import math
import pathlib
import time
from typing import Any

import numpy as np

from kerastl import _keras
from kerastl.plans import TransferPlan, strategies
from kerastl.recipes import adapting, training
from kerastl.recipes.continued import Continued, spent_on, train_on
from kerastl.recipes.finer import FinerProbe
from kerastl.recipes.run_folder import Progress
from kerastl.recipes.search import Choice, Search
from kerastl.recipes.solved import Solved
from kerastl.recipes.trials import Candidate, Trial, Trials
from kerastl.tasks.paired import paired
from kerastl.tasks.protocols import Source, TaskData
from kerastl.tasks.settings import StrategySettings, TuneSettings
from kerastl.training import FineTuner
from kerastl.training.probe import head_of

# What `auto` tries, from cheap to dear, and for which share of the epochs: the cheapest is as good
# after half of them, and says the sooner whether dearer ones pay.
CANDIDATES = {"partial": 0.5, "gradual": 1.0, "full": 1.0}


@dataclasses.dataclass(eq=False)
class Learnt:
    """What was learnt, and how.

    Attributes:
        solved: `Solved`; its model is what was kept.
        plan: `TransferPlan` that was followed.
        probe_outputs: What the probe gives for the examples held out.
        choice: `Choice`, or None where nothing was compared.
        outputs: What the model gave for them that was trained on everything, or None if none was.
        start: What that began with, as `TransferPlan.start` says.
        kept: `"probe"` or `"trained"`.
        history: Dict of lists, a value an epoch; empty where nothing was trained.
        frozen_features: As `History.frozen_features`.
        seconds: Dict from `"probe"`, `"comparing"`, `"tracing"` and `"training"` to seconds.
        notices: Lines for the user.
        earlier: Float, those of `seconds` that processes before this one have spent.
        adapters: What `metrics.json` says of the adapters that were trained, or None.
    """

    solved: Solved
    plan: TransferPlan
    probe_outputs: np.ndarray
    choice: Choice | None = None
    outputs: np.ndarray | None = None
    start: str = "probe"
    kept: str = "probe"
    history: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    frozen_features: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    notices: list[str] = dataclasses.field(default_factory=list)
    earlier: float = 0.0
    adapters: dict[str, Any] | None = None

    @property
    def model(self) -> FineTuner:
        """What was kept."""
        return self.solved.model

    @property
    def data(self) -> TaskData:
        """What it takes."""
        return self.solved.data

    @property
    def of_kept(self) -> np.ndarray:
        """What was kept gives for the examples held out."""
        return self.probe_outputs if self.outputs is None or self.kept == "probe" else self.outputs

    def side_by_side(self) -> dict[str, Any]:
        """What `metrics.json` says of the probe and of what was trained, on what is held out."""
        data, probe = self.solved.data, self.solved.probe
        objective, targets = data.objective, data.test.targets

        def judged(outputs):
            said = objective.judge(outputs, targets, data.outputs)
            return {"score": said.score, "loss": said.loss}

        known = objective.judge(probe.out_of_fold, data.train.targets, data.outputs)
        trained = difference = None
        if self.outputs is not None:
            spent = spent_on(self.seconds)
            trained = {**judged(self.outputs), **spent, "start": self.start}
            difference = paired(objective, self.outputs, self.probe_outputs, targets).to_dict()
        return {
            "probe": {
                **judged(self.probe_outputs),
                "seconds": round(probe.seconds, 1),
                "out_of_fold": {"score": known.score, "loss": known.loss},
                "of_half": _of_half(probe, data),
                "strength": probe.strength,
                "views": probe.views,
            },
            "trained": trained,
            "difference": difference,
            "kept": self.kept,
            "choice": self.choice and self.choice.to_dict(),
        }


def _of_half(probe, data):
    """The out-of-fold score of the regression on half of the examples: the learning curve."""
    said = data.objective.judge(probe.half_out_of_fold, data.train.targets, data.outputs)
    return {"score": said.score, "loss": said.loss}


def learn(
    model: FineTuner,
    data: TaskData,
    settings: TuneSettings,
    folder: pathlib.Path,
    progress: Progress,
    source: Source | None = None,
) -> Learnt | Continued:
    """Have a network learn `data.train` as `settings` say; it ends as what was kept.

    Args:
        model: `FineTuner` over the backbone and its new head.
        data: `TaskData`.
        settings: `TuneSettings`.
        folder: `pathlib.Path` of a folder in which a later process finds where to go on.
        progress: `Progress`.
        source: `Source` of the data, of which `auto` tries finer examples, too; None for these
            alone.

    Returns:
        `Learnt`, with its `model` and `data`, or others of finer examples; `Continued` where
        nothing in the network is new.
    """
    if not data.objective.solves:
        return train_on(model, data, settings, folder, progress)
    solved = first = Solved.of(model, data, settings, progress)
    if settings.strategy == "probe":
        return _of_probe(solved, settings)
    started, finer = time.perf_counter(), None
    if settings.strategy == "auto" and source is not None:
        finer = FinerProbe(source, settings, folder, progress).tried(solved)
        solved = (finer and finer.solved) or solved
    learnt = _of_probe(solved, settings)
    trials = Trials(solved, folder / "trials", progress, spent=time.perf_counter() - started)
    candidate = _chosen(learnt, trials, settings, finer)
    learnt.seconds["comparing"] += first.probe.seconds - solved.probe.seconds
    if candidate is None:
        return _keep_probe(learnt, trials)
    asks_val = learnt.choice is None and settings.keep == "best"
    before = data.objective.outputs_of(model, data.val, settings.batch_size) if asks_val else None
    history = _trained(learnt, trials, candidate, folder / "checkpoints", progress)
    plan = candidate.plan
    if before is not None:
        choice = learnt.choice = _on_validation(learnt, trials, candidate, before)
        if choice.plan is None:
            return _keep_probe(learnt, trials)
        plan = choice.said_in(choice.plan, data.objective)
        head_of(model).divide(plan.temperature)
        learnt.outputs = solved.outputs(settings)
    learnt.plan, learnt.kept, learnt.history = plan, "trained", history.history
    learnt.frozen_features = history.frozen_features
    return learnt


def _of_probe(solved, settings):
    """`Learnt` of the probe alone."""
    seconds = {"probe": solved.probe.seconds, "comparing": 0.0, "tracing": 0.0, "training": 0.0}
    outputs = solved.outputs(settings)
    return Learnt(solved, strategies.probe(solved.model.groups), outputs, seconds=seconds)


def _chosen(learnt, trials, settings, finer):
    """`Candidate` to train everything by, or None where the probe is kept.

    A strategy that is named is compared later, if there are examples to compare it on anyway.
    """
    model, data = trials.model, trials.data
    if settings.strategy == "auto":
        candidates = [_candidate(model, data, settings, name) for name in CANDIDATES]
        search = Search(trials, settings.minutes)
        choice = search.best(candidates)
        if choice.plan is not None and settings.augment != "none":
            twin = _candidate(model, data, settings, choice.plan.name, augment=settings.augment)
            choice = search.augmented(choice, twin)
    else:
        plan = training.plan_for(model, data, settings)
        named = Candidate(settings.strategy, plan, settings, (1.0,))
        if settings.keep == "last" or len(data.val):
            return named
        choice = Search(trials).one(named)
    if finer is not None:
        choice = choice.after(finer.row, finer.reason)
        learnt.notices += finer.notices
    learnt.choice, learnt.seconds["comparing"] = choice, trials.passed
    learnt.earlier += trials.earlier
    learnt.notices += choice.notices
    if choice.ended_by == "minutes":
        learnt.notices.append(
            f"The {settings.minutes:g} minutes of --minutes ended the comparison: with more, "
            "another way to train may be chosen, and another run may choose otherwise."
        )
    if choice.plan is None or choice.settings is None:
        return None
    plan = choice.said_in(choice.plan, data.objective)
    return Candidate(plan.name, plan, choice.settings)


def _candidate(model, data, settings, name, *, augment="none"):
    """One of `CANDIDATES`; on the examples as they are, frozen layers run once."""
    fields = {f.name for f in dataclasses.fields(StrategySettings)}
    given = {name: value for name, value in settings.to_dict().items() if name in fields}
    epochs = math.ceil(CANDIDATES[name] * settings.epochs)
    own = StrategySettings(**{**given, "strategy": name, "augment": augment, "epochs": epochs})
    called = name if augment == "none" else f"{name}, {augment} augmentation"
    return Candidate(called, training.plan_for(model, data, own), own)


def _trained(learnt, trials, candidate, checkpoints, progress):
    """Train by `candidate` on everything, and have `learnt` say what that gave and took."""
    model, data, settings = trials.model, trials.data, candidate.settings
    began = time.perf_counter()
    progress.stage(f"Training by {candidate.name}", candidate.plan.epochs)
    trials.begin(candidate)
    history = training.train(
        model,
        data,
        settings,
        candidate.plan,
        callbacks=progress.callbacks(),
        checkpoints=checkpoints,
    )
    spent, here = history.seconds, time.perf_counter() - began
    learnt.earlier += max(0.0, spent.tracing + spent.training - here)
    learnt.start, learnt.adapters = candidate.plan.start, adapting.told_of(model)
    learnt.seconds |= {"tracing": spent.tracing, "training": spent.training}
    learnt.outputs = learnt.solved.outputs(settings)
    return history


def _on_validation(learnt, trials, candidate, before):
    """The `Choice` between what was trained and the probe, which gave `before`, on `data.val`."""
    data, seconds = trials.data, learnt.seconds
    given = data.objective.outputs_of(trials.model, data.val, candidate.settings.batch_size)
    taken = seconds["tracing"] + seconds["training"]
    trial = Trial(np.arange(len(data.val)), {1.0: given}, taken, seconds["tracing"])
    return Search(trials).on_validation(candidate, trial, before)


def _keep_probe(learnt, trials):
    """Bring the model back to the probe, without what it was trained by, and say why."""
    trials.restore()
    _keras.uncompile(trials.model)
    if learnt.choice is not None:
        learnt.plan = learnt.choice.said_in(learnt.plan, trials.data.objective)
    return learnt
