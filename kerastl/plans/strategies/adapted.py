"""Plans that train adapters in place of the layers below the head, which stand still.

A plan says which adapters the model must have (`TransferPlan.adapters`); `kerastl.peft.add` adds
them, and `tune` and `compare` do so by themselves. They start as the identity, so that a head
solved on frozen features is right when the first step is taken. Adapters of all layers learn at one
rate, as in the papers: they are new, and what is below them stays what it was.
"""

from collections.abc import Sequence
from typing import Any

from kerastl._base import checks
from kerastl.graph.layer_groups import Groups
from kerastl.plans.adapter_plan import AdapterPlan
from kerastl.plans.phase import Phase
from kerastl.plans.resolved import group_names
from kerastl.plans.strategies.measured import COSINE, HEAD_OVER_BACKBONE
from kerastl.plans.transfer_plan import Head, TransferPlan
from kerastl.schedules.schedule import Schedule

HEAD_OVER_ADAPTERS = 3.0  # the head's rate over that of adapters: ten times that of `full`


def lora(
    groups: Groups,
    *,
    epochs: int,
    learning_rate: float | None = None,
    rank: int = 8,
    alpha: float = 8.0,
    where: str | Sequence[str] | None = None,
    schedule: Schedule | None = COSINE,
    start: Head = "as_is",
) -> TransferPlan:
    """Low-rank adapters beside the linear layers of the blocks, and the head.

    Args:
        groups: `LayerGroups`, or names of groups, ordered from input to head.
        epochs: Int > 0. A head that begins at zero has the first quarter to itself.
        learning_rate: As in `head`.
        rank: Int >= 1, of `peft.LoRA`.
        alpha: Float > 0, of `peft.LoRA`.
        where: Which layers they act on, as `peft.add` takes it; None for all linear layers of the
            blocks.
        schedule: As in `head`.
        start: `"as_is"`, `"probe"`, or `"trained"` where no layer is new: then adapters train
            alone.

    Returns:
        `TransferPlan` with `adapters`.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> plan = lora(["stem", "block", "head"], epochs=4, learning_rate=1e-3, start="probe")
        >>> print(plan)
        TransferPlan 'lora': 1 phase, 4 epochs
        begins with the head solved on frozen features
        below the head adapters train alone: LoRA(rank=8, alpha=8.0)
        schedule over the whole plan: WarmupCosine(start=0.04)
                     adapters
        epochs              4
        train        3 groups
        batch norm  inference
        stem         0.000333
        block        0.000333
        head         3.33e-05
        >>> plan.adapters.line
        'kerastl.peft.add(model, kerastl.peft.LoRA(rank=8, alpha=8.0))'

    References:
        Hu et al., 2022, https://arxiv.org/abs/2106.09685
    """
    checks.whole(rank, 1, 1_000_000, "rank")
    if not checks.in_range(alpha, 0.0, 1e9, "alpha") > 0:
        raise ValueError("`alpha` must be above 0, or nothing is learnt. Received: alpha=0")
    settings = {"rank": rank, "alpha": float(alpha)}
    needed = _needed("LoRA", settings, where, start)
    return _plan("lora", groups, needed, epochs, learning_rate, schedule, start)


STYLES = ("houlsby", "pfeiffer", "parallel")


def adapters(
    groups: Groups,
    *,
    epochs: int,
    learning_rate: float | None = None,
    style: str = "pfeiffer",
    reduction: int = 16,
    where: str | Sequence[str] | None = None,
    schedule: Schedule | None = COSINE,
    start: Head = "as_is",
) -> TransferPlan:
    """Bottleneck adapters in the blocks, and the head.

    Args:
        groups: As in `lora`, and so are the others.
        epochs: Int > 0.
        learning_rate: Float > 0, or None.
        style: `"houlsby"` (behind attention and behind the feed-forward part), `"pfeiffer"`
            (behind the latter alone) or `"parallel"` (beside it), of `peft.BottleneckAdapter`.
        reduction: Int >= 1, how many times as narrow as the layer the bottleneck is.
        where: As in `lora`.
        schedule: Schedule, or None.
        start: `"as_is"`, `"probe"` or `"trained"`.

    Returns:
        `TransferPlan` with `adapters`.

    Raises:
        ValueError: If a setting is out of its range.

    Example:
        >>> adapters(["stem", "block", "head"], epochs=4).adapters.text
        "BottleneckAdapter(style='pfeiffer', reduction=16)"

    References:
        Houlsby et al., 2019, https://arxiv.org/abs/1902.00751; Pfeiffer et al., 2021,
        https://arxiv.org/abs/2005.00247; He et al., 2022, https://arxiv.org/abs/2110.04366
    """
    checks.one_of(style, STYLES, "style")
    checks.whole(reduction, 1, 1_000_000, "reduction")
    settings = {"style": style, "reduction": reduction}
    needed = _needed("BottleneckAdapter", settings, where, start)
    return _plan("adapters", groups, needed, epochs, learning_rate, schedule, start)


def _needed(method: str, settings: dict[str, Any], where: Any, start: Head) -> AdapterPlan:
    return AdapterPlan(method, settings, where=where, also_train=() if start == "trained" else None)


def _plan(name, groups, needed, epochs, learning_rate, schedule, start):
    """The head for a quarter of the epochs where it begins at zero, then adapters with it."""
    checks.whole(epochs, 1, 100_000, "epochs")
    *body, top = group_names(groups)
    of_head = 1.0 / HEAD_OVER_BACKBONE if start == "probe" else 1.0
    of_adapters = 1.0 if start == "trained" else 1.0 / HEAD_OVER_ADAPTERS
    rates = {**dict.fromkeys(body, of_adapters), top: of_head}
    alone = epochs // 4 if start == "as_is" else 0
    said = {"learning_rate": learning_rate, "multipliers": rates}
    phases = [Phase(alone, top, name="head", **said)] if alone else []
    phases.append(Phase(epochs - alone, [*body, top], name="adapters", **said))
    begin = "probe" if start == "probe" else "as_is"
    return TransferPlan(phases, name=name, schedule=schedule, start=begin, adapters=needed)
