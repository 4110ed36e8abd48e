"""A `LossScaleOptimizer` skips steps, so it stands outside an `LRMultiplier`, never inside."""

from typing import Any

import keras
from keras.optimizers import LossScaleOptimizer


def inside(optimizer: keras.optimizers.Optimizer) -> Any:
    """What a loss scale stands around, or `optimizer` itself if it is none."""
    return optimizer.inner_optimizer if isinstance(optimizer, LossScaleOptimizer) else optimizer


def around(
    outer: keras.optimizers.Optimizer, optimizer: keras.optimizers.Optimizer
) -> keras.optimizers.Optimizer:
    """`optimizer` with a loss scale like that of `outer`, or as it is if `outer` has none."""
    if not isinstance(outer, LossScaleOptimizer):
        return optimizer
    return LossScaleOptimizer(
        optimizer,
        initial_scale=outer.initial_scale,
        dynamic_growth_steps=outer.dynamic_growth_steps,
        name=outer.name,
    )
