"""Sparsity over the steps of a training: TFMOT's schedules, checked before training."""

import numbers

from kerastl import _checks
from kerastl.compression import _engine

LAST_STEP = 2**31 - 1
RECOVERY = 1 / 3  # share of a training left to recover in, where only a target is given
UPDATES = 20  # masks on the way there


def check_sparsity(value, name):
    """Return `value` if it is a number in [0, 1), else raise.

    Example:
        >>> check_sparsity(1.0, "target")
        Traceback (most recent call last):
        ValueError: `target` must be a sparsity in [0, 1), the share of weights that are zero. \
Received: target=1.0
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"`{name}` must be a sparsity in [0, 1), a float. Received: {name}={value!r} (of type "
            f"{type(value).__module__}.{type(value).__qualname__})"
        )
    if not 0 <= value < 1:
        raise ValueError(
            f"`{name}` must be a sparsity in [0, 1), the share of weights that are zero. "
            f"Received: {name}={value!r}"
        )
    return float(value)


def constant_sparsity(target, *, begin_step=0, end_step=None, frequency=100):
    """The same sparsity from the first mask to the last: TFMOT's `ConstantSparsity`.

    Args:
        target: Float in [0, 1), share of the weights of each layer that become zero.
        begin_step: Int >= 0, optimizer steps before the first mask.
        end_step: Int >= `begin_step`, steps before the last mask; None goes on for ever.
        frequency: Int > 0, steps between two masks. In between, masks hold.

    Returns:
        TFMOT `PruningSchedule`.

    Raises:
        ValueError: If `target` is outside [0, 1), or the steps are not in order.

    Example:
        >>> schedule = constant_sparsity(0.5, begin_step=200)
        >>> schedule.target_sparsity, schedule.begin_step, schedule.end_step
        (0.5, 200, -1)
    """
    check_sparsity(target, "target")
    _check_steps(begin_step, end_step, frequency)
    return _engine.schedules().ConstantSparsity(
        float(target), begin_step, -1 if end_step is None else end_step, frequency
    )


def polynomial_decay(target, *, begin_step=0, end_step, initial=0.0, power=3, frequency=100):
    """Sparsity that grows fast at first and levels off: TFMOT's `PolynomialDecay`.

    `s(t) = target + (initial - target) * (1 - (t - begin) / (end - begin)) ** power`

    Args:
        target: Float in [0, 1), sparsity at `end_step`.
        begin_step: Int >= 0, optimizer steps before the first mask.
        end_step: Int > `begin_step`, steps before the last mask.
        initial: Float in [0, 1), sparsity at `begin_step`.
        power: Number > 0.
        frequency: Int > 0, steps between two masks. It must divide `end_step - begin_step`, or
            the target would never be reached.

    Returns:
        TFMOT `PruningSchedule`.

    Raises:
        ValueError: If a sparsity is outside [0, 1), or the steps are not in order.

    Example:
        >>> polynomial_decay(0.6, end_step=400).final_sparsity
        0.6

    References:
        Zhu & Gupta, 2017, section 3, equation 1, https://arxiv.org/abs/1710.01878
    """
    check_sparsity(target, "target")
    check_sparsity(initial, "initial")
    _checks.whole(end_step, 1, LAST_STEP, "end_step")
    _check_steps(begin_step, end_step, frequency)
    if not power > 0:
        raise ValueError(f"`power` must be a number > 0. Received: power={power!r}")
    if end_step == begin_step or (end_step - begin_step) % frequency:
        raise ValueError(
            "`frequency` must divide `end_step - begin_step`, so that the last mask has the target "
            f"sparsity. Received: begin_step={begin_step}, end_step={end_step}, "
            f"frequency={frequency}"
        )
    return _engine.schedules().PolynomialDecay(
        float(initial), float(target), begin_step, end_step, power, frequency
    )


def over_training(target, begin, steps, initial=0.0):
    """The schedule that a bare `target` stands for, in a training of `steps` from step `begin` on.

    Polynomial from `initial` in two thirds of the training; the rest of it is for recovery.

    Example:
        >>> schedule = over_training(0.6, begin=100, steps=301)
        >>> schedule.begin_step, schedule.end_step, schedule.frequency
        (100, 300, 10)
    """
    growing = max(1, round(steps * (1 - RECOVERY)))
    frequency = max(1, growing // UPDATES)
    growing -= growing % frequency
    return polynomial_decay(
        target,
        begin_step=begin,
        end_step=begin + growing,
        initial=min(initial, target),
        frequency=frequency,
    )


def restored(config):
    """The schedule that `over_training` gave, from its `get_config()["config"]`."""
    return _engine.schedules().PolynomialDecay(**config)


def updates_between(schedule, after, until):
    """The steps in (`after`, `until`] at which `schedule` makes new masks.

    Example:
        >>> updates_between(constant_sparsity(0.5, begin_step=2, frequency=3), 2, 9)
        [5, 8]
    """
    begin, frequency = schedule.begin_step, schedule.frequency
    last = until if schedule.end_step < 0 else min(until, schedule.end_step)
    first = begin + -(-(max(after + 1, begin) - begin) // frequency) * frequency
    return list(range(first, last + 1, frequency))


def check_schedule(schedule, name):
    """Return `schedule` if it is a TFMOT schedule in whose steps this room can count."""
    needed = ("begin_step", "end_step", "frequency")
    if not callable(schedule) or not all(hasattr(schedule, name) for name in needed):
        raise TypeError(
            "`schedule` must be a target sparsity in [0, 1), or what `constant_sparsity(...)` or "
            f"`polynomial_decay(...)` return. Received: schedule={schedule!r} (of type "
            f"{type(schedule).__module__}.{type(schedule).__qualname__})"
        )
    return schedule


def check_in_training(schedule, step, last_step):
    """Raise if `schedule` ends before a training begins at `step`, or begins after its end.

    Args:
        schedule: TFMOT schedule.
        step: Int, optimizer steps taken before the training.
        last_step: Int, steps taken when it ends, or None if unknown.
    """
    if 0 <= schedule.end_step < step:
        raise ValueError(
            "The schedule must not end before training starts. Received: "
            f"end_step={schedule.end_step}, and the optimizer has taken {step} steps already. "
            f"Steps count from the first of this optimizer: let it begin at {step} or later, or "
            "train without this callback, since pruned weights stay zero."
        )
    if last_step is not None and schedule.begin_step > last_step:
        raise ValueError(
            "The schedule must begin before training ends. Received: "
            f"begin_step={schedule.begin_step}, and this `fit` ends at step {last_step}."
        )


def _check_steps(begin_step, end_step, frequency):
    _checks.whole(begin_step, 0, LAST_STEP, "begin_step")
    _checks.whole(frequency, 1, LAST_STEP, "frequency")
    if end_step is not None:
        _checks.whole(end_step, begin_step, LAST_STEP, "end_step")
