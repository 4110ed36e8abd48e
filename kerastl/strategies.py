"""Strategies of the field as data: which groups thaw when, and how fast each learns."""

import dataclasses
import math

from kerastl import _checks
from kerastl.optimizers import discriminative_rates

NAMES = ("head", "partial", "full", "gradual")


@dataclasses.dataclass(frozen=True)
class Strategy:
    """What thaws when, and at what share of the learning rate.

    Attributes:
        name: One of `strategies.NAMES`.
        schedule: Dict from epoch to the groups that thaw when it begins; what
            `callbacks.GradualUnfreezing` takes.
        multipliers: Dict from group name to the multiplier of the learning rate.
    """

    name: str
    schedule: dict
    multipliers: dict


def make(name, groups, epochs, *, head_rate_over_backbone=30.0, spread=5.0):
    """The strategy `name` for these layer groups and this many epochs.

    - `head`: the head alone.
    - `partial`: the head for a quarter of the epochs, then the top third of the other groups too.
    - `full`: the head for a quarter of the epochs, then everything.
    - `gradual`: the head for a quarter of the epochs, then one group more at a time, evenly, so
      that the last quarter trains everything.

    Below the head, rates fall geometrically from the top group to the input.

    Args:
        name: One of `strategies.NAMES`.
        groups: `LayerGroups`, ordered from input to head.
        epochs: Int > 0.
        head_rate_over_backbone: Float, how many times faster the head learns than the group
            below it.
        spread: Float, how many times faster that group learns than the one at the input.

    Returns:
        `Strategy`.

    Raises:
        ValueError: If `name` is unknown or `epochs` is below 1.

    Example:
        >>> strategy = make("gradual", ["stem", "body", "head"], epochs=8)
        >>> strategy.schedule
        {0: ['head'], 2: ['body'], 4: ['stem']}
        >>> [round(rate, 3) for rate in strategy.multipliers.values()]
        [0.007, 0.033, 1.0]
    """
    _checks.one_of(name, NAMES, "strategy")
    _checks.in_range(epochs, 1, 100_000, "epochs", "a number of epochs")
    *body, head = getattr(groups, "names", groups)
    top = 1.0 / head_rate_over_backbone
    rates = discriminative_rates(body, slice(top / spread, top)) if body else {}
    multipliers = {name: rate * top / max(rates.values()) for name, rate in rates.items()}
    return Strategy(name, _schedule(name, body, head, epochs), {**multipliers, head: 1.0})


def _schedule(name, body, head, epochs):
    schedule = {0: [head]}
    first = max(1, epochs // 4)
    if name == "head" or not body or first >= epochs:
        return schedule
    if name == "partial":
        return {**schedule, first: body[-math.ceil(len(body) / 3) :]}
    if name == "full":
        return {**schedule, first: list(body)}
    return {**schedule, **_one_at_a_time(body, first, epochs - max(1, epochs // 4))}


def _one_at_a_time(body, first, end):
    """Epochs from `first` on and before `end`, each with the groups that thaw then, top first."""
    schedule = {}
    for i, group in enumerate(reversed(body)):
        epoch = first + i * max(1, end - first) // len(body)
        schedule.setdefault(epoch, []).append(group)
    return schedule
