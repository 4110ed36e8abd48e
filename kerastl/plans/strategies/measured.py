"""The measured defaults: the head for a while, then what is below it, more slowly.

`probe` solves the head and trains nothing.

`head`, `partial`, `full` and `gradual` differ in which groups thaw after the head, and in nothing
else: rates fall geometrically from the group below the head to the input, and the shared rate
follows one schedule over the plan. With `start="probe"` the head is there before the first epoch,
so no epochs are its alone, and it learns no faster than the group below it. With `start="trained"`
nothing in the network is new, as in a language model: so it is, and the rate is that of the last
group. docs/measured.md says what the ratios were measured on.
"""

import math

from kerastl._base import checks
from kerastl.graph.layer_groups import Groups
from kerastl.optimizers import discriminative_rates
from kerastl.plans.phase import Phase
from kerastl.plans.resolved import group_names
from kerastl.plans.transfer_plan import Head, TransferPlan
from kerastl.schedules import WarmupCosine, WarmupLinear
from kerastl.schedules.schedule import Schedule

# A tenth of the steps up from 1/25 of the peak, then half a cosine down to nothing.
COSINE = WarmupCosine(warmup=0.1, start=0.04)

# From the probe, where weights are averaged: a fifth of the steps up, then the rate stands still.
WARMUP = WarmupLinear(warmup=0.2, end=1.0)

HEAD_OVER_BACKBONE = 30.0  # the head's rate over that of the group below it
SPREAD = 5.0  # the rate of that group over that of the group at the input


def probe(groups: Groups) -> TransferPlan:
    """Solve the head on frozen features, by a regression, and train nothing.

    Args:
        groups: `LayerGroups`, or names of groups, ordered from input to head.

    Returns:
        `TransferPlan` without phases; `fit(..., epochs=0, callbacks=[FollowPlan(plan)])` carries it
        out.

    Example:
        >>> print(probe(["stem", "block", "head"]))
        TransferPlan 'probe': 0 phases, 0 epochs
        begins with the head solved on frozen features

    References:
        Alain & Bengio, 2016, https://arxiv.org/abs/1610.01644
    """
    group_names(groups)
    return TransferPlan((), name="probe", start="probe")


def head(
    groups: Groups,
    *,
    epochs: int,
    learning_rate: float | None = None,
    schedule: Schedule | None = COSINE,
    start: Head = "as_is",
) -> TransferPlan:
    """Train the head on frozen features.

    Args:
        groups: `LayerGroups`, or names of groups, ordered from input to head.
        epochs: Int > 0.
        learning_rate: Float > 0, the peak rate of the head. None is what the model was compiled
            with.
        schedule: Schedule of `kerastl.schedules` over the plan. None is a rate that stands still,
            for an optimizer that averages the weights.
        start: `"as_is"`; `"probe"` for a head that is solved before it trains; or `"trained"`
            where no layer is new.

    Returns:
        `TransferPlan` of one phase.

    Raises:
        ValueError: If `epochs` is below 1.

    Example:
        >>> print(head(["stem", "block", "head"], epochs=5, learning_rate=1e-3))
        TransferPlan 'head': 1 phase, 5 epochs
        schedule over the whole plan: WarmupCosine(start=0.04)
                         head
        epochs              5
        train            head
        batch norm  inference
        head            0.001

    References:
        Razavian et al., 2014, https://arxiv.org/abs/1403.6382
    """
    rates = {group_names(groups)[-1]: _of_head(start, HEAD_OVER_BACKBONE)}
    shared = (epochs, learning_rate, schedule, start)
    return _plan("head", rates, {}, *shared)


def partial(
    groups: Groups,
    *,
    epochs: int,
    learning_rate: float | None = None,
    head_rate_over_backbone: float = HEAD_OVER_BACKBONE,
    spread: float = SPREAD,
    schedule: Schedule | None = COSINE,
    start: Head = "as_is",
) -> TransferPlan:
    """The head for a quarter of the epochs, then the top third of the other groups too.

    Args:
        groups: `LayerGroups`, or names of groups, ordered from input to head.
        epochs: Int > 0. One epoch trains the head alone.
        learning_rate: As in `head`.
        head_rate_over_backbone: Float > 0, how many times as fast as the group below it the head
            learns.
        spread: Float > 0, how many times as fast as the group at the input that group learns, of
            all groups below the head, those that stay frozen included.
        schedule: As in `head`, and so is `start`.

    Returns:
        `TransferPlan` of at most two phases.

    Raises:
        ValueError: If `epochs` is below 1 or a ratio out of its range.

    Example:
        >>> groups = ["stem", "low", "mid", "high", "head"]
        >>> partial(groups, epochs=8).resolve(groups).thaws
        {0: ['head'], 2: ['high', 'mid']}

    References:
        Yosinski et al., 2014 (features grow specific towards the head),
        https://arxiv.org/abs/1411.1792
    """
    *body, _ = group_names(groups)
    thaws = {_head_epochs(epochs, start): body[len(body) - math.ceil(len(body) / 3) :]}
    rates = _rates(groups, head_rate_over_backbone, spread, start)
    shared = (epochs, learning_rate, schedule, start)
    return _plan("partial", rates, thaws, *shared)


def full(
    groups: Groups,
    *,
    epochs: int,
    learning_rate: float | None = None,
    head_rate_over_backbone: float = HEAD_OVER_BACKBONE,
    spread: float = SPREAD,
    schedule: Schedule | None = COSINE,
    start: Head = "as_is",
) -> TransferPlan:
    """The head for a quarter of the epochs, then everything.

    Args:
        groups: As in `partial`, and so are the others.
        epochs: Int > 0. One epoch trains the head alone.
        learning_rate: Float > 0, or None.
        head_rate_over_backbone: Float > 0.
        spread: Float > 0.
        schedule: Schedule, or None.
        start: `"as_is"`, `"probe"` or `"trained"`.

    Returns:
        `TransferPlan` of at most two phases.

    Raises:
        ValueError: If `epochs` is below 1 or a ratio out of its range.

    Example:
        >>> plan = full(["stem", "body", "head"], epochs=4)
        >>> [(phase.epochs, phase.train) for phase in plan.phases]
        [(1, ('head',)), (3, ('stem', 'body', 'head'))]

    References:
        Girshick et al., 2014, section 2.3 (pretrained layers learn more slowly than a new head),
        https://arxiv.org/abs/1311.2524
    """
    *body, _ = group_names(groups)
    rates = _rates(groups, head_rate_over_backbone, spread, start)
    shared = (epochs, learning_rate, schedule, start)
    return _plan("full", rates, {_head_epochs(epochs, start): body}, *shared)


def gradual(
    groups: Groups,
    *,
    epochs: int,
    learning_rate: float | None = None,
    head_rate_over_backbone: float = HEAD_OVER_BACKBONE,
    spread: float = SPREAD,
    schedule: Schedule | None = COSINE,
    start: Head = "as_is",
) -> TransferPlan:
    """The head for a quarter of the epochs, then one group more at a time, evenly.

    The last quarter trains everything. `ulmfit` is the paper's own, with other rates, another
    schedule and thaws from the first epoch on.

    Args:
        groups: As in `partial`, and so are the others.
        epochs: Int > 0. With few of them, several groups thaw at a time; one epoch trains the
            head alone.
        learning_rate: Float > 0, or None.
        head_rate_over_backbone: Float > 0.
        spread: Float > 0.
        schedule: Schedule, or None.
        start: `"as_is"`, `"probe"` or `"trained"`.

    Returns:
        `TransferPlan`.

    Raises:
        ValueError: If `epochs` is below 1 or a ratio out of its range.

    Example:
        >>> groups = ["stem", "body", "head"]
        >>> plan = gradual(groups, epochs=8)
        >>> plan.resolve(groups).thaws
        {0: ['head'], 2: ['body'], 4: ['stem']}
        >>> [round(rate, 3) for rate in plan.phases[-1].multipliers.values()]
        [0.007, 0.033, 1.0]

    References:
        Howard & Ruder, 2018, section 3.3 (gradual unfreezing), https://arxiv.org/abs/1801.06146
    """
    *body, _ = group_names(groups)
    first = _head_epochs(epochs, start)
    thaws = _one_at_a_time(body, first, epochs - first)
    rates = _rates(groups, head_rate_over_backbone, spread, start)
    shared = (epochs, learning_rate, schedule, start)
    return _plan("gradual", rates, thaws, *shared)


def _head_epochs(epochs, start):
    """Epochs of the head alone: a quarter, at least one; none of one that knows something."""
    checks.whole(epochs, 1, 100_000, "epochs")
    return max(1, epochs // 4) if start == "as_is" else 0


def _of_head(start, head_rate_over_backbone):
    """The multiplier of the head."""
    return 1.0 / head_rate_over_backbone if start == "probe" else 1.0


def _rates(groups, head_rate_over_backbone, spread, start):
    """Dict from each group to its rate over the head's."""
    checks.in_range(head_rate_over_backbone, 1e-6, 1e6, "head_rate_over_backbone")
    checks.in_range(spread, 1e-6, 1e6, "spread")
    *body, top = group_names(groups)
    fastest = 1.0 if start == "trained" else 1.0 / head_rate_over_backbone
    rates = discriminative_rates(body, slice(fastest / spread, fastest)) if body else {}
    rates = {name: rate * fastest / max(rates.values()) for name, rate in rates.items()}
    return {**rates, top: _of_head(start, head_rate_over_backbone)}


def _one_at_a_time(body, first, end):
    """Epochs from `first` on and before `end`, each with the groups that thaw then, top first."""
    thaws = {}
    for i, group in enumerate(reversed(body)):
        epoch = first + i * max(1, end - first) // len(body)
        thaws.setdefault(epoch, []).append(group)
    return thaws


def _plan(name, rates, thaws, epochs, learning_rate, schedule, start):
    """The plan in which the head trains from epoch 0 and other groups from theirs.

    Args:
        name: String.
        rates: Dict from group to multiplier, from input to head.
        thaws: Dict from epoch to the groups that thaw when it begins; those from `epochs` on
            stay frozen.
        epochs, learning_rate, schedule, start: As in `head`.
    """
    checks.whole(epochs, 1, 100_000, "epochs")
    top = list(rates)[-1]
    begins = {epoch: new for epoch, new in thaws.items() if new and epoch < epochs}
    begins[0] = [top, *begins.get(0, [])]
    begun = {group: epoch for epoch, new in begins.items() for group in new}
    multipliers = {group: rate for group, rate in rates.items() if group in begun}
    phases = []
    for begin, end in zip(sorted(begins), [*sorted(begins)[1:], epochs], strict=True):
        training = [group for group in multipliers if begun[group] <= begin]
        label = "head" if training == [top] else f"+{training[0]}"
        phases.append(
            Phase(
                end - begin,
                training,
                name=label,
                learning_rate=learning_rate,
                multipliers=multipliers,
            )
        )
    begin = "probe" if start == "probe" else "as_is"
    return TransferPlan(phases, name=name, schedule=schedule, start=begin)
