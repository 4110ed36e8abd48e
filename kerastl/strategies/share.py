"""One phase in which a share of the groups trains: the head, the top, or all of them."""

import math

from kerastl import _checks
from kerastl.plan import Phase, TransferPlan
from kerastl.plan.resolved import group_names
from kerastl.schedules import WarmupCosine

# A tenth of the steps up from 1/25 of the peak, then half a cosine down to nothing.
COSINE = WarmupCosine(warmup=0.1, start=0.04)


def feature_extraction(groups, *, epochs, learning_rate, schedule=COSINE):
    """Train the head on frozen features.

    Args:
        groups: `LayerGroups`, or names of groups, ordered from input to head.
        epochs: Int > 0.
        learning_rate: Float > 0, the peak rate.
        schedule: Shape of `kerastl.schedules` over the plan, or None for a constant rate.

    Returns:
        `TransferPlan` of one phase.

    Example:
        >>> print(feature_extraction(["stem", "block", "head"], epochs=5, learning_rate=1e-3))
        TransferPlan 'feature_extraction': 1 phase, 5 epochs
        schedule over the whole plan: WarmupCosine(start=0.04)
                         head
        epochs              5
        train            head
        batch norm  inference
        head            0.001

    References:
        Razavian et al., 2014, https://arxiv.org/abs/1403.6382
    """
    head = group_names(groups)[-1]
    phase = Phase(epochs, head, name="head", learning_rate=learning_rate)
    return TransferPlan([phase], name="feature_extraction", schedule=schedule)


def partial(
    groups, *, epochs, learning_rate, num_groups=None, head_rate_over_backbone=10.0, schedule=COSINE
):
    """Train the head and the groups nearest it; the rest stays frozen.

    Args:
        groups: `LayerGroups`, or names of groups, ordered from input to head.
        epochs: Int > 0.
        learning_rate: Float > 0, the peak rate of the head.
        num_groups: Int > 0, how many groups train, the head included. None is the head and the
            top third of the others.
        head_rate_over_backbone: Float > 0, how many times as fast as the others the head learns.
        schedule: As in `feature_extraction`.

    Returns:
        `TransferPlan` of one phase.

    Example:
        >>> plan = partial(["stem", "low", "high", "head"], epochs=5, learning_rate=1e-2)
        >>> plan.phases[0].train, plan.phases[0].multipliers["high"]
        (('high', 'head'), 0.1)

    References:
        Yosinski et al., 2014 (features grow specific towards the head),
        https://arxiv.org/abs/1411.1792
    """
    names = group_names(groups)
    if num_groups is None:
        num_groups = 1 + math.ceil((len(names) - 1) / 3)
    _checks.whole(num_groups, 1, len(names), "num_groups")
    phase = _head_faster(names[-num_groups:], epochs, learning_rate, head_rate_over_backbone)
    return TransferPlan([phase], name="partial", schedule=schedule)


def full(groups, *, epochs, learning_rate, head_rate_over_backbone=10.0, schedule=COSINE):
    """Train everything, the pretrained groups ten times as slowly as the new head.

    Args:
        groups: As in `partial`, and so are the others.
        epochs: Int > 0.
        learning_rate: Float > 0, the peak rate of the head.
        head_rate_over_backbone: Float > 0.
        schedule: As in `feature_extraction`.

    Returns:
        `TransferPlan` of one phase.

    Example:
        >>> full(["stem", "head"], epochs=5, learning_rate=1e-2).phases[0].multipliers
        {'stem': 0.1, 'head': 1.0}

    References:
        Girshick et al., 2014, section 2.3 (fine-tuning at a tenth of the rate of pretraining),
        https://arxiv.org/abs/1311.2524
    """
    names = group_names(groups)
    phase = _head_faster(names, epochs, learning_rate, head_rate_over_backbone)
    return TransferPlan([phase], name="full", schedule=schedule)


def _head_faster(names, epochs, learning_rate, ratio):
    _checks.in_range(ratio, 1e-6, 1e6, "head_rate_over_backbone")
    return Phase(
        epochs,
        names,
        name="head" if len(names) == 1 else f"top {len(names)} groups",
        learning_rate=learning_rate,
        multipliers={**dict.fromkeys(names[:-1], 1.0 / ratio), names[-1]: 1.0},
    )
