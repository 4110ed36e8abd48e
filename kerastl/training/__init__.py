"""FineTuner: the Keras model that trains as the plan says, and the terms of its loss."""

from kerastl.training.blending import blend_weights
from kerastl.training.clock import Seconds
from kerastl.training.fine_tuner import FineTuner
from kerastl.training.pairs import SamePairs
from kerastl.training.probe import Probe, solve_head
from kerastl.training.terms import Term, TermStep

__all__ = [
    "FineTuner",
    "Probe",
    "SamePairs",
    "Seconds",
    "Term",
    "TermStep",
    "blend_weights",
    "solve_head",
]
