"""Gradual unfreezing, as ULMFiT does it."""

from kerastl import _checks
from kerastl.optimizers import layer_decay
from kerastl.plan import Phase, TransferPlan
from kerastl.plan.resolved import group_names
from kerastl.schedules import SlantedTriangular

TRIANGLE = SlantedTriangular()


def gradual(groups, *, epochs, learning_rate, ratio=2.6, every=None, schedule=TRIANGLE):
    """The head first, then one group more at a time; each learns slower than the one above.

    Args:
        groups: `LayerGroups`, or names of groups, ordered from input to head.
        epochs: Int > 0. With fewer epochs than groups, several groups thaw at a time.
        learning_rate: Float > 0, the peak rate of the head.
        ratio: Float >= 1, how many times as slowly each group learns as the one above it.
        every: Int > 0, epochs between two thaws; 1 is the paper's. None spreads them evenly over
            the epochs.
        schedule: Shape of `kerastl.schedules` over the plan, or None for a constant rate.

    Returns:
        `TransferPlan`, the last of whose phases trains all groups.

    Raises:
        ValueError: If `every` leaves no epoch for the groups at the input.

    Example:
        >>> plan = gradual(["stem", "body", "head"], epochs=6, learning_rate=1e-2)
        >>> print(plan.resolve(["stem", "body", "head"]))
        TransferPlan 'gradual': 3 phases, 6 epochs
        schedule over the whole plan: SlantedTriangular
                         head      +body      +stem
        epochs              2          2          2
        batch norm  inference  inference  inference
        stem                ·          ·    0.00148
        body                ·    0.00385    0.00385
        head             0.01       0.01       0.01

    References:
        Howard & Ruder, 2018, sections 3.2 and 3.3, https://arxiv.org/abs/1801.06146
    """
    names = group_names(groups)
    _checks.whole(epochs, 1, 1_000_000, "epochs")
    _checks.in_range(ratio, 1.0, 1e6, "ratio")
    rates = layer_decay(names, 1.0 / ratio)
    starts = _starts(len(names), epochs, every)
    phases = []
    for start in sorted(set(starts)):
        thawed = names[len(names) - sum(s <= start for s in starts) :]
        end = min((s for s in starts if s > start), default=epochs)
        phases.append(
            Phase(
                end - start,
                thawed,
                name="head" if len(thawed) == 1 else f"+{thawed[0]}",
                learning_rate=learning_rate,
                multipliers={name: rates[name] for name in thawed},
            )
        )
    return TransferPlan(phases, name="gradual", schedule=schedule)


def _starts(num_groups, epochs, every):
    """The epoch in which each group thaws, from the head down."""
    if every is None:
        return [i * epochs // num_groups for i in range(num_groups)]
    _checks.whole(every, 1, 1_000_000, "every")
    starts = [i * every for i in range(num_groups)]
    if starts[-1] >= epochs:
        raise ValueError(
            f"`epochs` must be at least {starts[-1] + 1} for {num_groups} groups, of which one "
            f"thaws every {every} epochs. Received: epochs={epochs}. Pass every=None to spread the "
            "thaws over the epochs there are."
        )
    return starts
