"""One stretch of training in which the same groups train at the same multipliers."""

import collections.abc
import dataclasses
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from kerastl._base import checks
from kerastl._base.types import BatchNormPolicy
from kerastl.freezing.freeze import BATCH_NORM_POLICIES
from kerastl.schedules import Schedule


class FrozenDict(dict):
    """A dict that cannot be changed; equal to any dict of the same items, whatever their order.

    Example:
        >>> FrozenDict(head=1.0) == {"head": 1.0}, len({FrozenDict(a=1), FrozenDict(a=1)})
        (True, 1)
    """

    def __hash__(self) -> int:
        return hash(frozenset(self.items()))

    def _refuse(self, *args, **kwargs):
        raise TypeError(
            "The multipliers of a phase cannot be changed. Make a new phase: "
            "`dataclasses.replace(phase, multipliers={...})`."
        )

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse  # pyright: ignore[reportAssignmentType]

    def __reduce__(self):
        return type(self), (dict(self),)

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self


MODES = ("auto", "min", "max")


@dataclasses.dataclass(frozen=True)
class EarlyStop:
    """Ends a phase, not the training, when a metric of the epochs stops improving.

    The rule is that of `keras.callbacks.EarlyStopping`, begun anew with the phase.

    Args:
        monitor: Name of a metric in the logs of an epoch, such as `"val_loss"`.
        patience: Int >= 0, epochs in a row without improvement after which the phase ends.
        min_delta: Float >= 0 in the metric's unit; smaller changes are no improvement.
        mode: `"min"`, `"max"`, or `"auto"` to ask the metric.

    Raises:
        ValueError, TypeError: If an argument is out of its range.

    Example:
        >>> EarlyStop("val_accuracy", patience=3)
        EarlyStop(monitor='val_accuracy', patience=3, min_delta=0.0, mode='auto')
    """

    monitor: str = "val_loss"
    patience: int = 2
    min_delta: float = 0.0
    mode: Literal["auto", "min", "max"] = "auto"

    def __post_init__(self) -> None:
        if not isinstance(self.monitor, str) or not self.monitor:
            raise TypeError(
                f"`monitor` must be the name of a metric. Received: monitor={self.monitor!r}"
            )
        checks.whole(self.patience, 0, 100_000, "patience")
        checks.in_range(self.min_delta, 0.0, math.inf, "min_delta", "a float")
        checks.one_of(self.mode, MODES, "mode")


ALL = "all"


@dataclasses.dataclass(frozen=True)
class Phase:
    """What trains for some epochs, and how. Plain data: equal when equal.

    Args:
        epochs: Int > 0.
        train: What trains: the name of a group, several names, an int `n > 0` for "the `n` groups
            nearest the head, in all", or `"all"`. Everything else is frozen.
        name: String for tables and messages, or None.
        learning_rate: Float > 0, the (peak) rate of a group whose multiplier is 1. None, in all
            phases of a plan alike, is what the model was compiled with.
        multipliers: Dict from group name to a float > 0 that multiplies the learning rate of the
            group. Groups not named have 1.
        schedule: A schedule of `kerastl.schedules` over the steps of this phase, or None for a rate
            that stands still.
        weight_decay: Float >= 0, decoupled, or None, in all phases of a plan alike, for what the
            model was compiled with.
        batch_norm: What batch normalizations of the backbone's groups that train do:
            `"inference"` (their statistics stay as they were learned), `"frozen"` or `"train"`;
            see `unfreeze`. Those of a group called `head` are new and learn their statistics.
        early_stop: `EarlyStop` that may end the phase early, or None.

    Raises:
        ValueError, TypeError: If an argument is out of its range.

    Example:
        >>> Phase(2, "head", learning_rate=1e-3).train
        ('head',)
        >>> Phase(2, 3, multipliers={"stem": 0})
        Traceback (most recent call last):
        ValueError: A multiplier must be a finite number > 0. Received: multipliers={'stem': 0}. \
To hold a group still, leave it out of `train`.
    """

    epochs: int
    train: str | int | Sequence[str]
    _: dataclasses.KW_ONLY
    name: str | None = None
    learning_rate: float | None = None
    multipliers: Mapping[str, float] = dataclasses.field(default_factory=FrozenDict)
    schedule: Schedule | None = None
    weight_decay: float | None = None
    batch_norm: BatchNormPolicy = "inference"
    early_stop: EarlyStop | None = None

    def __post_init__(self) -> None:
        checks.whole(self.epochs, 1, 1_000_000, "epochs")
        object.__setattr__(self, "train", _checked_train(self.train))
        object.__setattr__(self, "multipliers", _checked_multipliers(self.multipliers))
        if self.name is not None and not isinstance(self.name, str):
            raise TypeError(f"`name` must be a string or None. Received: name={self.name!r}")
        if self.learning_rate is not None:
            _check_rate(self.learning_rate)
        if self.weight_decay is not None:
            checks.in_range(self.weight_decay, 0.0, 1e6, "weight_decay")
        checks.one_of(self.batch_norm, BATCH_NORM_POLICIES, "batch_norm")
        check_schedule(self.schedule)
        if self.early_stop is not None and not isinstance(self.early_stop, EarlyStop):
            raise TypeError(
                "`early_stop` must be a `kerastl.plans.EarlyStop` or None. "
                f"Received: early_stop={self.early_stop!r}"
            )

    @property
    def is_symbolic(self) -> bool:
        """Whether only a model's groups can tell which of them train."""
        return not isinstance(self.train, tuple)


def check_schedule(schedule: Any) -> None:
    """Raise if `schedule` is neither None nor a schedule of `kerastl.schedules`."""
    if schedule is None or isinstance(schedule, Schedule):
        return
    raise TypeError(
        "`schedule` must be a schedule of kerastl.schedules, such as OneCycle(), or None. A Keras "
        "LearningRateSchedule counts steps and belongs to `compile`. "
        f"Received: schedule={schedule!r}"
    )


def _checked_train(train):
    if isinstance(train, str):
        return ALL if train == ALL else (train,)
    if isinstance(train, int):
        return checks.whole(train, 1, 1_000_000, "train")
    names = tuple(train) if isinstance(train, collections.abc.Iterable) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError(
            "`train` must be the name of a group, several names, an int for the number of groups "
            f"nearest the head, or 'all'. Received: train={train!r}"
        )
    if len(set(names)) < len(names):
        raise ValueError(f"`train` must name each group once. Received: train={train!r}")
    return names


def _checked_multipliers(multipliers):
    if not isinstance(multipliers, collections.abc.Mapping):
        raise TypeError(
            "`multipliers` must be a dict from group name to a number > 0. "
            f"Received: multipliers={multipliers!r}"
        )
    for name, value in multipliers.items():
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not (real and 0 < float(value) < math.inf):
            raise ValueError(
                "A multiplier must be a finite number > 0. "
                f"Received: multipliers={{{name!r}: {value!r}}}. "
                "To hold a group still, leave it out of `train`."
            )
    return FrozenDict((name, float(value)) for name, value in multipliers.items())


def _check_rate(rate):
    real = isinstance(rate, (int, float)) and not isinstance(rate, bool)
    if not real or not 0 < rate < math.inf:
        raise ValueError(
            "`learning_rate` must be a finite number > 0, or None for what the model was compiled "
            f"with. Received: learning_rate={rate!r}"
        )
