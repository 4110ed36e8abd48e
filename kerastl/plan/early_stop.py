"""When a phase ends before its epochs are over."""

import dataclasses
import math

from kerastl import _checks

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
    mode: str = "auto"

    def __post_init__(self):
        if not isinstance(self.monitor, str) or not self.monitor:
            raise TypeError(
                f"`monitor` must be the name of a metric. Received: monitor={self.monitor!r}"
            )
        _checks.whole(self.patience, 0, 100_000, "patience")
        _checks.in_range(self.min_delta, 0.0, math.inf, "min_delta", "a float")
        _checks.one_of(self.mode, MODES, "mode")
