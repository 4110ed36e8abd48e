"""What fastai's `fine_tune` does."""

from kerastl import _checks
from kerastl.optimizers import discriminative_rates
from kerastl.plan import Phase, TransferPlan
from kerastl.plan.resolved import group_names
from kerastl.schedules import OneCycle


def fastai_fine_tune(
    groups, *, epochs, learning_rate=2e-3, freeze_epochs=1, lr_mult=100.0, momentum=(0.95, 0.85)
):
    """The head for an epoch, then everything: each phase one cycle, rates and all as in fastai.

    First the head alone, one cycle that peaks after 99 % of its steps. Then all groups at half
    the base rate, a hundredth of that at the input and geometrically spaced between, one cycle
    that starts at a fifth of the peak and peaks after 30 % of its steps.

    It departs from fastai in what is not a rate: batch normalizations of frozen groups stay
    frozen, and those of the backbone keep their statistics when they thaw.

    Args:
        groups: `LayerGroups`, or names of groups, ordered from input to head.
        epochs: Int > 1, of both phases together: fastai's `fine_tune(n)` has `n + freeze_epochs`.
        learning_rate: Float > 0, fastai's `base_lr`.
        freeze_epochs: Int > 0, epochs of the first phase.
        lr_mult: Float >= 1, the head's rate over that of the group at the input.
        momentum: As in `OneCycle`; None for an optimizer without momentum to cycle.

    Returns:
        `TransferPlan` of two phases.

    Example:
        >>> plan = fastai_fine_tune(["stem", "body", "head"], epochs=4)
        >>> print(plan.resolve(["stem", "body", "head"]))
        TransferPlan 'fastai_fine_tune': 2 phases, 4 epochs
                                     head                                all
        epochs                          1                                  3
        schedule    OneCycle(warmup=0.99)  OneCycle(warmup=0.3, start_div=5)
        batch norm              inference                          inference
        stem                            ·                              1e-05
        body                            ·                             0.0001
        head                        0.002                              0.001

    References:
        Howard & Gugger, 2020, https://arxiv.org/abs/2002.04688; `fine_tune` of
        `fastai/callback/schedule.py`
    """
    names = group_names(groups)
    _checks.whole(epochs, 2, 1_000_000, "epochs")
    _checks.whole(freeze_epochs, 1, epochs - 1, "freeze_epochs")
    _checks.in_range(lr_mult, 1.0, 1e6, "lr_mult")
    head = Phase(
        freeze_epochs,
        names[-1],
        name="head",
        learning_rate=learning_rate,
        schedule=OneCycle(warmup=0.99, momentum=momentum),
    )
    everything = Phase(
        epochs - freeze_epochs,
        names,
        name="all",
        learning_rate=learning_rate / 2,
        multipliers=discriminative_rates(names, slice(1.0 / lr_mult, 1.0)),
        schedule=OneCycle(warmup=0.3, start_div=5.0, momentum=momentum),
    )
    return TransferPlan([head, everything], name="fastai_fine_tune")
