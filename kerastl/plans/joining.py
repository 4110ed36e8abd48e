"""Join thaws of a plan whose trace costs more than the epochs that it serves."""

import dataclasses

from kerastl._base import checks
from kerastl.graph.layer_groups import Groups
from kerastl.plans.resolved import group_names
from kerastl.plans.transfer_plan import TransferPlan
from kerastl.plans.work import TrainingWork


def join_thaws(plan: TransferPlan, groups: Groups, work: TrainingWork) -> TransferPlan:
    """`plan` with fewer phases, where tracing the step anew takes longer than what it serves.

    A phase whose trace takes longer than its epochs becomes one with the phase after it, whose
    groups then thaw earlier; the last one, with the phase before it. The first phase, that of the
    head, stays as it is. So do phases that differ in more than what trains, and any pair that
    would take longer as one. Nothing else changes: not the number of epochs, the groups at the
    end, rates or schedule.

    Args:
        plan: `TransferPlan`.
        groups: `LayerGroups`, or names of groups, ordered from input to head.
        work: `TrainingWork` of these groups. It counts and does not time, so that the same plan
            comes out on every machine.

    Returns:
        `TransferPlan`; an equal one where nothing is joined.

    Raises:
        ValueError: If `work` is of other groups.

    Example:
        >>> from kerastl.plans.strategies import gradual
        >>> from kerastl.plans.work import GroupWork
        >>> names = ["stem", "low", "high", "head"]
        >>> groups = dict.fromkeys(names, GroupWork(20, 20, 10**7, 10**5))
        >>> plan = gradual(names, epochs=8)
        >>> for examples in (10**5, 10):
        ...     work = TrainingWork(groups, examples, batch_size=32, copies=0)
        ...     join_thaws(plan, names, work).resolve(names).thaws
        {0: ['head'], 2: ['high'], 3: ['low'], 4: ['stem']}
        {0: ['head'], 2: ['high', 'low', 'stem']}
    """
    _check(work, groups)
    training = [phase.training for phase in plan.resolve(groups).phases]
    joined = []  # pairs of a phase and what trains in it
    for following in zip(plan.phases, training, strict=True):
        if len(joined) > 1 and _pays(work, joined[-1], following, given_up=joined[-1]):
            joined[-1] = _together(joined[-1], following)
        else:
            joined.append(following)
    while len(joined) > 2 and _pays(work, joined[-2], joined[-1], given_up=joined[-1]):
        joined[-2:] = [_together(*joined[-2:])]
    if len(joined) == len(training):
        return plan
    said = (
        f"{len(training)} phases are {len(joined)}, since tracing a step takes longer than some of "
        f"the epochs on {work.examples} examples"
    )
    return dataclasses.replace(
        plan,
        phases=[phase for phase, _ in joined],
        reason=f"{plan.reason} {said}".strip(),
    )


def _check(work, groups):
    names = group_names(groups)
    if tuple(work.groups) != names:
        raise ValueError(
            f"`work` must be of the groups {checks.listed(names, 40)}. "
            f"Received: {checks.listed(list(work.groups), 40)}"
        )


def _pays(work, one, other, *, given_up):
    """Whether two phases may be one, the trace of one of them is too dear, and one is shorter."""
    return (
        _may_join(one, other)
        and _trace(work, given_up) > _epochs(work, given_up)
        and _seconds(work, _together(one, other)) <= _seconds(work, one) + _seconds(work, other)
    )


def _may_join(one, other):
    """Whether all that is said of two phases but what trains and how long is the same."""
    (phase, training), (following, more) = one, other
    plain = phase.early_stop is None and phase.schedule is None
    alike = dataclasses.replace(following, epochs=phase.epochs, train=phase.train, name=phase.name)
    return plain and alike == phase and set(training) <= set(more)


def _together(one, other):
    (phase, _), (following, training) = one, other
    return dataclasses.replace(following, epochs=phase.epochs + following.epochs), training


def _trace(work, phase):
    return work.trace(phase[1], phase[0].epochs)


def _epochs(work, phase):
    return work.epochs(phase[1], phase[0].epochs)


def _seconds(work, phase):
    return _trace(work, phase) + _epochs(work, phase)
