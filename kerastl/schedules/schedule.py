"""What all schedules share: a factor over progress, as a Keras schedule, as plain data."""

import abc
import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from kerastl._base import checks
from kerastl._base.types import TensorLike

_KINDS = {}  # name -> class, filled as schedules are defined
_LEAST = 1e-12  # stands for the length of a part that has none, so that nothing divides by zero


@dataclasses.dataclass(frozen=True)
class Schedule(abc.ABC):
    """A learning rate, as a factor of its peak, over the progress of a training.

    Progress is `step / num_steps` in [0, 1], with step 0 for the first step of the optimizer. A
    schedule knows no rate and no number of steps, so that one serves a phase of any length.
    Schedules are plain data: equal when equal, and JSON by `to_config`.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _KINDS[cls.__name__] = cls

    @abc.abstractmethod
    def factor(self, progress: TensorLike, xp: types.ModuleType = np) -> TensorLike:
        """Factor of the peak rate.

        Args:
            progress: Float, array or tensor in [0, 1].
            xp: `numpy`, or `keras.ops` for tensors.

        Returns:
            What `xp` makes of `progress`, of the same shape.
        """

    def momentum_at(self, progress: TensorLike, xp: types.ModuleType = np) -> TensorLike | None:
        """Momentum (`beta_1` of Adam and its kin), or None if the schedule leaves it alone."""
        return None

    def over(self, peak: float, num_steps: int) -> "ScheduledRate":
        """The schedule as a Keras schedule, for any `compile`.

        A schedule sets the rate and nothing else: momentum stays what the optimizer has.
        `FineTuner.set_schedule` cycles both.

        Args:
            peak: Float > 0, the rate where the factor is 1.
            num_steps: Int > 0, optimizer steps. Later steps keep the last rate.

        Returns:
            `keras.optimizers.schedules.LearningRateSchedule`.
        """
        return ScheduledRate(self, peak, num_steps)

    def to_config(self) -> dict[str, Any]:
        """Dict of JSON values, with the schedule's `"name"`; `schedules.from_config` reads it."""
        fields = dataclasses.asdict(self).items()
        plain = {key: list(v) if isinstance(v, tuple) else v for key, v in fields}
        return {"name": type(self).__name__, **plain}


def from_config(config: Mapping[str, Any]) -> Schedule:
    """The schedule that `to_config` described.

    Args:
        config: Dict with `"name"` and the schedule's arguments.

    Returns:
        `Schedule`, equal to the one described.

    Raises:
        ValueError: If there is no schedule of that name, or an argument is out of range.

    Example:
        >>> from kerastl.schedules import OneCycle
        >>> from_config(OneCycle(warmup=0.3).to_config()) == OneCycle(warmup=0.3)
        True
    """
    config = dict(config)
    name = checks.one_of(config.pop("name", None), list(_KINDS), "name")
    return _KINDS[name](**config)


@keras.saving.register_keras_serializable(package="kerastl")
class ScheduledRate(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule over a number of steps; what `Schedule.over` returns.

    Args:
        schedule: `Schedule`, or what its `to_config` gave.
        peak: As in `Schedule.over`, and so is `num_steps`.
    """

    def __init__(self, schedule: Schedule | Mapping[str, Any], peak: float, num_steps: int) -> None:
        self.schedule = schedule if isinstance(schedule, Schedule) else from_config(schedule)
        self.peak = float(checks.in_range(peak, 0.0, float("inf"), "peak", "a rate"))
        self.num_steps = checks.whole(num_steps, 1, 2**31 - 1, "num_steps")

    def __call__(self, step: TensorLike) -> TensorLike:
        progress = progress_at(step, start=0, num_steps=self.num_steps)
        return self.peak * self.schedule.factor(progress, ops)

    def get_config(self) -> dict[str, Any]:
        return {
            "schedule": self.schedule.to_config(),
            "peak": self.peak,
            "num_steps": self.num_steps,
        }


def progress_at(step: TensorLike, *, start: TensorLike, num_steps: TensorLike) -> TensorLike:
    """Progress at `step` of a training that began at `start`, as a tensor in [0, 1]."""
    # Never in half precision, where steps beyond 2048 run together.
    dtype = keras.backend.result_type(keras.config.floatx(), "float32")
    return ops.clip((ops.cast(step, dtype) - start) / num_steps, 0.0, 1.0)


def two_parts(
    progress: TensorLike,
    split: float,
    *,
    first: Callable[[TensorLike], TensorLike],
    second: Callable[[TensorLike], TensorLike],
    xp: types.ModuleType,
) -> TensorLike:
    """`first` up to `split` and `second` from there, functions of a position from 0 to 1 each."""
    before = xp.clip(progress / max(split, _LEAST), 0.0, 1.0)
    after = xp.clip((progress - split) / max(1.0 - split, _LEAST), 0.0, 1.0)
    return xp.where(progress < split, first(before), second(after))


def line(position: TensorLike, begin: float, end: float) -> TensorLike:
    """A straight line from `begin` at position 0 to `end` at 1."""
    return end + (begin - end) * (1.0 - position)


def half_cosine(
    position: TensorLike, begin: float, end: float, *, xp: types.ModuleType
) -> TensorLike:
    """Half a cosine wave from `begin` at position 0 to `end` at 1."""
    return end + (begin - end) * (1.0 + xp.cos(np.pi * position)) / 2.0
