"""The slanted triangle of ULMFiT: a short straight rise, a long straight fall."""

import dataclasses

import numpy as np

from kerastl import _checks
from kerastl.schedules.shape import Shape, line, two_parts


@dataclasses.dataclass(frozen=True)
class SlantedTriangular(Shape):
    """A straight rise over the first `cut_frac` of the steps, a straight fall over the rest.

    `factor = (1 + p * (ratio - 1)) / ratio`, where `p` goes from 0 to 1 and back to 0.
    The paper rounds the step of the peak down to a whole one; here the peak is at `cut_frac`
    itself, which is the same wherever `cut_frac * num_steps` is whole.

    Args:
        cut_frac: Float in [0, 1], the progress at the peak.
        ratio: Float >= 1, the peak over the lowest rate.

    Raises:
        ValueError: If an argument is outside its range.

    Example:
        >>> [float(SlantedTriangular().factor(p)) for p in (0.0, 0.1, 1.0)]
        [0.03125, 1.0, 0.03125]

    References:
        Howard & Ruder, 2018, equation 3, https://arxiv.org/abs/1801.06146
    """

    cut_frac: float = 0.1
    ratio: float = 32.0

    def __post_init__(self):
        _checks.in_range(self.cut_frac, 0.0, 1.0, "cut_frac", "a share of the steps")
        _checks.in_range(self.ratio, 1.0, 1e30, "ratio")

    def factor(self, progress, xp=np):
        p = two_parts(
            progress,
            self.cut_frac,
            first=lambda position: line(position, 0.0, 1.0),
            second=lambda position: line(position, 1.0, 0.0),
            xp=xp,
        )
        return (1.0 + p * (self.ratio - 1.0)) / self.ratio
