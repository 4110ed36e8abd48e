"""A transfer from the first epoch to the last, as a sequence of phases."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from kerastl._base import checks
from kerastl._base.types import PathLike
from kerastl.graph.layer_groups import Groups
from kerastl.plans import saving, table
from kerastl.plans.adapter_plan import AdapterPlan
from kerastl.plans.phase import Phase, check_schedule
from kerastl.plans.resolved import index_at, resolve
from kerastl.schedules.schedule import Schedule

if TYPE_CHECKING:
    from kerastl.plans.resolved import ResolvedPlan


Start: TypeAlias = Literal["as_is", "probe"]
Head: TypeAlias = Literal["as_is", "probe", "trained"]  # as strategies are told of it
STARTS = ("as_is", "probe")


@dataclasses.dataclass(frozen=True)
class TransferPlan:
    """Phases one after the other. Plain data: equal when equal, saved as JSON, printed as a table.

    `callbacks.FollowPlan` carries it through one `fit`.

    Args:
        phases: Sequence of `Phase`; none where the plan is to solve the head and no more.
        name: String for tables and messages.
        reason: String, why this plan; one sentence.
        schedule: One schedule of `kerastl.schedules` over the steps of the whole plan, in place of
            one per phase, or None. A plan with it knows its length, so its phases have no
            `early_stop`.
        start: `"as_is"`, or `"probe"`: before the first step the head is solved on the frozen
            features (`training.solve_head`), unless that is done already.
        wise_ft: Float in (0, 1], how far from the weights at the start to those that training
            ended with the final weights lie: `start + wise_ft · (trained - start)`. 1 is those
            that training ended with; see Wortsman et al., 2022, https://arxiv.org/abs/2109.01903.
        temperature: Float >= 1, by which the scores of the head are divided at the end: no answer
            changes, only how sure it is; see Guo et al., 2017, https://arxiv.org/abs/1706.04599.
        end: `"as_is"`, or `"probe"`: after the last step the head is solved on what the layers
            below it have become.
        tried: Sequence of strings, a line for each plan that was compared before this one was
            chosen, and what became of it.
        adapters: `AdapterPlan` of what the model must have and trains in place of the layers
            below the head, or None. A phase that trains a group then trains its adapters.

    Raises:
        ValueError, TypeError: If phases disagree: both a schedule of the plan and of a phase, or
            a learning rate (or weight decay) given in some phases and left to `compile` in others.

    Example:
        >>> plan = TransferPlan([Phase(2, "head", learning_rate=1e-3),
        ...                      Phase(6, 2, learning_rate=1e-4)], name="short")
        >>> plan.epochs, plan.starts
        (8, (0, 2))
        >>> print(plan.resolve(["stem", "block", "head"]))
        TransferPlan 'short': 2 phases, 8 epochs
                      phase 1    phase 2
        epochs              2          6
        batch norm  inference  inference
        stem                ·          ·
        block               ·     0.0001
        head            0.001     0.0001
    """

    phases: Sequence[Phase]
    _: dataclasses.KW_ONLY
    name: str = "plan"
    reason: str = ""
    schedule: Schedule | None = None
    start: Start = "as_is"
    wise_ft: float = 1.0
    temperature: float = 1.0
    end: Start = "as_is"
    tried: Sequence[str] = ()
    adapters: AdapterPlan | None = None

    def __post_init__(self) -> None:
        checks.one_of(self.start, STARTS, "start")
        checks.one_of(self.end, STARTS, "end")
        phases = tuple(self.phases) if isinstance(self.phases, (list, tuple)) else (None,)
        solved = self.start == "probe"
        if not (phases or solved) or not all(isinstance(phase, Phase) for phase in phases):
            raise TypeError(
                "`phases` must be a sequence of at least one `kerastl.plans.Phase`, or of none "
                f"with start='probe'. Received: phases={self.phases!r}"
            )
        object.__setattr__(self, "phases", phases)
        if not checks.in_range(self.wise_ft, 0.0, 1.0, "wise_ft") > 0:
            raise ValueError(
                "`wise_ft` must be above 0: at 0 nothing of the training is left, and the plan is "
                "`strategies.probe`. Received: wise_ft=0"
            )
        checks.in_range(self.temperature, 1.0, 1e6, "temperature")
        if not phases and (self.wise_ft, self.temperature) != (1, 1):
            raise ValueError(
                "A plan without phases trains nothing, so it has no `wise_ft` or `temperature`. "
                f"Received: wise_ft={self.wise_ft:g}, temperature={self.temperature:g}"
            )
        for field in ("name", "reason"):
            if not isinstance(getattr(self, field), str):
                raise TypeError(
                    f"`{field}` must be a string. Received: {field}={getattr(self, field)!r}"
                )
        if isinstance(self.tried, str) or not all(isinstance(line, str) for line in self.tried):
            raise TypeError(f"`tried` must be a sequence of strings. Received: {self.tried!r}")
        object.__setattr__(self, "tried", tuple(self.tried))
        if self.adapters is not None and not isinstance(self.adapters, AdapterPlan):
            raise TypeError(
                "`adapters` must be a `kerastl.plans.AdapterPlan` or None. Received: "
                f"adapters={self.adapters!r}"
            )
        check_schedule(self.schedule)
        for attribute in ("learning_rate", "weight_decay"):
            _check_all_or_none(self, attribute)
        if self.schedule is not None:
            _check_one_schedule(self)

    @property
    def epochs(self) -> int:
        """Epochs of all phases together."""
        return sum(phase.epochs for phase in self.phases)

    @property
    def starts(self) -> tuple[int, ...]:
        """Tuple of the epoch (from 0) with which each phase begins."""
        ends = itertools.accumulate((phase.epochs for phase in self.phases), initial=0)
        return tuple(ends)[: len(self.phases)]

    @property
    def schedules(self) -> tuple[Schedule | None, ...]:
        """Tuple of the schedule of each phase: its own, or that of the plan, or None."""
        return tuple(self.schedule or phase.schedule for phase in self.phases)

    def label(self, index: int) -> str:
        """How messages call the phase at `index`: its place in `phases` and its name."""
        name = self.phases[index].name
        return f"phases[{index}]" + (f" ({name!r})" if name else "")

    def phase_at(self, epoch: int) -> Phase:
        """The `Phase` that `epoch` (from 0) belongs to.

        Raises:
            ValueError: If the plan has no such epoch.
        """
        return self.phases[index_at(self, epoch)]

    def resolve(self, groups: Groups) -> "ResolvedPlan":
        """What trains in each phase of a model with these groups, checked.

        Args:
            groups: `LayerGroups`, or names of groups, ordered from input to head.

        Returns:
            `ResolvedPlan`.

        Raises:
            ValueError: If a group is unknown, if there are fewer groups than a phase trains, or
                if a multiplier is given for a group that trains in no phase. The message names
                the phase.
        """
        return resolve(self, groups)

    def to_json(self) -> str:
        """The plan as JSON text; `from_json` gives an equal plan."""
        return saving.to_json(self)

    @classmethod
    def from_json(cls, text: str) -> "TransferPlan":
        """The plan that `to_json` wrote.

        Raises:
            ValueError: If `text` is no plan, of another version, or holds an unknown key.
        """
        return saving.from_json(text, cls)

    def save(self, path: PathLike) -> None:
        """Write the plan to the JSON file `path`, whole or not at all."""
        saving.save(self, path)

    @classmethod
    def load(cls, path: PathLike) -> "TransferPlan":
        """The plan in the JSON file `path`. Raises as `from_json` does, naming the file."""
        return saving.load(path, cls)

    def __str__(self) -> str:
        return table.symbolic(self)


def _check_all_or_none(plan, attribute):
    given = [getattr(phase, attribute) is not None for phase in plan.phases]
    if any(given) and not all(given):
        without, with_ = given.index(False), given.index(True)
        raise ValueError(
            f"Either all phases or none must say `{attribute}`: what the model was compiled with "
            f"is not known any more once a phase has changed it. Received: {attribute}=None in "
            f"{plan.label(without)}, {attribute}={getattr(plan.phases[with_], attribute)} in "
            f"{plan.label(with_)}."
        )


def _check_one_schedule(plan):
    for index, phase in enumerate(plan.phases):
        if phase.schedule is not None:
            raise ValueError(
                "Either the plan has one `schedule` or its phases have their own. "
                f"Received: {plan.schedule} for the plan and {phase.schedule} for "
                f"{plan.label(index)}."
            )
        if phase.early_stop is not None:
            raise ValueError(
                "A `schedule` over the whole plan needs a plan of known length. Received: "
                f"early_stop={phase.early_stop} in {plan.label(index)}. Give each phase its own "
                "`schedule` instead."
            )
