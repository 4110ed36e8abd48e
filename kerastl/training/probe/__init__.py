"""The probe: a head on frozen features that is solved by regression and not trained."""

from kerastl.training.probe.head import head_of
from kerastl.training.probe.solve_head import Probe, solve_head

__all__ = ["Probe", "head_of", "solve_head"]
