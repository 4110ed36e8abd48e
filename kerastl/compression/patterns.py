"""Which weights become zero together: single ones, blocks, or `m` in each `n`."""

import dataclasses
import math
import numbers

from kerastl import _checks
from kerastl.compression import sparsity_schedules as schedules
from kerastl.compression.prunable import View, channels_view, matrix_view


@dataclasses.dataclass(frozen=True)
class Pattern:
    """Which weights of one kernel go together.

    Attributes:
        block_size: Tuple of two ints, blocks of inputs × outputs; `(1, 1)` for single weights.
        m_by_n: Tuple `(m, n)` for `m` zeros in each `n` consecutive inputs, or None.
        view: `View` of the kernel that blocks or `m_by_n` are counted in, or None.
    """

    block_size: tuple = (1, 1)
    m_by_n: tuple | None = None
    view: View | None = None


def pattern_for(kernel, block_size, m_by_n):
    """`Pattern` of a `Kernel`, or None, and the reason why there is none.

    Example:
        >>> import keras
        >>> from kerastl.compression.prunable import Kernel
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


def check_patterns(block_size, m_by_n):
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


def check_schedule(schedule, m_by_n):
    """The target sparsity or TFMOT schedule that `schedule` means, or an error.

    With `m_by_n` the sparsity is `m / n`, and TFMOT makes such masks once.
    """
    is_number = isinstance(schedule, numbers.Real)
    if m_by_n is None:
        check = schedules.check_sparsity if is_number else schedules.check_schedule
        return check(schedule, "schedule")
    share = m_by_n[0] / m_by_n[1]
    once = schedule is None or is_number
    if not once:
        schedules.check_schedule(schedule, "schedule")
    target = share if schedule is None else schedule if is_number else _constant(schedule)
    if target is None or not math.isclose(target, share):
        raise ValueError(
            f"With `m_by_n`, `schedule` must be None or `constant_sparsity({share:g})`. "
            f"Received: m_by_n={m_by_n}, schedule={schedule!r}"
        )
    return schedules.constant_sparsity(share, end_step=0) if once else schedule


def _constant(schedule):
    return getattr(schedule, "target_sparsity", None)


def _pair(value, name):
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"`{name}` must be a pair of ints > 0. Received: {name}={value!r}")
    return tuple(_checks.whole(part, 1, 2**31 - 1, name) for part in value)
