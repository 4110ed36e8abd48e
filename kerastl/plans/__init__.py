"""A transfer as plain data: how long, which groups train, and at what rates."""

from kerastl.plans import strategies
from kerastl.plans.phase import EarlyStop, Phase
from kerastl.plans.recommend import recommend
from kerastl.plans.resolved import ResolvedPhase, ResolvedPlan
from kerastl.plans.transfer_plan import TransferPlan

__all__ = [
    "EarlyStop",
    "Phase",
    "ResolvedPhase",
    "ResolvedPlan",
    "TransferPlan",
    "recommend",
    "strategies",
]
