"""LP-FT: linear probing, then fine-tuning."""

from kerastl import _checks
from kerastl.plan import Phase, TransferPlan
from kerastl.plan.resolved import group_names
from kerastl.strategies.share import COSINE


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
        schedule: Shape of `kerastl.schedules` over each phase, or None for constant rates.

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
    _checks.whole(epochs, 2, 1_000_000, "epochs")
    head_epochs = epochs // 2 if head_epochs is None else head_epochs
    _checks.whole(head_epochs, 1, epochs - 1, "head_epochs")
    _checks.in_range(divisor, 1e-6, 1e6, "divisor")
    rates = {"head": learning_rate, "all": learning_rate / divisor}
    lengths = {"head": head_epochs, "all": epochs - head_epochs}
    trains = {"head": names[-1], "all": names}
    phases = [
        Phase(lengths[name], trains[name], name=name, learning_rate=rate, schedule=schedule)
        for name, rate in rates.items()
    ]
    return TransferPlan(phases, name="lp_ft")
