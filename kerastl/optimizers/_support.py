"""Which optimizers can be given a rate per variable, and what to use in place of the others."""

import keras

from kerastl.optimizers import _seam

REFUSED = {
    keras.optimizers.Ftrl: (
        "its step is not proportional to the rate (the weights are solved anew from all past "
        "gradients)",
        "Use Adagrad, which adapts in the same way and is linear in the rate.",
    ),
    keras.optimizers.ScheduleFreeAdamW: (
        "it averages the weights with weights that depend on the squared rate, and trains on an "
        "interpolation of them",
        "Use AdamW with a schedule.",
    ),
    keras.optimizers.MultiOptimizer: (
        "it has no `learning_rate` that could be multiplied",
        "Wrap the one optimizer that you want at several rates.",
    ),
    keras.optimizers.LossScaleOptimizer: (
        "it skips steps, so it must stand outside",
        "Wrap the other way round: LossScaleOptimizer(LRMultiplier(...)). Under mixed_float16 "
        "`compile` does that by itself.",
    ),
}


def check_optimizer(optimizer):
    """Return `optimizer` if its steps can be scaled exactly, else raise with what to use."""
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            "`optimizer` must be a keras.optimizers.Optimizer instance. Received: "
            f"optimizer={optimizer!r}. For a name use keras.optimizers.get(name)."
        )
    name = type(optimizer).__name__
    for kind, (reason, remedy) in REFUSED.items():
        if isinstance(optimizer, kind):
            raise ValueError(f"LRMultiplier cannot wrap {name}: {reason}. {remedy}")
    if methods := _seam.overridden_methods(optimizer):
        raise ValueError(
            f"LRMultiplier cannot wrap {name}: it replaces {', '.join(methods)}, where the rate "
            "could be used unseen. Override `update_step` alone, or use an optimizer of "
            "keras.optimizers."
        )
    if optimizer.built or _seam.is_hooked(optimizer):
        raise ValueError(
            f"LRMultiplier needs a fresh optimizer. Received: {name} that is already "
            f"{'wrapped' if _seam.is_hooked(optimizer) else 'built'}. Make a new one with "
            f"{name}.from_config(optimizer.get_config())."
        )
    return optimizer
