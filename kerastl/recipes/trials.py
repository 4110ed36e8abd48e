"""Trainings on some of the training examples, measured on the others, each kept when it is done."""

import dataclasses
import hashlib
import json
import pathlib
import shutil
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kerastl._base import files
from kerastl.freezing import freezing_state, restore_freezing
from kerastl.plans import TransferPlan
from kerastl.recipes import adapting, training
from kerastl.recipes.run_folder import Progress
from kerastl.recipes.solved import Solved
from kerastl.tasks.protocols import Examples
from kerastl.tasks.settings import StrategySettings
from kerastl.training import blend_weights
from kerastl.training.probe import head_of

SHARES = (0.25, 0.5, 0.75, 1.0)  # of the way from the probe to the trained weights, that are tried


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One way to train further than the probe.

    Attributes:
        name: String, for tables and files.
        plan: `TransferPlan` that starts with the probe.
        settings: `StrategySettings` to train by.
        shares: Tuple of floats in (0, 1]: values of the plan's `wise_ft` to try.
    """

    name: str
    plan: TransferPlan
    settings: StrategySettings
    shares: tuple[float, ...] = SHARES


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """What one training gave for examples that it had not seen.

    Attributes:
        rows: Int array, which training examples were held back.
        outputs: Dict from each share to the outputs for these rows.
        seconds: Float, of all of it; `tracing_seconds` of these went into tracing.
    """

    rows: np.ndarray
    outputs: dict[float, np.ndarray]
    seconds: float
    tracing_seconds: float


class Trials:
    """Runs candidates from the same start, and remembers what they gave.

    A process that is killed finds in `folder` what is done, and goes on within the training that it
    was at. What was done with other examples, or from another probe, is done again.

    Args:
        solved: `Solved`, where candidates start.
        folder: `pathlib.Path` of a folder that a later process finds again.
        progress: `Progress`.
        spent: Float, seconds that this process has spent on comparing before.

    Attributes:
        earlier: Float, seconds that earlier processes had spent when the last trial was done.
    """

    def __init__(
        self, solved: Solved, folder: pathlib.Path, progress: Progress, *, spent: float = 0.0
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.model, self.data, self.probe = solved.model, solved.data, solved.probe
        self.folder, self._progress = folder, progress
        self._started = time.perf_counter() - spent
        self._cache, self._zero = self.model.fit_state.cache, solved.zero
        self._variables = [(variable, variable.numpy()) for variable in self.model.variables]
        self._freezing = freezing_state(self.model)
        self._forget_others()
        self.earlier = max(
            (self._said(path)["passed"] for path in folder.glob("*.json")), default=0.0
        )

    def _forget_others(self):
        """Remove trials of other examples: others may lie at DATA than when a run was killed."""
        probe, mark = self.probe, hashlib.blake2b(digest_size=16)
        for part in (self.data.train.targets, probe.folds, probe.out_of_fold):
            mark.update(np.ascontiguousarray(part).tobytes())
        path = self.folder / "examples"
        if path.exists() and path.read_text(encoding="utf-8") != mark.hexdigest():
            shutil.rmtree(self.folder)
            self.folder.mkdir()
        files.write(path, mark.hexdigest())

    @property
    def passed(self) -> float:
        """Seconds since the first process began to compare."""
        return self.earlier + time.perf_counter() - self._started

    def restore(self) -> None:
        """Bring the model back to the probe, as it was before the first trial, without adapters."""
        adapting.drop(self.model)
        for variable, value in self._variables:
            variable.assign(value)
        restore_freezing(self.model, self._freezing)
        self.model.forget_fits()
        self.model.fit_state.cache = self._cache

    def begin(self, candidate: Candidate, fold: int | None = None) -> None:
        """Bring the model to where `candidate` begins: on all examples, or on those outside `fold`.

        That is the probe of these examples, or a head at zero, with new adapters where the plan
        trains some.
        """
        self.restore()
        if candidate.plan.start != "probe":
            self.model.set_weights(self._zero)
            self.model.fit_state.probe = None
        elif fold is not None:
            head_of(self.model).set(self.probe.by_fold[fold])
        keras.utils.set_random_seed(candidate.settings.seed)
        adapting.add_for(self.model, candidate.plan, candidate.settings.seed)

    def run(self, candidate: Candidate, fold: int) -> Trial:
        """Train by `candidate` without the examples of `fold`, and answer these."""
        name, rows = f"{candidate.name}-{fold}", np.flatnonzero(self.probe.folds == fold)
        done = self._load(name, rows)
        if done is not None:
            return done
        started = time.perf_counter()
        self._progress.stage(f"Trying {candidate.name}, fold {fold + 1}", candidate.plan.epochs)
        self.begin(candidate, fold)
        rest = np.flatnonzero(self.probe.folds != fold)
        nothing = self.data.val.at(np.arange(0))
        part = dataclasses.replace(self.data, train=self.data.train.at(rest), val=nothing)
        outputs, tracing = self._trained(candidate, part, self.data.train.at(rows), name)
        trial = Trial(rows, outputs, time.perf_counter() - started, tracing)
        self._save(name, trial)
        return trial

    def are_done(self, candidate: Candidate, folds: Sequence[int]) -> bool:
        """Whether all of these trials were made before."""
        return all(self._files(f"{candidate.name}-{fold}")[1].is_file() for fold in folds)

    def _trained(self, candidate, part, held, name):
        model, settings = self.model, candidate.settings
        start = model.get_weights()
        history = training.train(
            model,
            part,
            settings,
            candidate.plan,
            callbacks=[_Count(self._progress)],
            checkpoints=self.folder / f"{name}.checkpoints",
        )
        ends, outputs = model.get_weights(), {}
        for share in candidate.shares:
            model.set_weights(ends)
            blend_weights(model, start, share)
            outputs[share] = self._outputs(held, settings.batch_size)
        return outputs, history.seconds.tracing

    def _outputs(self, examples: Examples, batch_size: int) -> np.ndarray:
        """What the model gives for `examples`, of whose frozen part the features may be there."""
        cache: Any = self._cache
        cache.update()
        if cache.frontier.reason is not None:
            return self.data.objective.outputs_of(self.model, examples, batch_size)
        passes: Any = examples.batches(batch_size)
        upper = cache.frontier.upper
        parts = cache.features(passes.repeatable)
        return np.concatenate([upper(part, training=False).numpy() for part in parts])

    def _files(self, name):
        return self.folder / f"{name}.npz", self.folder / f"{name}.json"

    def _said(self, path):
        return json.loads(path.read_text(encoding="utf-8"))

    def _load(self, name, rows):
        arrays, said = self._files(name)
        if not said.is_file():
            return None
        with np.load(arrays) as loaded:
            outputs = {float(share): loaded[share] for share in loaded.files}
        told = self._said(said)
        return Trial(rows, outputs, told["seconds"], told["tracing_seconds"])

    def _save(self, name, trial):
        arrays, said = self._files(name)
        with files.replacing(arrays) as new:
            np.savez(new, **{str(share): given for share, given in trial.outputs.items()})
        told = {
            "seconds": trial.seconds,
            "tracing_seconds": trial.tracing_seconds,
            "passed": self.passed,
        }
        files.write(said, json.dumps(told))  # last: with it the trial is done
        shutil.rmtree(self.folder / f"{name}.checkpoints", ignore_errors=True)


class _Count(keras.callbacks.Callback):
    """Counts the epochs of a trial."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._progress.count(epoch + 1, self.params["epochs"])
