"""One cycle: up to the peak and far down again, momentum the other way round."""

import abc
import dataclasses
import types

import numpy as np

from kerastl._base import checks
from kerastl._base.types import TensorLike
from kerastl.schedules.schedule import Schedule, half_cosine, line, two_parts


@dataclasses.dataclass(frozen=True)
class OneCycle(Schedule):
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
    momentum: tuple[float, float] | None = (0.95, 0.85)

    def __post_init__(self) -> None:
        checks.in_range(self.warmup, 0.0, 1.0, "warmup", "a share of the steps")
        checks.in_range(self.start_div, 1.0, 1e30, "start_div")
        checks.in_range(self.end_div, 1.0, 1e30, "end_div")
        if self.momentum is not None:
            object.__setattr__(self, "momentum", _checked_pair(self.momentum))

    def factor(self, progress: TensorLike, xp: types.ModuleType = np) -> TensorLike:
        return two_parts(
            progress,
            self.warmup,
            first=lambda position: half_cosine(position, 1.0 / self.start_div, 1.0, xp=xp),
            second=lambda position: half_cosine(position, 1.0, 1.0 / self.end_div, xp=xp),
            xp=xp,
        )

    def momentum_at(self, progress: TensorLike, xp: types.ModuleType = np) -> TensorLike | None:
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
    return tuple(checks.in_range(value, 0.0, below_one, "momentum") for value in momentum)


@dataclasses.dataclass(frozen=True)
class SlantedTriangular(Schedule):
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

    def __post_init__(self) -> None:
        checks.in_range(self.cut_frac, 0.0, 1.0, "cut_frac", "a share of the steps")
        checks.in_range(self.ratio, 1.0, 1e30, "ratio")

    def factor(self, progress: TensorLike, xp: types.ModuleType = np) -> TensorLike:
        p = two_parts(
            progress,
            self.cut_frac,
            first=lambda position: line(position, 0.0, 1.0),
            second=lambda position: line(position, 1.0, 0.0),
            xp=xp,
        )
        return (1.0 + p * (self.ratio - 1.0)) / self.ratio


@dataclasses.dataclass(frozen=True)
class _Warmup(Schedule):
    """A straight line from `start` up to 1 over `warmup`, then what `_fall` says down to `end`."""

    warmup: float = 0.1
    start: float = 0.0
    end: float = 0.0

    def __post_init__(self) -> None:
        _check(self)

    def factor(self, progress: TensorLike, xp: types.ModuleType = np) -> TensorLike:
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


def _check(schedule):
    checks.in_range(schedule.warmup, 0.0, 1.0, "warmup", "a share of the steps")
    checks.in_range(schedule.start, 0.0, 1.0, "start", "a share of the peak")
    checks.in_range(schedule.end, 0.0, 1.0, "end", "a share of the peak")


@dataclasses.dataclass(frozen=True)
class Constant(Schedule):
    """The peak rate throughout.

    Example:
        >>> float(Constant().factor(0.7))
        1.0
    """

    def factor(self, progress: TensorLike, xp: types.ModuleType = np) -> TensorLike:
        return xp.ones_like(progress)


@dataclasses.dataclass(frozen=True)
class Exponential(Schedule):
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

    def __post_init__(self) -> None:
        checks.in_range(self.start, 1e-30, 1e30, "start", "a factor")
        checks.in_range(self.end, 1e-30, 1e30, "end", "a factor")

    def factor(self, progress: TensorLike, xp: types.ModuleType = np) -> TensorLike:
        return self.start * xp.power(self.end / self.start, progress)
