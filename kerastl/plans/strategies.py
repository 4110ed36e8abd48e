"""The strategies that `kerastl tune` offers by name."""

import math

from kerastl._base import checks
from kerastl.optimizers import discriminative_rates, layer_decay
from kerastl.plans.phase import Phase
from kerastl.plans.resolved import group_names
from kerastl.plans.transfer_plan import TransferPlan
from kerastl.schedules import OneCycle, SlantedTriangular, WarmupCosine

# A tenth of the steps up from 1/25 of the peak, then half a cosine down to nothing.
COSINE = WarmupCosine(warmup=0.1, start=0.04)

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
    - `fastai`: `strategies.fastai_fine_tune` as it is, with rates and schedules of its own.

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
        schedule: Schedule of `kerastl.schedules` over the plan of one of the first four: by default
            a
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
    checks.one_of(name, NAMES, "strategy")
    checks.whole(epochs, 1, 100_000, "epochs")
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


def feature_extraction(groups, *, epochs, learning_rate, schedule=COSINE):
    """Train the head on frozen features.

    Args:
        groups: `LayerGroups`, or names of groups, ordered from input to head.
        epochs: Int > 0.
        learning_rate: Float > 0, the peak rate.
        schedule: Schedule of `kerastl.schedules` over the plan, or None for a constant rate.

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
    checks.whole(num_groups, 1, len(names), "num_groups")
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
    checks.in_range(ratio, 1e-6, 1e6, "head_rate_over_backbone")
    return Phase(
        epochs,
        names,
        name="head" if len(names) == 1 else f"top {len(names)} groups",
        learning_rate=learning_rate,
        multipliers={**dict.fromkeys(names[:-1], 1.0 / ratio), names[-1]: 1.0},
    )


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
        schedule: Schedule of `kerastl.schedules` over the plan, or None for a constant rate.

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
    checks.whole(epochs, 1, 1_000_000, "epochs")
    checks.in_range(ratio, 1.0, 1e6, "ratio")
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
    checks.whole(every, 1, 1_000_000, "every")
    starts = [i * every for i in range(num_groups)]
    if starts[-1] >= epochs:
        raise ValueError(
            f"`epochs` must be at least {starts[-1] + 1} for {num_groups} groups, of which one "
            f"thaws every {every} epochs. Received: epochs={epochs}. Pass every=None to spread the "
            "thaws over the epochs there are."
        )
    return starts


def lp_ft(groups, *, epochs, learning_rate, head_epochs=None, divisor=10.0, schedule=COSINE):
    """The head alone until it fits, then everything at one lower rate.

    A new head sends large gradients into good features and distorts them; a head that fits
    already does not. It helps most where the test data differ from the training data.

    Args:
        groups: `LayerGroups`, or names of groups, ordered from input to head.
        epochs: Int > 1, of both phases together.
        learning_rate: Float > 0, the peak rate of the head in the first phase.
        head_epochs: Int > 0, epochs of the first phase. None is half of them.
        divisor: Float > 0. All groups have the peak rate `learning_rate / divisor` in the second
            phase.
        schedule: Schedule of `kerastl.schedules` over each phase, or None for constant rates.

    Returns:
        `TransferPlan` of two phases.

    Example:
        >>> plan = lp_ft(["stem", "body", "head"], epochs=10, learning_rate=1e-2)
        >>> [(phase.epochs, phase.train, phase.learning_rate) for phase in plan.phases]
        [(5, ('head',), 0.01), (5, ('stem', 'body', 'head'), 0.001)]

    References:
        Kumar et al., 2022 (LP-FT), https://arxiv.org/abs/2202.10054
    """
    names = group_names(groups)
    checks.whole(epochs, 2, 1_000_000, "epochs")
    head_epochs = epochs // 2 if head_epochs is None else head_epochs
    checks.whole(head_epochs, 1, epochs - 1, "head_epochs")
    checks.in_range(divisor, 1e-6, 1e6, "divisor")
    rates = {"head": learning_rate, "all": learning_rate / divisor}
    lengths = {"head": head_epochs, "all": epochs - head_epochs}
    trains = {"head": names[-1], "all": names}
    phases = [
        Phase(lengths[name], trains[name], name=name, learning_rate=rate, schedule=schedule)
        for name, rate in rates.items()
    ]
    return TransferPlan(phases, name="lp_ft")


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
    checks.whole(epochs, 2, 1_000_000, "epochs")
    checks.whole(freeze_epochs, 1, epochs - 1, "freeze_epochs")
    checks.in_range(lr_mult, 1.0, 1e6, "lr_mult")
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
