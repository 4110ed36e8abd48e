"""Strategies of the field, each a function that returns one plan.

`probe`, `head`, `partial`, `full` and `gradual` are the measured defaults: what `tune`, `compare`
and `recommend` mean by these names. `lora` and `adapters` train adapters in place of the layers
below the head. `ulmfit`, `lp_ft`, `fastai` and `few_shot` are papers' own.
"""

from kerastl.plans.strategies.adapted import adapters, lora
from kerastl.plans.strategies.measured import (
    COSINE,
    WARMUP,
    full,
    gradual,
    head,
    partial,
    probe,
)
from kerastl.plans.strategies.names import NAMES, PLAIN, by_name
from kerastl.plans.strategies.papers import fastai, few_shot, lp_ft, ulmfit

__all__ = [
    "COSINE",
    "NAMES",
    "PLAIN",
    "WARMUP",
    "adapters",
    "by_name",
    "fastai",
    "few_shot",
    "full",
    "gradual",
    "head",
    "lora",
    "lp_ft",
    "partial",
    "probe",
    "ulmfit",
]
