"""The probe: a head on frozen features that is solved by regression and not trained."""

from kerastl.training.probe.cross_validation import folds_of
from kerastl.training.probe.head import head_of
from kerastl.training.probe.regressions import Regression
from kerastl.training.probe.solve_head import Probe, solve_head
from kerastl.training.probe.temperature import best_temperature

__all__ = ["Probe", "Regression", "best_temperature", "folds_of", "head_of", "solve_head"]
