"""A transfer as plain data: how long, which groups train, and at what rates."""

from kerastl.plans import strategies
from kerastl.plans.adapter_plan import AdapterPlan
from kerastl.plans.joining import join_thaws
from kerastl.plans.phase import EarlyStop, Phase
from kerastl.plans.recommend import recommend
from kerastl.plans.resolved import ResolvedPhase, ResolvedPlan
from kerastl.plans.transfer_plan import TransferPlan
from kerastl.plans.work import GroupWork, TrainingWork, work_of

__all__ = [
    "AdapterPlan",
    "EarlyStop",
    "GroupWork",
    "Phase",
    "ResolvedPhase",
    "ResolvedPlan",
    "TrainingWork",
    "TransferPlan",
    "join_thaws",
    "recommend",
    "strategies",
    "work_of",
]
