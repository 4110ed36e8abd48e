"""Which layers train: freezing, thawing, batch normalization, at any depth of a model."""

from kerastl.freezing.batch_norm import fix_statistics, freeze_batch_norm, has_fixed_statistics
from kerastl.freezing.change import Change
from kerastl.freezing.flags import (
    all_leaves,
    count_trainable,
    count_weights,
    is_frozen,
    set_frozen,
    training_ids,
)
from kerastl.freezing.folding import folded_pairs, with_folding
from kerastl.freezing.freeze import freeze, freeze_to, unfreeze
from kerastl.freezing.inert import inert_inside, infer, is_inert, with_own_training
from kerastl.freezing.state import freezing_state, restore_freezing

__all__ = [
    "Change",
    "all_leaves",
    "count_trainable",
    "count_weights",
    "fix_statistics",
    "folded_pairs",
    "freeze",
    "freeze_batch_norm",
    "freeze_to",
    "freezing_state",
    "has_fixed_statistics",
    "inert_inside",
    "infer",
    "is_frozen",
    "is_inert",
    "restore_freezing",
    "set_frozen",
    "training_ids",
    "unfreeze",
    "with_folding",
    "with_own_training",
]
