"""The probe: a head on frozen features that is solved by regression and not trained."""

from kerastl.training.probe.cross_validation import CrossValidated
from kerastl.training.probe.solve_head import Probe, solve_head

__all__ = ["CrossValidated", "Probe", "solve_head"]
