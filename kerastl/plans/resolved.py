"""A plan for the groups of one model: what trains in each phase, by name."""

import dataclasses
from typing import TYPE_CHECKING

from kerastl._base import checks
from kerastl.graph.layer_groups import Groups
from kerastl.plans import table
from kerastl.plans.phase import ALL, FrozenDict, Phase

if TYPE_CHECKING:
    from kerastl.plans.transfer_plan import TransferPlan


@dataclasses.dataclass(frozen=True)
class ResolvedPhase:
    """A phase for the groups of one model.

    Attributes:
        index: Int, its place in the plan.
        start: Int, the epoch (from 0) with which it begins.
        training: Tuple of the names of the groups that train, from input to head.
        multipliers: Dict from the name of every group of the model to its multiplier.
        phase: The `Phase`.
    """

    index: int
    start: int
    training: tuple[str, ...]
    multipliers: FrozenDict
    phase: Phase

    @property
    def rates(self) -> dict[str, float]:
        """Dict from each group that trains to its (peak) rate; multipliers if that is not said."""
        shared = 1.0 if self.phase.learning_rate is None else self.phase.learning_rate
        return {name: shared * self.multipliers[name] for name in self.training}


@dataclasses.dataclass(frozen=True)
class ResolvedPlan:
    """A plan whose groups are known and checked; `print` it for the whole table.

    Attributes:
        plan: The `TransferPlan`.
        groups: Tuple of the names of all groups of the model, from input to head.
        phases: Tuple of `ResolvedPhase`.
    """

    plan: "TransferPlan"
    groups: tuple[str, ...]
    phases: tuple[ResolvedPhase, ...]

    def phase_at(self, epoch: int) -> ResolvedPhase:
        """The `ResolvedPhase` that `epoch` (from 0) belongs to; raises if there is none."""
        return self.phases[index_at(self.plan, epoch)]

    @property
    def ever_training(self) -> tuple[str, ...]:
        """Tuple of the names of the groups that train in any phase, from input to head."""
        trained = {name for phase in self.phases for name in phase.training}
        return tuple(name for name in self.groups if name in trained)

    @property
    def thaws(self) -> dict[int, list[str]]:
        """Dict from epoch to the names of the groups that first train then, from the head down.

        Example:
            >>> from kerastl.plans import Phase, TransferPlan
            >>> plan = TransferPlan([Phase(2, "head"), Phase(1, "all")])
            >>> plan.resolve(["stem", "head"]).thaws
            {0: ['head'], 2: ['stem']}
        """
        found, known = {}, set()
        for phase in self.phases:
            if new := [name for name in reversed(phase.training) if name not in known]:
                found[phase.start] = new
                known.update(new)
        return found

    def __str__(self) -> str:
        return table.resolved(self)


def resolve(plan: "TransferPlan", groups: Groups) -> ResolvedPlan:
    """`ResolvedPlan` of `plan` for `groups`; see `TransferPlan.resolve`."""
    names = group_names(groups)
    note = getattr(groups, "note", "")
    training = [_training(plan, index, names, note) for index in range(len(plan.phases))]
    trained = {name for chosen in training for name in chosen}
    phases = []
    for index, (phase, start) in enumerate(zip(plan.phases, plan.starts, strict=True)):
        for name in phase.multipliers:
            _known(plan, index, name, names, "multipliers")
            if name not in trained:
                raise ValueError(
                    f"{plan.label(index)}: `multipliers` must name groups that train in some "
                    f"phase. Received: {name!r}, which never does. Those that do: "
                    f"{checks.listed([n for n in names if n in trained], 40)}."
                )
        full = FrozenDict((name, phase.multipliers.get(name, 1.0)) for name in names)
        phases.append(ResolvedPhase(index, start, training[index], full, phase))
    return ResolvedPlan(plan, names, tuple(phases))


def index_at(plan: "TransferPlan", epoch: int) -> int:
    """Index of the phase that `epoch` belongs to."""
    if isinstance(epoch, bool) or not isinstance(epoch, int) or not 0 <= epoch < plan.epochs:
        raise ValueError(
            f"`epoch` must be an int in [0, {plan.epochs - 1}], because the plan {plan.name!r} has "
            f"{plan.epochs} epochs. Received: epoch={epoch!r}"
        )
    return max(i for i, start in enumerate(plan.starts) if start <= epoch)


def group_names(groups: Groups) -> tuple[str, ...]:
    """The names of `groups`, `LayerGroups` or names from input to head, as a tuple, checked."""
    names = () if isinstance(groups, str) else tuple(getattr(groups, "names", groups))
    if not names or len(set(names)) < len(names) or not all(isinstance(n, str) for n in names):
        raise ValueError(
            "`groups` must be LayerGroups or a sequence of distinct group names, from input to "
            f"head. Received: groups={groups!r}"
        )
    return names


def _training(plan, index, names, note):
    train = plan.phases[index].train
    if train == ALL:
        return names
    if isinstance(train, int):
        if train > len(names):
            raise ValueError(
                f"{plan.label(index)}: `train` must be an int in [1, {len(names)}], because there "
                f"are {len(names)} groups: {checks.listed(names, 40)}. Received: train={train}."
                f"{note}"
            )
        return names[-train:]
    for name in train:
        _known(plan, index, name, names, "train")
    return tuple(name for name in names if name in train)


def _known(plan, index, name, names, where):
    if name not in names:
        raise ValueError(
            f"{plan.label(index)}: `{where}` must name groups of the model: "
            f"{checks.listed(names, 40)}. Received: {name!r}. "
            f"Closest: {checks.closest(name, names, 1)}."
        )
