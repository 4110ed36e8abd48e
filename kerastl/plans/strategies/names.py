"""The strategies by name, as the command line and `compare` are given them.

`ulmfit` is not among them: at the head's rate that `tune` takes, its group below the head learns at
1/2.6 of that, eleven times as fast as in the others. Call it with a rate of your own.
"""

import dataclasses
from typing import Any

from kerastl._base import checks
from kerastl.graph.layer_groups import Groups
from kerastl.plans.joining import join_thaws
from kerastl.plans.strategies.adapted import adapters, lora
from kerastl.plans.strategies.measured import COSINE, full, gradual, head, partial
from kerastl.plans.strategies.papers import fastai, few_shot, lp_ft
from kerastl.plans.transfer_plan import Head, TransferPlan
from kerastl.plans.work import TrainingWork
from kerastl.schedules.schedule import Schedule

_MEASURED = {"head": head, "partial": partial, "full": full, "gradual": gradual}
_ADAPTED = {"lora": lora, "adapters": adapters}  # with settings of their own
_OWN_RATES = {"lp_ft": lp_ft, "fastai": fastai}

# Those with one schedule over the plan, which an optimizer that averages the weights may replace.
PLAIN = (*_MEASURED, *_ADAPTED)
NAMES = (*PLAIN, *_OWN_RATES, "few_shot")
HEADLESS = PLAIN[1:]  # those for a network without a new head, too


def by_name(
    name: str,
    groups: Groups,
    *,
    epochs: int,
    learning_rate: float | None = None,
    schedule: Schedule | None = COSINE,
    start: Head = "as_is",
    work: TrainingWork | None = None,
    **own: Any,
) -> TransferPlan:
    """The plan that the strategy called `name` returns; its other arguments keep their defaults.

    Args:
        name: One of `strategies.NAMES`: `"head"`, `"partial"`, `"full"`, `"gradual"`, `"lora"`,
            `"adapters"`, `"lp_ft"`, `"fastai"` or `"few_shot"`, each the function of that name.
        groups: `LayerGroups`, or names of groups, ordered from input to head.
        epochs: Int > 0; > 1 for `lp_ft` and `fastai`.
        learning_rate: Float > 0, the peak rate of the head. None is what the model was compiled
            with; `lp_ft` and `fastai` change the rate and need it.
        schedule: Schedule of `kerastl.schedules`, or None for a rate that stands still: over the
            plan, in `lp_ft` over each phase. `fastai` has two cycles of its own and takes no other.
        start: `"as_is"`, or `"probe"` for a head that is solved before it trains; the papers' own
            train it alone all the same, as long as they say. `"trained"` where no layer is new, for
            `partial`, `full`, `gradual`, `lora` and `adapters`.
        work: `TrainingWork` of the training to come, or None. With it, thaws are joined where
            tracing takes longer than the epochs it serves (`plans.join_thaws`).
        **own: Settings of `lora` (`rank`, `alpha`, `where`) or `adapters` (`style`, `reduction`,
            `where`).

    Returns:
        `TransferPlan`.

    Raises:
        ValueError: If `name` is unknown, or the strategy cannot do what is asked of it.

    Example:
        >>> groups = ["stem", "body", "head"]
        >>> by_name("gradual", groups, epochs=8) == gradual(groups, epochs=8)
        True
    """
    _check_own(name, own)
    plan = _as_defined(name, groups, epochs, learning_rate, schedule, start, own)
    return plan if work is None else join_thaws(plan, groups, work)


def _as_defined(name, groups, epochs, learning_rate, schedule, start, own):
    checks.one_of(name, NAMES, "strategy")
    _check_head(name, start)
    if name in (*PLAIN, "few_shot"):
        strategy = {**_MEASURED, **_ADAPTED}.get(name, few_shot)
        given = {"epochs": epochs, "learning_rate": learning_rate, "schedule": schedule}
        return strategy(groups, **given, start=start, **own)
    begin = "probe" if start == "probe" else "as_is"
    if learning_rate is None:
        raise ValueError(
            f"The strategy {name!r} changes the rate between its phases and needs "
            "`learning_rate`, the peak rate of the head. Received: learning_rate=None"
        )
    if name == "lp_ft":
        plan = lp_ft(groups, epochs=epochs, learning_rate=learning_rate, schedule=schedule)
        return dataclasses.replace(plan, start=begin)
    if schedule != COSINE:
        raise ValueError(
            "The strategy 'fastai' has schedules of its own, one a phase. Leave out `schedule`, "
            f"or choose one of {checks.listed(PLAIN)}. Received: schedule={schedule}"
        )
    plan = fastai(groups, epochs=epochs, learning_rate=learning_rate)
    return dataclasses.replace(plan, start=begin)


def _check_own(name, own):
    if own and name not in _ADAPTED:
        raise ValueError(
            f"`{next(iter(own))}` is a setting of adapters, which the strategies "
            f"{' and '.join(map(repr, _ADAPTED))} train. Received: strategy={name!r}"
        )


def _check_head(name, start):
    if start == "trained" and name not in HEADLESS:
        raise ValueError(
            f"The strategy {name!r} trains a new head first, and this network has none. Choose one "
            f"of {checks.listed(HEADLESS)}. Received: start='trained'"
        )
