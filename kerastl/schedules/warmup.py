"""A straight warm-up, then a decay: straight or by half a cosine."""

import abc
import dataclasses

import numpy as np

from kerastl import _checks
from kerastl.schedules.shape import Shape, half_cosine, line, two_parts


@dataclasses.dataclass(frozen=True)
class _Warmup(Shape):
    """A straight line from `start` up to 1 over `warmup`, then what `_fall` says down to `end`."""

    warmup: float = 0.1
    start: float = 0.0
    end: float = 0.0

    def __post_init__(self):
        _check(self)

    def factor(self, progress, xp=np):
        return two_parts(
            progress,
            self.warmup,
            first=lambda position: line(position, self.start, 1.0),
            second=lambda position: self._fall(position, xp),
            xp=xp,
        )

    @abc.abstractmethod
    def _fall(self, position, xp):
        """The factor at `position`, from 0 at the peak to 1 at the end."""


@dataclasses.dataclass(frozen=True)
class WarmupLinear(_Warmup):
    """A straight line from `start` up to 1 over `warmup`, then straight down to `end`.

    Args:
        warmup: Float in [0, 1], the progress at the peak.
        start: Float in [0, 1], the first factor.
        end: Float in [0, 1], the last factor.

    Raises:
        ValueError: If an argument is outside its range.

    Example:
        >>> [float(WarmupLinear(warmup=0.5).factor(p)) for p in (0.0, 0.25, 0.5, 0.75, 1.0)]
        [0.0, 0.5, 1.0, 0.5, 0.0]

    References:
        Goyal et al., 2017, section 2.2 (gradual warm-up), https://arxiv.org/abs/1706.02677;
        Devlin et al., 2019, appendix A.2 (linear decay), https://arxiv.org/abs/1810.04805
    """

    def _fall(self, position, xp):
        return line(position, 1.0, self.end)


@dataclasses.dataclass(frozen=True)
class WarmupCosine(_Warmup):
    """A straight line from `start` up to 1 over `warmup`, then half a cosine down to `end`.

    Over `n` steps at a peak it is `keras.optimizers.schedules.CosineDecay(start * peak,
    (1 - warmup) * n, alpha=end, warmup_target=peak, warmup_steps=warmup * n)`.

    Args:
        warmup: Float in [0, 1], the progress at the peak.
        start: Float in [0, 1], the first factor.
        end: Float in [0, 1], the last factor.

    Raises:
        ValueError: If an argument is outside its range.

    Example:
        >>> [round(float(WarmupCosine(warmup=0.2).factor(p)), 3) for p in (0.0, 0.1, 0.2, 0.6)]
        [0.0, 0.5, 1.0, 0.5]

    References:
        Loshchilov & Hutter, 2017, equation 5, https://arxiv.org/abs/1608.03983, after the warm-up
        of Goyal et al., 2017, section 2.2, https://arxiv.org/abs/1706.02677
    """

    def _fall(self, position, xp):
        return half_cosine(position, 1.0, self.end, xp=xp)


def _check(shape):
    _checks.in_range(shape.warmup, 0.0, 1.0, "warmup", "a share of the steps")
    _checks.in_range(shape.start, 0.0, 1.0, "start", "a share of the peak")
    _checks.in_range(shape.end, 0.0, 1.0, "end", "a share of the peak")
