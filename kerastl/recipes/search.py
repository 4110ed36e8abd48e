"""Which way to train further than the probe, if any: compared on held-back training examples.

Candidates go from cheap to dear. All are tried on the first fold; the better half of them on two
more; what is left on the rest. A candidate is dropped where it cannot win any more, and dearer ones
are not tried where the cheapest says that training more layers does not pay: it is asked on further
folds where one does not tell.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerastl.plans import TransferPlan
from kerastl.recipes.standing import WORTH, Standing, compared, few_wrong
from kerastl.recipes.trials import Candidate, Trial, Trials
from kerastl.tasks.paired import Paired, paired
from kerastl.tasks.protocols import Objective
from kerastl.tasks.settings import StrategySettings
from kerastl.training.probe import head_of

ROUNDS = ((0,), (1, 2), (3, 4))  # folds of each
ENOUGH = 100  # examples held back, from which something can be told
UNKNOWN = 4  # times as long as the probe a first trial is taken to last


@dataclasses.dataclass(frozen=True)
class Choice:
    """What was chosen, and why.

    Attributes:
        plan: `TransferPlan` to follow, or None for the probe.
        settings: `StrategySettings` to follow it by.
        table: List of a dict a candidate.
        reason: One sentence.
        ended_by: `"minutes"` where more time might have chosen otherwise, else None.
        notices: Tuple of lines for the user.
    """

    plan: TransferPlan | None
    settings: StrategySettings | None
    table: list[dict[str, Any]]
    reason: str
    ended_by: str | None = None
    notices: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """What `metrics.json` says of it."""
        return {"tried": self.table, "reason": self.reason, "ended_by": self.ended_by}

    def after(self, row: dict[str, Any], reason: str) -> "Choice":
        """The same with what was tried before: its `row` of the table, and what follows of it."""
        told = f"{reason} {self.reason}" if reason else self.reason
        return dataclasses.replace(self, table=[row, *self.table], reason=told)

    def said_in(self, plan: TransferPlan, objective: Objective) -> TransferPlan:
        """`plan` with the reason and a line for each row of the table."""
        tried = tuple(line_of(row, is_share=objective.is_share) for row in self.table)
        return dataclasses.replace(plan, reason=self.reason, tried=tried)


def _advice(beside, told):
    if beside.difference >= 0:
        return ()
    return (
        f"With augmentation, as asked for, held-back examples were answered less well: {told}; not "
        "by so much that it could not be chance. If it changes what an example means, as a mirror "
        "does with writing, pass --augment none.",
    )


def line_of(row: Mapping[str, Any], *, is_share: bool) -> str:
    """A row of the table in words.

    Args:
        row: Dict, as `Standing.row` gives it, or with its `name`, `folds` 0 and `fate`.
        is_share: Boolean, whether the score is a share.

    Example:
        >>> line_of({"name": "full", "folds": 0, "fate": "not tried: no time"}, is_share=True)
        'full: not tried: no time'
    """
    if not row["folds"]:
        return f"{row['name']}: {row['fate']}"
    beside = Paired(**row["difference"])
    told = f"{beside.text(is_share=is_share)} on {beside.num_examples} examples held back"
    loss = f"loss {-row['loss_gain']:+.3f}, standard error {row['loss_gain_error']:.3f}"
    return f"{row['name']}: {told}; {loss}: {row['fate']}"


class Search:
    """Compares candidates with the probe.

    Args:
        trials: `Trials`.
        minutes: Float > 0 that all trials and the last training may take, or None for any time.
    """

    def __init__(self, trials: Trials, minutes: float | None = None) -> None:
        self._trials, self._minutes = trials, minutes
        self._objective = trials.data.objective
        self._regression = head_of(trials.model).regression
        self._done: dict[str, dict[int, Trial]] = {}  # of each candidate, by fold
        self._found: dict[str, Standing] = {}
        self._fates: dict[str, str] = {}
        self._kept: Standing | None = None  # that a `Choice` was for

    def one(self, candidate: Candidate) -> Choice:
        """Whether `candidate` does better than the probe on folds that are held back.

        One of them if it has enough examples, else as many as have.
        """
        for fold in np.unique(self._trials.probe.folds):
            if self._add(candidate, (int(fold),)).num_rows >= ENOUGH:
                break
        return self._concluded([candidate])

    def on_validation(self, candidate: Candidate, trial: Trial, probe: np.ndarray) -> Choice:
        """Whether `candidate`, trained on everything, does better than the probe on `data.val`.

        Args:
            candidate: `Candidate`.
            trial: `Trial`, what it gives for the examples of `data.val`.
            probe: What the probe gives for them.
        """
        self._judge(candidate, (trial,), probe, self._trials.data.val.targets)
        return self._concluded([candidate])

    def best(self, candidates: Sequence[Candidate]) -> Choice:
        """The best of `candidates`, which go from cheap to dear, and of the probe."""
        probe, targets = self._trials.probe, self._trials.data.train.targets
        if (reason := few_wrong(probe, targets, self._objective)) is not None:
            return Choice(None, None, [], reason)
        for folds in ROUNDS:
            if not self._has_time(candidates[0], folds):
                return self._concluded(self._tried(candidates), ended_by="minutes")
            first = self._try(candidates[0], folds)
            if first is None or first.is_worth_it or not first.is_open:
                break
        if first is not None and not first.is_worth_it:
            return self._not_worth_it(first, candidates[1:])
        alive = list(candidates if first is not None else candidates[1:])
        for folds in ROUNDS:
            for candidate in list(alive):
                if not self._has_time(candidate, folds):
                    return self._concluded(self._tried(alive), ended_by="minutes")
                standing = self._try(candidate, folds)
                if standing is None or standing.has_lost:
                    alive.remove(candidate)
                if standing is not None and standing.has_lost:
                    self._fates[candidate.name] = "dropped: it cannot win any more"
            alive = self._better_half(alive)
            if not alive or (len(alive) == 1 and self._found[alive[0].name].has_won):
                break
        return self._concluded(alive)

    def augmented(self, choice: Choice, twin: Candidate) -> Choice:
        """`choice`, or `twin`: the same training with the augmentation that was asked for.

        Who asks for it says that an example changed so means the same; and examples that are met
        later may differ in such ways, which held-back ones of the same kind cannot tell. So it is
        done, unless they say that it harms: that the score is lower by more than its 95 % interval,
        or no longer better than that of the probe.

        Args:
            choice: `Choice` of `best` for a training without.
            twin: `Candidate`.
        """
        plain = self._kept
        if plain is None or choice.ended_by is not None:
            return choice
        folds, name = tuple(self._done[plain.candidate.name]), plain.candidate.name
        if not self._has_time(twin, folds, like=plain):
            told = f"{choice.reason} The {self._minutes:g} minutes left no time for {twin.name}."
            given = {"table": self._table(), "reason": told, "ended_by": "minutes"}
            return dataclasses.replace(choice, **given)
        standing = self._try(twin, folds)
        if standing is None:
            return dataclasses.replace(choice, table=self._table())
        rows = np.concatenate([trial.rows for trial in standing.trials])
        targets = self._trials.data.train.targets[rows]
        beside = paired(self._objective, standing.outputs, plain.outputs, targets)
        told = f"{beside.text(is_share=self._objective.is_share)} beside {name}"
        if beside.high < 0 or not standing.is_better:
            why = "it harms" if beside.high < 0 else "not better than the probe"
            self._fates[twin.name] = f"dropped: {why}, {told}"
            return dataclasses.replace(choice, table=self._table())
        self._fates[name] = f"{twin.name} does as well: {told}"
        chosen = self._concluded([twin])
        return dataclasses.replace(
            chosen, reason=f"{chosen.reason} That is {told}.", notices=_advice(beside, told)
        )

    def _tried(self, candidates):
        return [one for one in candidates if one.name in self._found]

    def _not_worth_it(self, first, dearer):
        """The cheapest candidate says that dearer ones do not pay; it may be better itself."""
        name, saved = first.candidate.name, first.told_saving
        self._fates |= {one.name: f"not tried: {name} saves too little" for one in dearer}
        if first.has_won:
            choice = self._concluded([first.candidate])
            told = f"It saves {saved} of the probe's loss: below {WORTH:.0%} more does not pay."
            return dataclasses.replace(choice, reason=f"{choice.reason} {told}")
        self._fates[name] = f"saves {saved} of the probe's loss, and {WORTH:.0%} is asked"
        count = first.num_rows
        reason = (
            f"{name} saves {saved} of the probe's loss on {count} examples held back: "
            f"below {WORTH:.0%} training more does not pay."
        )
        return Choice(None, None, self._table(), reason)

    def _better_half(self, alive):
        ranked = sorted(alive, key=lambda one: -self._found[one.name].saved)
        left = ranked[: (len(ranked) + 1) // 2]
        for one in ranked[len(left) :]:
            known = len(self._found[one.name].trials)
            after = f"after {known} fold{'s' * (known > 1)}"
            self._fates[one.name] = f"dropped {after}: {left[0].name} saves more there"
        return left

    def _has_time(self, candidate, folds, like=None):
        """Whether so many folds more and a training on everything are within the minutes.

        A candidate of which nothing is known takes as long as `like`, a `Standing`, or at least as
        the dearest that was tried. What was said before a kill is said again: else another process
        would choose otherwise.
        """
        trials, done = self._trials, self._done.get(candidate.name, {})
        folds = [fold for fold in folds if fold not in done]
        if self._minutes is None or trials.are_done(candidate, folds):
            return True
        mark = trials.folder / f"no-time-{candidate.name}-{folds[0]}"
        known = self._found.get(candidate.name, like)
        asked = [known] if known else list(self._found.values())
        each = max((one.seconds / len(one.trials) for one in asked), default=0.0)
        each = each if known else max(each, UNKNOWN * trials.probe.seconds)
        if not mark.exists() and trials.passed + each * (len(folds) + 1.25) < 60 * self._minutes:
            return True
        mark.touch()
        known = candidate.name in self._found
        self._fates[candidate.name] = (
            "not tried further: no time" if known else "not tried: no time"
        )
        return False

    def _try(self, candidate, folds):
        """`_add`; None for a candidate whose loss stops being a number."""
        try:
            return self._add(candidate, folds)
        except FloatingPointError:
            self._fates[candidate.name] = "dropped: its loss stopped being a number"
            return None

    def _add(self, candidate, folds):
        """The `Standing` of `candidate` after these folds, too."""
        done = self._done.setdefault(candidate.name, {})
        done |= {fold: self._trials.run(candidate, fold) for fold in folds if fold not in done}
        trials = tuple(done.values())
        rows = np.concatenate([trial.rows for trial in trials])
        probe, targets = self._trials.probe, self._trials.data.train.targets
        return self._judge(candidate, trials, probe.out_of_fold[rows], targets[rows])

    def _judge(self, candidate, trials, probe, targets):
        standing = compared(candidate, trials, probe, targets, self._objective, self._regression)
        self._found[candidate.name] = standing
        return standing

    def _concluded(self, alive, ended_by=None):
        """The `Choice` of the best in `alive`, or of the probe."""
        found = (self._found[one.name] for one in alive)
        best = max(found, key=lambda one: one.saved, default=None)
        # What could not be told to the end must be plain.
        kept = best is not None and (best.has_won if ended_by else best.is_better)
        if best is not None:
            self._fates[best.candidate.name] = "kept" if kept else "not better than the probe"
        self._kept = best if kept else None
        table = self._table()
        reason = self._why(best, kept)
        if ended_by == "minutes":
            reason += f" The {self._minutes:g} minutes ended the comparison."
        if not kept or best is None:
            return Choice(None, None, table, reason, ended_by)
        given = {"wise_ft": best.share, "temperature": best.temperature}
        plan = dataclasses.replace(best.candidate.plan, **given)
        return Choice(plan, best.candidate.settings, table, reason, ended_by)

    def _table(self):
        """A dict for each candidate, those that were not tried last."""
        tried = self._found.items()
        rows = [one.row(self._fates.get(name, "not tried further")) for name, one in tried]
        untried = [name for name in self._fates if name not in self._found]
        return rows + [{"name": name, "folds": 0, "fate": self._fates[name]} for name in untried]

    def _why(self, best, kept):
        if best is None:
            if not self._found:
                return "Nothing was tried."
            tried = ", ".join(self._found)
            return f"Tried {tried}: no gain over the probe on examples held back."
        share = self._objective.is_share
        count = best.num_rows
        told = f"{best.difference.text(is_share=share)} on {count} examples held back"
        loss = f"loss {-best.gain:+.3f}, standard error {best.error:.3f}"
        name = best.candidate.name
        if kept:
            return f"{name} does better than the probe: {told}; {loss}."
        why = "its score is lower" if best.difference.difference < 0 else "its loss says no"
        return f"{name} does not do better than the probe, {why}: {told}; {loss}."
