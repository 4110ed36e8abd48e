"""The strategies of four papers, with the papers' own rates and schedules.

Where a plan departs from its paper, its docstring says so.
"""

from kerastl._base import checks
from kerastl.graph.layer_groups import Groups
from kerastl.optimizers import discriminative_rates, layer_decay
from kerastl.plans.phase import Phase
from kerastl.plans.resolved import group_names
from kerastl.plans.strategies.measured import COSINE, HEAD_OVER_BACKBONE
from kerastl.plans.transfer_plan import Start, TransferPlan
from kerastl.schedules import OneCycle, SlantedTriangular
from kerastl.schedules.schedule import Schedule

TRIANGLE = SlantedTriangular()
OF_PAIRS = 50.0  # so that a rate of 1e-3 gives the 2e-5 of SetFit


def ulmfit(
    groups: Groups,
    *,
    epochs: int,
    learning_rate: float,
    ratio: float = 2.6,
    every: int | None = None,
    schedule: Schedule | None = TRIANGLE,
) -> TransferPlan:
    """The head first, then one group more at a time; each learns slower than the one above.

    `gradual` is the measured default: it trains the head alone for longer, and what is below it
    more slowly.

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
        >>> plan = ulmfit(["stem", "body", "head"], epochs=6, learning_rate=1e-2)
        >>> print(plan.resolve(["stem", "body", "head"]))
        TransferPlan 'ulmfit': 3 phases, 6 epochs
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
    return TransferPlan(phases, name="ulmfit", schedule=schedule)


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


def lp_ft(
    groups: Groups,
    *,
    epochs: int,
    learning_rate: float,
    head_epochs: int | None = None,
    divisor: float = HEAD_OVER_BACKBONE,
    schedule: Schedule | None = COSINE,
) -> TransferPlan:
    """The head alone until it fits, then everything at one lower rate.

    A new head sends large gradients into good features and distorts them; a head that fits
    already does not. It helps most where the test data differ from the training data.

    Args:
        groups: `LayerGroups`, or names of groups, ordered from input to head.
        epochs: Int > 1, of both phases together.
        learning_rate: Float > 0, the peak rate of the head in the first phase.
        head_epochs: Int > 0, epochs of the first phase. None is half of them.
        divisor: Float > 0. All groups have the peak rate `learning_rate / divisor` in the second
            phase. The paper has no ratio: its head is a logistic regression, and the second rate
            the best of a grid, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3 and 1e-2 in the authors' code. 30 is
            as fast as any group below the head learns in the measured defaults; at 10, one of two
            seeds on the flowers lost ten points.
        schedule: Schedule of `kerastl.schedules` over each phase, or None for constant rates.

    Returns:
        `TransferPlan` of two phases.

    Example:
        >>> plan = lp_ft(["stem", "body", "head"], epochs=10, learning_rate=0.015)
        >>> [(phase.epochs, phase.train, phase.learning_rate) for phase in plan.phases]
        [(5, ('head',), 0.015), (5, ('stem', 'body', 'head'), 0.0005)]

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


def fastai(
    groups: Groups,
    *,
    epochs: int,
    learning_rate: float = 2e-3,
    freeze_epochs: int = 1,
    lr_mult: float = 100.0,
    momentum: tuple[float, float] | None = (0.95, 0.85),
) -> TransferPlan:
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
        >>> plan = fastai(["stem", "body", "head"], epochs=4)
        >>> print(plan.resolve(["stem", "body", "head"]))
        TransferPlan 'fastai': 2 phases, 4 epochs
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
    return TransferPlan([head, everything], name="fastai")


def few_shot(
    groups: Groups,
    *,
    epochs: int,
    learning_rate: float | None = None,
    divisor: float = OF_PAIRS,
    schedule: Schedule | None = COSINE,
    start: Start = "as_is",
) -> TransferPlan:
    """Everything below the head, to tell pairs of one class from pairs of two; then the head.

    For 8 to 64 examples a class: of few examples there are many pairs. What is learnt of pairs is
    said to `compile`, `terms=[training.SamePairs()]`; the plan says what trains, and that the head
    is solved when that is done.

    It departs from SetFit in the pairs, which are all those of a batch, in a rate that falls by
    half a cosine and not by a line, and in the strength of the head's penalty, which is chosen by
    cross-validation.

    Args:
        groups: `LayerGroups`, or names of groups, ordered from input to head; two at least.
        epochs: Int > 0.
        learning_rate: Float > 0, `divisor` times the peak rate of all groups below the head. None
            is what the model was compiled with.
        divisor: Float > 0. The paper has no ratio, and a peak rate of 2e-5.
        schedule: Schedule of `kerastl.schedules` over the plan, or None for a constant rate.
        start: `"as_is"`, or `"probe"` for a head that is solved before, too: what is measured while
            it trains is then that of this head.

    Returns:
        `TransferPlan` of one phase.

    Raises:
        ValueError: If there is no group below the head.

    Example:
        >>> print(few_shot(["stem", "body", "head"], epochs=10, learning_rate=1e-3))
        TransferPlan 'few_shot': 1 phase, 10 epochs
        ends with the head solved on the trained features
        schedule over the whole plan: WarmupCosine(start=0.04)
                        pairs
        epochs             10
        train        2 groups
        batch norm  inference
        stem            2e-05
        body            2e-05

    References:
        Tunstall et al., 2022 (SetFit), https://arxiv.org/abs/2209.11055
    """
    *body, top = group_names(groups)
    if not body:
        raise ValueError(
            "To learn from pairs, there must be groups below the head, which is solved. "
            f"Received: {top!r} alone"
        )
    checks.whole(epochs, 1, 1_000_000, "epochs")
    checks.in_range(divisor, 1e-6, 1e6, "divisor")
    multipliers = dict.fromkeys(body, 1.0 / divisor)
    phase = Phase(epochs, body, name="pairs", learning_rate=learning_rate, multipliers=multipliers)
    return TransferPlan([phase], name="few_shot", schedule=schedule, start=start, end="probe")
