"""Callbacks that carry a transfer through one `fit` and check that it happened."""

from kerastl.callbacks.audit import Audit, AuditError
from kerastl.callbacks.gradual_unfreezing import GradualUnfreezing

__all__ = ["Audit", "AuditError", "GradualUnfreezing"]
