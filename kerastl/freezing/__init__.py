"""Which layers train: freezing, thawing, batch normalization, at any depth of a model."""

from kerastl.freezing.freeze import Change, freeze, freeze_batch_norm, freeze_to, unfreeze
from kerastl.freezing.state import freezing_state, restore_freezing
from kerastl.freezing.summary import GroupRow, TrainableSummary, trainable_summary

__all__ = [
    "Change",
    "GroupRow",
    "TrainableSummary",
    "freeze",
    "freeze_batch_norm",
    "freeze_to",
    "freezing_state",
    "restore_freezing",
    "trainable_summary",
    "unfreeze",
]
