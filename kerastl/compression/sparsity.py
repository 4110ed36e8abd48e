"""Which weights become zero together: single ones, blocks, or `m` in each `n`."""

import dataclasses
import math
import numbers
from collections.abc import Mapping
from typing import Any

from kerastl._base import checks
from kerastl.compression import island
from kerastl.compression.kernels import Kernel, View, channels_view, matrix_view


@dataclasses.dataclass(frozen=True)
class Pattern:
    """Which weights of one kernel go together.

    Attributes:
        block_size: Tuple of two ints, blocks of inputs × outputs; `(1, 1)` for single weights.
        m_by_n: Tuple `(m, n)` for `m` zeros in each `n` consecutive inputs, or None.
        view: `View` of the kernel that blocks or `m_by_n` are counted in, or None.
    """

    block_size: tuple[int, int] = (1, 1)
    m_by_n: tuple[int, int] | None = None
    view: View | None = None


def pattern_for(
    kernel: Kernel, block_size: tuple[int, int], m_by_n: tuple[int, int] | None
) -> tuple[Pattern | None, str | None]:
    """`Pattern` of a `Kernel`, or None, and the reason why there is none.

    Example:
        >>> import keras
        >>> from kerastl.compression.kernels import Kernel
        >>> layer = keras.layers.Conv2D(4, 3)
        >>> layer.build((None, 8, 8, 2))
        >>> pattern_for(Kernel("conv", layer, layer.kernel), (2, 2), None)
        (None, 'is no matrix, which blocks need')
    """
    if m_by_n is not None:
        view = channels_view(kernel)
        if view is None:
            return None, "sums over no inputs to count by"
        return Pattern((1, 1), m_by_n, view), None
    if block_size == (1, 1):
        return Pattern(), None
    view = matrix_view(kernel)
    if view is None:
        return None, "is no matrix, which blocks need"
    if any(size <= block for size, block in zip(view.shape, block_size, strict=True)):
        return None, f"is smaller than two blocks: its kernel is {view.shape}"
    return Pattern(block_size, None, view), None


def check_patterns(
    block_size: int | tuple[int, int], m_by_n: tuple[int, int] | None
) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """`block_size` and `m_by_n` as tuples of ints, or an error."""
    block_size = _pair(block_size, "block_size")
    if m_by_n is None:
        return block_size, None
    m, n = _pair(m_by_n, "m_by_n")
    if m >= n:
        raise ValueError(f"`m_by_n` must be (m, n) with m < n. Received: m_by_n={m_by_n!r}")
    if block_size != (1, 1):
        raise ValueError(
            "Pass `block_size` or `m_by_n`, not both. "
            f"Received: block_size={block_size}, m_by_n={m_by_n!r}"
        )
    return block_size, (m, n)


def check_pattern_schedule(schedule: Any, m_by_n: tuple[int, int] | None) -> Any:
    """The target sparsity or TFMOT schedule that `schedule` means, or an error.

    With `m_by_n` the sparsity is `m / n`, and TFMOT makes such masks once.
    """
    is_number = isinstance(schedule, numbers.Real)
    if m_by_n is None:
        check = check_sparsity if is_number else check_schedule
        return check(schedule, "schedule")
    share = m_by_n[0] / m_by_n[1]
    once = schedule is None or is_number
    if not once:
        check_schedule(schedule, "schedule")
    target = share if schedule is None else schedule if is_number else _constant(schedule)
    if target is None or not math.isclose(target, share):
        raise ValueError(
            f"With `m_by_n`, `schedule` must be None or `constant_sparsity({share:g})`. "
            f"Received: m_by_n={m_by_n}, schedule={schedule!r}"
        )
    return constant_sparsity(share, end_step=0) if once else schedule


def _constant(schedule):
    return getattr(schedule, "target_sparsity", None)


def _pair(value, name) -> tuple[int, int]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"`{name}` must be a pair of ints > 0. Received: {name}={value!r}")
    first, second = (checks.whole(part, 1, 2**31 - 1, name) for part in value)
    return first, second


LAST_STEP = 2**31 - 1
RECOVERY = 1 / 3  # share of a training left to recover in, where only a target is given
UPDATES = 20  # masks on the way there


def check_sparsity(value: float, name: str) -> float:
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


def constant_sparsity(
    target: float, *, begin_step: int = 0, end_step: int | None = None, frequency: int = 100
) -> Any:
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
    return island.schedules().ConstantSparsity(
        float(target), begin_step, -1 if end_step is None else end_step, frequency
    )


def polynomial_decay(
    target: float,
    *,
    begin_step: int = 0,
    end_step: int,
    initial: float = 0.0,
    power: float = 3,
    frequency: int = 100,
) -> Any:
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
    checks.whole(end_step, 1, LAST_STEP, "end_step")
    _check_steps(begin_step, end_step, frequency)
    if not power > 0:
        raise ValueError(f"`power` must be a number > 0. Received: power={power!r}")
    if end_step == begin_step or (end_step - begin_step) % frequency:
        raise ValueError(
            "`frequency` must divide `end_step - begin_step`, so that the last mask has the target "
            f"sparsity. Received: begin_step={begin_step}, end_step={end_step}, "
            f"frequency={frequency}"
        )
    return island.schedules().PolynomialDecay(
        float(initial), float(target), begin_step, end_step, power, frequency
    )


def over_training(target: float, begin: int, steps: int, initial: float = 0.0) -> Any:
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


def restored(config: Mapping[str, Any]) -> Any:
    """The schedule that `over_training` gave, from its `get_config()["config"]`."""
    return island.schedules().PolynomialDecay(**config)


def updates_between(schedule: Any, after: int, until: int) -> list[int]:
    """The steps in (`after`, `until`] at which `schedule` makes new masks.

    Example:
        >>> updates_between(constant_sparsity(0.5, begin_step=2, frequency=3), 2, 9)
        [5, 8]
    """
    begin, frequency = schedule.begin_step, schedule.frequency
    last = until if schedule.end_step < 0 else min(until, schedule.end_step)
    first = begin + -(-(max(after + 1, begin) - begin) // frequency) * frequency
    return list(range(first, last + 1, frequency))


def check_schedule(schedule: Any, name: str) -> Any:
    """Return `schedule` if it is a TFMOT schedule in whose steps this room can count."""
    needed = ("begin_step", "end_step", "frequency")
    if not callable(schedule) or not all(hasattr(schedule, name) for name in needed):
        raise TypeError(
            "`schedule` must be a target sparsity in [0, 1), or what `constant_sparsity(...)` or "
            f"`polynomial_decay(...)` return. Received: schedule={schedule!r} (of type "
            f"{type(schedule).__module__}.{type(schedule).__qualname__})"
        )
    return schedule


def check_in_training(schedule: Any, step: int, last_step: int | None) -> None:
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
    checks.whole(begin_step, 0, LAST_STEP, "begin_step")
    checks.whole(frequency, 1, LAST_STEP, "frequency")
    if end_step is not None:
        checks.whole(end_step, begin_step, LAST_STEP, "end_step")
