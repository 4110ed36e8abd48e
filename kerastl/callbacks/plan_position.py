"""Where in a plan a training is: what `FollowPlan` must remember, as plain data."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import keras

from kerastl._base import checks
from kerastl.plans.phase import EarlyStop
from kerastl.plans.transfer_plan import TransferPlan


@dataclasses.dataclass
class PlanPosition:
    """Where in a plan a training is.

    Attributes:
        epoch: Int, the epoch in progress, or the one to begin next.
        phase: Int, index of the phase.
        phase_epoch: Int, the epoch with which the phase began.
        phase_step: Int, the step of the optimizer with which it began.
        phase_over: Boolean, whether the next epoch begins the next phase, or none.
        wait: Int, epochs without improvement, of `EarlyStop`.
        best: Float, the best value that `EarlyStop` has seen in this phase, or None.
        reduction: Float, what other callbacks have multiplied the planned rate by.
        peak: Float, the rate that was set last, or None if the plan says no rates.
    """

    epoch: int
    phase: int
    phase_epoch: int
    phase_step: int
    phase_over: bool = False
    wait: int = 0
    best: float | None = None
    reduction: float = 1.0
    peak: float | None = None

    def next_phase(self, step: int) -> "PlanPosition":
        """The position at the beginning of the next phase, at optimizer step `step`."""
        return PlanPosition(
            self.epoch, self.phase + 1, self.epoch, step, reduction=self.reduction, peak=self.peak
        )

    def notice_reduction(self, rate: float) -> None:
        """Remember by how much `rate`, the present one, was lowered since it was set."""
        if self.peak is not None and rate != self.peak:
            self.reduction *= rate / self.peak
            self.peak = rate


def to_state(position: PlanPosition, plan: TransferPlan) -> dict[str, Any]:
    """`position` as a dict ready for JSON, marked with the plan it belongs to."""
    return {"plan": _mark(plan), **dataclasses.asdict(position)}


def from_state(state: Mapping[str, Any], plan: TransferPlan) -> PlanPosition:
    """The `PlanPosition` that `to_state` described.

    Raises:
        ValueError: If it belongs to another plan.
    """
    state = dict(state)
    if state.pop("plan", None) != _mark(plan):
        raise ValueError(
            f"The state must be one that FollowPlan saved for this very plan, {plan.name!r}. "
            f"Received: state with keys {checks.listed(state)} of another plan. Go on with the "
            "plan the run was begun with, or begin a new run."
        )
    return PlanPosition(**state)


def _mark(plan):
    return hashlib.blake2b(plan.to_json().encode(), digest_size=8).hexdigest()


def ends_early(
    rule: EarlyStop,
    position: PlanPosition,
    model: keras.Model,
    logs: Mapping[str, Any] | None,
) -> bool:
    """Whether `rule`, an `EarlyStop`, ends the phase after an epoch with these `logs`.

    The rule itself is Keras's; what it has seen of the phase is kept in `position`.
    """
    if rule.monitor not in (logs or {}):
        raise ValueError(
            f"EarlyStop needs {rule.monitor!r} in the logs of the epoch. Received: "
            f"{checks.listed(logs or ['nothing'], 40)}. Closest: "
            f"{checks.closest(rule.monitor, list(logs or []), 1)}. "
            "Metrics that begin with val_ need validation data."
        )
    said: dict[str, Any] = dataclasses.asdict(rule)
    keras_own: Any = keras.callbacks.EarlyStopping(**said)
    keras_own.set_model(model)
    keras_own.best, keras_own.wait = position.best, position.wait
    stopping, model.stop_training = model.stop_training, False
    try:
        keras_own.on_epoch_end(position.epoch, logs)
        ended = model.stop_training
    finally:
        model.stop_training = stopping
    best: Any = keras_own.best
    position.best, position.wait = float(best), keras_own.wait
    return ended
