"""Schedules of the learning rate over the progress of a training, as plain data."""

from kerastl.schedules.curves import (
    Constant,
    Exponential,
    OneCycle,
    SlantedTriangular,
    WarmupCosine,
    WarmupLinear,
)
from kerastl.schedules.schedule import Schedule, from_config, progress_at

__all__ = [
    "Constant",
    "Exponential",
    "OneCycle",
    "Schedule",
    "SlantedTriangular",
    "WarmupCosine",
    "WarmupLinear",
    "from_config",
    "progress_at",
]
