"""FineTuner: the Keras model that trains as the plan says."""

from kerastl.fine_tuner.model import FineTuner
from kerastl.freezing import is_inert

__all__ = ["FineTuner", "is_inert"]
