"""A schedule laid over the steps of an `LRMultiplier`, and which optimizers can follow one."""

import dataclasses
from typing import Any

import keras
from keras import ops, optimizers

from kerastl._base.types import TensorLike
from kerastl.schedules import Schedule, progress_at

# What each optimizer calls its momentum. Nadam is not among them: its step also needs the momentum
# of the step after it. Muon has two of them, one for each kind of weight.
MOMENTUM = {
    optimizers.Adam: "beta_1",  # and AdamW
    optimizers.Adamax: "beta_1",
    optimizers.Lamb: "beta_1",
    optimizers.Lion: "beta_1",
    optimizers.SGD: "momentum",
    optimizers.RMSprop: "momentum",
}


@dataclasses.dataclass(frozen=True)
class PlacedSchedule:
    """A `Schedule` laid over the steps from `start` to `start + num_steps` of an optimizer."""

    schedule: Schedule
    start: int
    num_steps: int

    def factor_at(self, step: TensorLike) -> TensorLike:
        """Factor of the peak rate at `step`, the raw step counter, as a tensor."""
        return self.schedule.factor(self._progress(step), ops)

    def momentum_at(self, step: TensorLike) -> TensorLike | None:
        """Momentum at `step` as a tensor, or None."""
        return self.schedule.momentum_at(self._progress(step), ops)

    def to_config(self) -> dict[str, Any]:
        """Arguments of `set_schedule`, as JSON values."""
        return {
            "schedule": self.schedule.to_config(),
            "start": self.start,
            "num_steps": self.num_steps,
        }

    def _progress(self, step):
        return progress_at(step, start=self.start, num_steps=self.num_steps)


def check_number(optimizer: keras.optimizers.Optimizer) -> None:
    """Raise if the rate of `optimizer` is no number that a schedule could multiply."""
    if not isinstance(optimizer.learning_rate, keras.Variable):
        raise ValueError(
            "A schedule multiplies a learning rate that is a number, and "
            f"{type(optimizer).__name__} has a schedule of its own. Give the optimizer the peak "
            "as a float, or leave the schedule out."
        )


def momentum_name(optimizer: keras.optimizers.Optimizer) -> str:
    """The attribute of `optimizer` that a schedule with momentum sets; raise if there is none."""
    name = next((name for kind, name in MOMENTUM.items() if isinstance(optimizer, kind)), None)
    known = ", ".join(kind.__name__ for kind in MOMENTUM)
    if name is None:
        raise ValueError(
            f"The momentum of {type(optimizer).__name__} cannot be cycled; that of {known} can. "
            "Use a schedule without momentum, such as OneCycle(momentum=None)."
        )
    if name == "momentum" and not optimizer.momentum:
        raise ValueError(
            f"A schedule with momentum needs {type(optimizer).__name__}(momentum=...) above 0, so "
            "that there are slots for it. Received: momentum=0. Or use a schedule without "
            "momentum, such as OneCycle(momentum=None)."
        )
    return name
