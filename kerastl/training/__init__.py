"""FineTuner: the Keras model that trains as the plan says, and the terms of its loss."""

from kerastl.training.clock import Seconds
from kerastl.training.fine_tuner import FineTuner
from kerastl.training.terms import Term, TermStep

__all__ = ["FineTuner", "Seconds", "Term", "TermStep"]
