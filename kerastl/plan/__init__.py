"""A transfer as plain data: how long, which groups train, and at what rates."""

from kerastl.plan.early_stop import EarlyStop
from kerastl.plan.phase import Phase
from kerastl.plan.resolved import ResolvedPhase, ResolvedPlan
from kerastl.plan.transfer_plan import TransferPlan

__all__ = ["EarlyStop", "Phase", "ResolvedPhase", "ResolvedPlan", "TransferPlan"]
