"""Training on without forgetting: terms that hold weights near what they were."""

from kerastl.continual.l2_sp import L2SP

__all__ = ["L2SP"]
