"""FineTuner: the Keras model that trains as the plan says."""

from kerastl.training.fine_tuner import FineTuner

__all__ = ["FineTuner"]
