"""What the tests of FollowPlan share: a small model, its fit, plans and formulas by hand."""

import math

import keras

from kerastl.plans import Phase, TransferPlan
from kerastl.training import FineTuner
from tests.training.test_fine_tuner import data, small

LOSS = "sparse_categorical_crossentropy"
GROUPS = ("block_1", "block_2", "head")  # of `small`: low and norm, mid, head
STEPS = 4  # an epoch: 32 examples by 8


def compiled(optimizer=None, **kwargs):
    model = FineTuner.from_model(small())
    model.compile(optimizer or keras.optimizers.Adam(0.5), LOSS, **kwargs)
    assert model.groups.names == GROUPS
    return model


def fit(model, *callbacks, epochs, **kwargs):
    """`fit` on the same batches in the same order, with FollowPlan where callbacks have it."""
    return model.fit(
        *data(), batch_size=8, shuffle=False, verbose=0, epochs=epochs, callbacks=list(callbacks),
        **kwargs,
    ).history  # fmt: skip


def three_phases(**changes):
    phases = [
        Phase(1, "head", learning_rate=0.02, **changes),
        Phase(2, 2, learning_rate=0.01, multipliers={"block_2": 0.1}, **changes),
        Phase(1, "all", learning_rate=0.004, multipliers={"block_1": 0.01, "block_2": 0.5},
              **changes),
    ]  # fmt: skip
    return TransferPlan(phases)


def one_cycle(progress, warmup, start_div, end_div=1e5):
    """Factor of the peak as fastai's `combined_cos` has it."""
    if progress < warmup:
        low, high, position = 1 / start_div, 1.0, progress / warmup
    else:
        low, high, position = 1.0, 1 / end_div, (progress - warmup) / (1 - warmup)
    return high + (low - high) * (1 + math.cos(math.pi * position)) / 2
