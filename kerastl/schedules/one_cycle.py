"""One cycle: up to the peak and far down again, momentum the other way round."""

import dataclasses

import numpy as np

from kerastl import _checks
from kerastl.schedules.shape import Shape, half_cosine, two_parts


@dataclasses.dataclass(frozen=True)
class OneCycle(Shape):
    """Half a cosine up to the peak, half a cosine down to almost nothing.

    The factor rises from `1 / start_div` to 1 while progress goes to `warmup`, then falls to
    `1 / end_div`; momentum goes from `momentum[0]` to `momentum[1]` and back.

    `fine_tune` of fastai trains its head by `OneCycle(warmup=0.99)` and then everything by
    `OneCycle(warmup=0.3, start_div=5)`.

    Args:
        warmup: Float in [0, 1], the progress at the peak.
        start_div: Float >= 1, the peak over the first rate.
        end_div: Float >= 1, the peak over the last rate.
        momentum: Pair of floats in [0, 1), at the ends and at the peak, or None to leave it alone.

    Raises:
        ValueError: If an argument is outside its range.

    Example:
        >>> [round(float(OneCycle().factor(p)), 2) for p in (0.0, 0.125, 0.25, 0.5)]
        [0.04, 0.52, 1.0, 0.75]
        >>> round(float(OneCycle().momentum_at(0.25)), 2)
        0.85

    References:
        Smith & Topin, 2018, https://arxiv.org/abs/1708.07120; with cosines and these defaults in
        fastai, `combined_cos` and `fit_one_cycle` of `fastai/callback/schedule.py`.
    """

    warmup: float = 0.25
    start_div: float = 25.0
    end_div: float = 1e5
    momentum: tuple | None = (0.95, 0.85)

    def __post_init__(self):
        _checks.in_range(self.warmup, 0.0, 1.0, "warmup", "a share of the steps")
        _checks.in_range(self.start_div, 1.0, 1e30, "start_div")
        _checks.in_range(self.end_div, 1.0, 1e30, "end_div")
        if self.momentum is not None:
            object.__setattr__(self, "momentum", _checked_pair(self.momentum))

    def factor(self, progress, xp=np):
        return two_parts(
            progress,
            self.warmup,
            first=lambda position: half_cosine(position, 1.0 / self.start_div, 1.0, xp=xp),
            second=lambda position: half_cosine(position, 1.0, 1.0 / self.end_div, xp=xp),
            xp=xp,
        )

    def momentum_at(self, progress, xp=np):
        if self.momentum is None:
            return None
        ends, middle = self.momentum
        return two_parts(
            progress,
            self.warmup,
            first=lambda position: half_cosine(position, ends, middle, xp=xp),
            second=lambda position: half_cosine(position, middle, ends, xp=xp),
            xp=xp,
        )


def _checked_pair(momentum):
    if not isinstance(momentum, (tuple, list)) or len(momentum) != 2:
        raise ValueError(
            "`momentum` must be a pair (at the ends, at the peak), or None to leave it alone. "
            f"Received: momentum={momentum!r}"
        )
    # Not 1, where nothing would be learned; Adam divides by 1 - beta_1.
    below_one = 1.0 - 1e-6
    return tuple(_checks.in_range(value, 0.0, below_one, "momentum") for value in momentum)
