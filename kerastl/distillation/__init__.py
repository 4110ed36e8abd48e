"""Learning from what another model answers."""

from kerastl.distillation.distill import Distill

__all__ = ["Distill"]
