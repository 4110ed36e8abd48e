"""The strategies that `kerastl tune` offers by name."""

import math

from kerastl import _checks
from kerastl.optimizers import discriminative_rates
from kerastl.plan import Phase, TransferPlan
from kerastl.plan.resolved import group_names
from kerastl.strategies.fastai import fastai_fine_tune
from kerastl.strategies.lp_ft import lp_ft
from kerastl.strategies.share import COSINE

PLAIN = ("head", "partial", "full", "gradual")
NAMES = (*PLAIN, "lp_ft", "fastai")


def make(
    name,
    groups,
    epochs,
    *,
    learning_rate=None,
    head_rate_over_backbone=30.0,
    spread=5.0,
    schedule=COSINE,
):
    """The plan `name` for these layer groups and this many epochs.

    - `head`: the head alone.
    - `partial`: the head for a quarter of the epochs, then the top third of the other groups too.
    - `full`: the head for a quarter of the epochs, then everything.
    - `gradual`: the head for a quarter of the epochs, then one group more at a time, evenly, so
      that the last quarter trains everything.
    - `lp_ft`: `strategies.lp_ft`, whose second phase has the peak rate of the group below the head
      in the first four for all groups.
    - `fastai`: `strategies.fastai_fine_tune` as it is, with rates and shapes of its own.

    In the first four, rates fall geometrically from the group below the head to the input, and the
    shared rate follows `schedule`.

    Args:
        name: One of `strategies.NAMES`.
        groups: `LayerGroups`, ordered from input to head, or their names.
        epochs: Int > 0.
        learning_rate: Float > 0, the peak rate of the head. None is what the model was compiled
            with; `lp_ft` and `fastai` need it.
        head_rate_over_backbone: Float, how many times faster the head learns than the group
            below it.
        spread: Float, how many times faster that group learns than the one at the input.
        schedule: Shape of `kerastl.schedules` over the plan of one of the first four: by default a
            warm-up over a tenth of it from 1/25 of the peak, then half a cosine to 0. None is a
            rate that stands still, for an optimizer that averages the weights.

    Returns:
        `TransferPlan`.

    Raises:
        ValueError: If `name` is unknown or `epochs` is below 1.

    Example:
        >>> groups = ["stem", "body", "head"]
        >>> plan = make("gradual", groups, epochs=8)
        >>> plan.resolve(groups).thaws
        {0: ['head'], 2: ['body'], 4: ['stem']}
        >>> [round(rate, 3) for rate in plan.phases[-1].multipliers.values()]
        [0.007, 0.033, 1.0]
    """
    _checks.one_of(name, NAMES, "strategy")
    _checks.whole(epochs, 1, 100_000, "epochs")
    if name not in PLAIN:
        return _with_own_rates(name, groups, epochs, learning_rate, head_rate_over_backbone)
    *body, head = names = group_names(groups)
    thaws = _thaws(name, body, head, epochs)
    trained = {group for thawed in thaws.values() for group in thawed}
    rates = _multipliers(body, head, 1.0 / head_rate_over_backbone, spread)
    phases = []
    for start, end in zip(sorted(thaws), [*sorted(thaws)[1:], epochs], strict=True):
        training = [n for n in names if any(n in thaws[e] for e in thaws if e <= start)]
        phases.append(
            Phase(
                end - start,
                training,
                name="head" if training == [head] else f"+{training[0]}",
                learning_rate=learning_rate,
                multipliers={name: rate for name, rate in rates.items() if name in trained},
            )
        )
    return TransferPlan(phases, name=name, schedule=schedule)


def _with_own_rates(name, groups, epochs, learning_rate, head_rate_over_backbone):
    if learning_rate is None:
        raise ValueError(f"The strategy {name!r} needs `learning_rate`. Received: None")
    if name == "fastai":
        return fastai_fine_tune(groups, epochs=epochs, learning_rate=learning_rate)
    # A tenth of the head's rate, its default, is faster than the backbone learns in any of `PLAIN`,
    # and too fast for some seeds.
    divisor = head_rate_over_backbone
    return lp_ft(groups, epochs=epochs, learning_rate=learning_rate, divisor=divisor)


def _multipliers(body, head, top, spread):
    rates = discriminative_rates(body, slice(top / spread, top)) if body else {}
    multipliers = {name: rate * top / max(rates.values()) for name, rate in rates.items()}
    return {**multipliers, head: 1.0}


def _thaws(name, body, head, epochs):
    """Dict from epoch to the groups that thaw when it begins."""
    thaws = {0: [head]}
    first = max(1, epochs // 4)
    if name == "head" or not body or first >= epochs:
        return thaws
    if name == "partial":
        return {**thaws, first: body[-math.ceil(len(body) / 3) :]}
    if name == "full":
        return {**thaws, first: list(body)}
    return {**thaws, **_one_at_a_time(body, first, epochs - max(1, epochs // 4))}


def _one_at_a_time(body, first, end):
    """Epochs from `first` on and before `end`, each with the groups that thaw then, top first."""
    thaws = {}
    for i, group in enumerate(reversed(body)):
        epoch = first + i * max(1, end - first) // len(body)
        thaws.setdefault(epoch, []).append(group)
    return thaws
