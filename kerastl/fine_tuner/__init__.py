"""FineTuner: the Keras model that trains as the plan says."""

from kerastl.fine_tuner.inert import is_inert
from kerastl.fine_tuner.model import FineTuner

__all__ = ["FineTuner", "is_inert"]
