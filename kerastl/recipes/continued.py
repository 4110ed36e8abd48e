"""The learning of a run in which no layer is new: the network as it was loaded, and trained on."""

import dataclasses
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from kerastl import _keras
from kerastl.plans import TransferPlan
from kerastl.recipes import adapting, training
from kerastl.recipes.run_folder import Progress
from kerastl.tasks.paired import Paired, paired
from kerastl.tasks.protocols import TaskData
from kerastl.tasks.settings import TuneSettings
from kerastl.training import FineTuner


@dataclasses.dataclass(eq=False)
class Continued:
    """What was learnt, beside what the network gave as it was loaded.

    Attributes:
        model: `FineTuner`, as what was kept.
        data: `TaskData`.
        plan: `TransferPlan` that was followed.
        before: What the network gave for the examples held out as it was loaded.
        outputs: What it gave when it was trained.
        kept: `"before"` or `"trained"`.
        reason: One sentence, why; None where nothing was compared.
        history: Dict of lists, a value an epoch.
        frozen_features: As `History.frozen_features`.
        seconds: Dict from `"measuring"`, `"tracing"` and `"training"` to seconds.
        earlier: Float, those of `seconds` that processes before this one have spent.
        notices: Lines for the user.
        adapters: What `metrics.json` says of the adapters that were trained, or None.
    """

    model: FineTuner
    data: TaskData
    plan: TransferPlan
    before: np.ndarray
    outputs: np.ndarray
    kept: str
    reason: str | None
    history: dict[str, list[Any]]
    frozen_features: list[dict[str, Any]]
    seconds: dict[str, float]
    earlier: float = 0.0
    notices: list[str] = dataclasses.field(default_factory=list)
    adapters: dict[str, Any] | None = None

    @property
    def of_kept(self) -> np.ndarray:
        """What was kept gives for the examples held out."""
        return self.outputs if self.kept == "trained" else self.before

    def side_by_side(self) -> dict[str, Any]:
        """What `metrics.json` says of before and after, on what is held out."""
        objective, targets = self.data.objective, self.data.test.targets

        def judged(outputs):
            said = objective.judge(outputs, targets, self.data.outputs)
            return {"score": said.score, "loss": said.loss, **said.details}

        difference = paired(objective, self.outputs, self.before, targets)
        return {
            "before": judged(self.before),
            "trained": {
                **judged(self.outputs),
                **spent_on(self.seconds),
                "start": self.plan.start,
            },
            "difference": difference.to_dict(),
            "kept": self.kept,
            "choice": self.reason and {"tried": [], "reason": self.reason, "ended_by": None},
        }


def spent_on(seconds: Mapping[str, float]) -> dict[str, float]:
    """What `metrics.json` says of the seconds of a training, `"tracing"` and `"training"`.

    Example:
        >>> spent_on({"tracing": 1.25, "training": 10.0})
        {'seconds': 11.2, 'tracing_seconds': 1.2}
    """
    tracing = seconds["tracing"]
    spent = {"seconds": tracing + seconds["training"], "tracing_seconds": tracing}
    return {name: round(value, 1) for name, value in spent.items()}


def train_on(
    model: FineTuner,
    data: TaskData,
    settings: TuneSettings,
    folder: pathlib.Path,
    progress: Progress,
) -> Continued:
    """Train a network on that knows already what is learnt; it ends as what was kept.

    With `keep="best"` that is the better one of before and after, by `data.val`.

    Args:
        model: `FineTuner` over the network as it was loaded.
        data: `TaskData`.
        settings: `TuneSettings`.
        folder: `pathlib.Path` of a folder in which a later process finds where to go on.
        progress: `Progress`.

    Raises:
        FloatingPointError: If the loss is no longer a number.
    """
    started = time.perf_counter()
    chooses = settings.keep == "best" and len(data.val) > 0
    loaded = model.get_weights() if chooses else None
    progress.stage("Measuring the network as it was loaded")
    before = {name: _given(model, data, settings, name) for name in _asked(chooses)}
    measuring = time.perf_counter() - started
    plan = training.plan_for(model, data, settings)
    adapting.add_for(model, plan, settings.seed)
    progress.stage(f"Training by {plan.name}", plan.epochs)
    started = time.perf_counter()
    history = training.train(
        model,
        data,
        settings,
        plan,
        callbacks=progress.callbacks(),
        checkpoints=folder / "checkpoints",
    )
    here, started = time.perf_counter() - started, time.perf_counter()
    progress.stage("Measuring what was trained")
    after = {name: _given(model, data, settings, name) for name in _asked(chooses)}
    measuring += time.perf_counter() - started
    kept, reason = "trained", None
    if loaded is not None:
        kept, reason = _better(data, before["val"], after["val"])
        plan = dataclasses.replace(plan, reason=reason)
    adapters = adapting.told_of(model)
    if loaded is not None and kept == "before":
        adapting.drop(model)
        model.set_weights(loaded)
        _keras.uncompile(model)
    spent = history.seconds
    return Continued(
        model=model,
        data=data,
        plan=plan,
        before=before["test"],
        outputs=after["test"],
        kept=kept,
        reason=reason,
        history=history.history,
        frozen_features=history.frozen_features,
        seconds={"measuring": measuring, "tracing": spent.tracing, "training": spent.training},
        earlier=max(0.0, spent.tracing + spent.training - here),
        adapters=adapters,
    )


def _asked(chooses):
    return ("val", "test") if chooses else ("test",)


def _given(model, data, settings, name):
    return data.objective.outputs_of(model, getattr(data, name), settings.batch_size)


def _better(data, before, after):
    """`"trained"` or `"before"`, whichever has the higher score on `data.val`, and why."""
    objective, count = data.objective, len(data.val)
    if not np.isfinite(after).all():
        return "before", f"After training the loss is no number on {count} examples held back."
    beside: Paired = paired(objective, after, before, data.val.targets)
    shown = beside.turned() if objective.cost_name else beside
    told = f"{shown.text(is_share=objective.is_share)} on {count} {data.prepare.noun} held back"
    if beside.difference > 0:
        return "trained", f"Training made it better: {told}."
    return "before", f"Training made it no better: {told}."
