"""Shapes of the learning rate over the progress of a training, as plain data."""

from kerastl.schedules.one_cycle import OneCycle
from kerastl.schedules.shape import Shape, from_config, progress_at
from kerastl.schedules.simple import Constant, Exponential
from kerastl.schedules.slanted_triangular import SlantedTriangular
from kerastl.schedules.warmup import WarmupCosine, WarmupLinear

__all__ = [
    "Constant",
    "Exponential",
    "OneCycle",
    "Shape",
    "SlantedTriangular",
    "WarmupCosine",
    "WarmupLinear",
    "from_config",
    "progress_at",
]
