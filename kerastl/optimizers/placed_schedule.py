"""The shared rate and momentum of an `LRMultiplier` over the steps of a training."""

import dataclasses

import keras
from keras import ops, optimizers

from kerastl._base import checks
from kerastl._keras import optimizer_internals as internals
from kerastl.schedules import Schedule, from_config, progress_at

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

    def factor_at(self, step):
        """Factor of the peak rate at `step`, the raw step counter, as a tensor."""
        return self.schedule.factor(self._progress(step), ops)

    def momentum_at(self, step):
        """Momentum at `step` as a tensor, or None."""
        return self.schedule.momentum_at(self._progress(step), ops)

    def to_config(self):
        """Arguments of `set_schedule`, as JSON values."""
        return {
            "schedule": self.schedule.to_config(),
            "start": self.start,
            "num_steps": self.num_steps,
        }

    def _progress(self, step):
        return progress_at(step, start=self.start, num_steps=self.num_steps)


class Scheduled:
    """The part of `LRMultiplier` that holds the shared rate and lets a schedule lead it."""

    @property
    def learning_rate(self):
        """The shared rate, that of a variable whose multiplier is 1; with a schedule, its peak."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        if self.schedule is not None and callable(learning_rate):
            raise ValueError(
                "With a schedule set, `learning_rate` is its peak and must be a number. Received: "
                f"learning_rate={learning_rate!r}. Call `set_schedule(None)` first."
            )
        self.inner_optimizer.learning_rate = learning_rate

    @property
    def schedule(self):
        """The `PlacedSchedule` (`schedule`, `start`, `num_steps`) that leads the rate, or None."""
        return vars(self).get("_schedule")

    def set_schedule(self, schedule, *, start=0, num_steps=None, retraced=False):
        """Let the shared rate, and momentum if the schedule has one, follow `schedule` from now on.

        The rate of a step is `learning_rate * schedule.factor((step - start) / num_steps)`, the
        progress held in [0, 1], computed inside the traced step from the counter of `apply` calls:
        with gradient accumulation these are batches, not updates. Decoupled weight decay follows.
        `learning_rate` stays a plain number, the peak, so that callbacks may set it.

        A schedule with momentum sets `beta_1` of Adam, AdamW, Adamax, Lamb and Lion, `momentum` of
        SGD and RMSprop. Adam's bias correction then is `1 - beta_1_t ** t`, with the `beta_1` of
        the step, as in torch when its `OneCycleLR` cycles `betas`.

        Args:
            schedule: Schedule of `kerastl.schedules`, or None for a rate of `learning_rate`
                throughout.
            start: Int >= 0, the step at progress 0, or None for the present one.
            num_steps: Int > 0, steps from progress 0 to 1. Not needed with `schedule=None`.
            retraced: Whether the train function will be made anew
                (`model.make_train_function(force=True)`) before the next step.

        Raises:
            ValueError: If the optimizer's rate is a schedule, or the schedule has momentum and the
                optimizer has none that can be set.
            RuntimeError: If the step has been traced and `retraced` is False.

        Example:
            >>> from kerastl.optimizers import LRMultiplier
            >>> from kerastl.schedules import WarmupCosine
            >>> optimizer = LRMultiplier(keras.optimizers.AdamW(1e-3))
            >>> optimizer.set_schedule(WarmupCosine(warmup=0.1, start=0.25), num_steps=100)
            >>> round(optimizer.rate_now(), 6)
            0.00025
        """
        placed = None if schedule is None else self._placed(schedule, start, num_steps)
        if placed == self.schedule:
            return
        if self._traced and not retraced:
            raise RuntimeError(
                "The schedule is part of the traced step. Pass `retraced=True` and call "
                "`model.make_train_function(force=True)`, or use `FineTuner.set_schedule`. "
                f"Received: schedule={schedule!r}"
            )
        vars(self)["_schedule"] = placed
        if self._steps is not None:
            self._steps.schedule = placed

    def rate_now(self):
        """The shared rate of the next step as a float, schedule included."""
        rate, placed = float(ops.convert_to_numpy(self.learning_rate)), self.schedule
        if placed is None:
            return rate
        done = (self._raw_step() - placed.start) / placed.num_steps
        return rate * float(placed.schedule.factor(min(max(done, 0.0), 1.0)))

    def get_config(self):
        config = super().get_config()
        return (
            config if self.schedule is None else {**config, "schedule": self.schedule.to_config()}
        )

    def _placed(self, schedule, start, num_steps):
        if isinstance(schedule, dict):  # of a saved config
            schedule = from_config(schedule)
        if not isinstance(schedule, Schedule):
            raise TypeError(
                "`schedule` must be one of kerastl.schedules, such as OneCycle(), or None. "
                f"Received: schedule={schedule!r}"
            )
        check_number(self.inner_optimizer)
        if schedule.momentum_at(0.0) is not None:
            momentum_name(self.inner_optimizer)
        start = self._raw_step() if start is None else start
        checks.whole(start, 0, 2**31 - 1, "start")
        return PlacedSchedule(schedule, start, checks.whole(num_steps, 1, 2**31 - 1, "num_steps"))

    def _raw_step(self):
        return int(ops.convert_to_numpy(internals.raw_iterations(self.inner_optimizer)))


def check_number(optimizer):
    """Raise if the rate of `optimizer` is no number that a schedule could multiply."""
    if not isinstance(optimizer.learning_rate, keras.Variable):
        raise ValueError(
            "A schedule multiplies a learning rate that is a number, and "
            f"{type(optimizer).__name__} has a schedule of its own. Give the optimizer the peak "
            "as a float, or leave the schedule out."
        )


def momentum_name(optimizer):
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
