"""Shapes of one part: constant, and exponential as the LR finder needs it."""

import dataclasses

import numpy as np

from kerastl import _checks
from kerastl.schedules.shape import Shape


@dataclasses.dataclass(frozen=True)
class Constant(Shape):
    """The peak rate throughout.

    Example:
        >>> float(Constant().factor(0.7))
        1.0
    """

    def factor(self, progress, xp=np):
        return xp.ones_like(progress)


@dataclasses.dataclass(frozen=True)
class Exponential(Shape):
    """`factor = start * (end / start) ** progress`: the same ratio from each step to the next.

    Args:
        start: Float > 0, the factor at progress 0.
        end: Float > 0, the factor at progress 1.

    Raises:
        ValueError: If an argument is outside its range.

    Example:
        >>> [round(float(Exponential(1e-4, 1.0).factor(p)), 6) for p in (0.0, 0.5, 1.0)]
        [0.0001, 0.01, 1.0]

    References:
        Smith, 2017, section 3.3 (the range test; exponential as in fastai's `SchedExp`),
        https://arxiv.org/abs/1506.01186
    """

    start: float
    end: float

    def __post_init__(self):
        _checks.in_range(self.start, 1e-30, 1e30, "start", "a factor")
        _checks.in_range(self.end, 1e-30, 1e30, "end", "a factor")

    def factor(self, progress, xp=np):
        return self.start * xp.power(self.end / self.start, progress)
