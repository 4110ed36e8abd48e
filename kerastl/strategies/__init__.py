"""Strategies of the field as functions that return a `TransferPlan`, and one that chooses."""

from kerastl.strategies.fastai import fastai_fine_tune
from kerastl.strategies.gradual import gradual
from kerastl.strategies.lp_ft import lp_ft
from kerastl.strategies.make import NAMES, PLAIN, make
from kerastl.strategies.recommend import recommend
from kerastl.strategies.share import COSINE, feature_extraction, full, partial

__all__ = [
    "COSINE",
    "NAMES",
    "PLAIN",
    "fastai_fine_tune",
    "feature_extraction",
    "full",
    "gradual",
    "lp_ft",
    "make",
    "partial",
    "recommend",
]


def __getattr__(name):
    if name == "Strategy":
        raise AttributeError(
            "`strategies.Strategy` has gone: strategies return a `kerastl.plan.TransferPlan`. In "
            "place of `.schedule` use `plan.resolve(groups).thaws`, in place of `.multipliers` "
            "`plan.phases[-1].multipliers`, in place of GradualUnfreezing(strategy.schedule) "
            "`callbacks.FollowPlan(plan)`."
        )
    raise AttributeError(f"module 'kerastl.strategies' has no attribute {name!r}")
