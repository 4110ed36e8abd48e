"""Callbacks that carry a transfer through one `fit` and check that it happened."""

from kerastl.callbacks.audit import Audit, AuditError
from kerastl.callbacks.evaluate_averages import EvaluateAverages
from kerastl.callbacks.follow_plan import FollowPlan
from kerastl.callbacks.gradual_unfreezing import GradualUnfreezing
from kerastl.callbacks.lr_finder import LRFinder, LRFinderResult, lr_find
from kerastl.callbacks.resume import Resume

__all__ = [
    "Audit",
    "AuditError",
    "EvaluateAverages",
    "FollowPlan",
    "GradualUnfreezing",
    "LRFinder",
    "LRFinderResult",
    "Resume",
    "lr_find",
]
