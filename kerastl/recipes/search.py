"""Which way to train further than the probe, if any: compared on held-back training examples.

Candidates go from cheap to dear. All are tried on the first fold; the better half of them on two
more; what is left on the rest. A candidate is dropped where it cannot win any more, and dearer ones
are not tried where the cheapest says that training more layers does not pay: it is asked on further
folds where one does not tell.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from kerastl.plans import TransferPlan
from kerastl.recipes.trials import Candidate, Trial, Trials
from kerastl.tasks.paired import Paired, paired
from kerastl.tasks.settings import StrategySettings
from kerastl.training.probe import best_temperature, head_of

ROUNDS = ((0,), (1, 2), (3, 4))  # folds of each
ENOUGH = 100  # examples held back, from which something can be told
LEAST = 6  # answers that must be wrong out of fold: with fewer, no gain could be told from chance
SURE = 2.0  # standard errors from which a candidate has lost
UNKNOWN = 4  # times as long as the probe a first trial is taken to last
WORTH = 0.15  # share of the probe's loss that the cheapest must save for dearer ones to be tried
PRECISE = 0.1  # the standard error, of the probe's loss, from which that share is known
FURTHER = 1.0  # standard errors of the loss by which a candidate must do better to be kept


@dataclasses.dataclass(frozen=True, eq=False)
class Standing:
    """How a candidate did on the rows held back so far, beside the probe on the same rows.

    Attributes:
        candidate: `Candidate`.
        trials: Tuple of its `Trial`s.
        share: Float, the share of the way to the trained weights with the lowest loss.
        temperature: Float, by which scores are divided there for the lowest loss.
        loss: Float, the probe's mean loss on these rows.
        gain: Float, how much lower that of the candidate is.
        error: Float, standard error of `gain`.
        score: Float, and `probe_score`, on these rows.
        difference: `Paired`, score minus that of the probe.
    """

    candidate: Candidate
    trials: tuple[Trial, ...]
    share: float
    temperature: float
    loss: float
    gain: float
    error: float
    score: float
    probe_score: float
    difference: Paired

    @property
    def has_lost(self) -> bool:
        """Whether neither its loss nor its score can be hoped to become better than the probe's."""
        return self.gain + SURE * self.error < 0 and self.difference.high <= 0

    @property
    def is_better(self) -> bool:
        """Whether it is to be kept: a lower loss beyond its standard error, and no lower score."""
        return self.gain > FURTHER * self.error and self.difference.difference >= 0

    @property
    def has_won(self) -> bool:
        """Whether more folds would not change that it is kept."""
        return self.gain > SURE * self.error and self.difference.low > 0

    @property
    def saved(self) -> float:
        """The share of the probe's loss that it saves."""
        return self.gain / self.loss if self.loss else 0.0

    @property
    def is_open(self) -> bool:
        """Whether it may save so much that dearer candidates pay, and more folds would tell."""
        vague = self.error > PRECISE * self.loss
        return vague and self.gain + SURE * self.error >= WORTH * self.loss

    @property
    def num_rows(self) -> int:
        """How many examples it was asked about."""
        return sum(len(trial.rows) for trial in self.trials)

    @property
    def seconds(self) -> float:
        """Seconds of its trials."""
        return sum(trial.seconds for trial in self.trials)

    def row(self, said: str) -> dict[str, Any]:
        """What the table of a run says of it."""
        return {
            "name": self.candidate.name,
            "folds": len(self.trials),
            "score": self.score,
            "probe": self.probe_score,
            "difference": self.difference.to_dict(),
            "probe_loss": self.loss,
            "loss_gain": self.gain,
            "loss_gain_error": self.error,
            "wise_ft": self.share,
            "temperature": self.temperature,
            "seconds": round(self.seconds, 1),
            "tracing_seconds": round(sum(trial.tracing_seconds for trial in self.trials), 1),
            "fate": said,
        }


@dataclasses.dataclass(frozen=True)
class Choice:
    """What was chosen, and why.

    Attributes:
        plan: `TransferPlan` to follow, or None for the probe.
        settings: `StrategySettings` to follow it by.
        table: List of a dict a candidate.
        reason: One sentence.
        ended_by: `"minutes"` where more time might have chosen otherwise, else None.
    """

    plan: TransferPlan | None
    settings: StrategySettings | None
    table: list[dict[str, Any]]
    reason: str
    ended_by: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """What `metrics.json` says of it."""
        return {"tried": self.table, "reason": self.reason, "ended_by": self.ended_by}


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
        if (reason := self._no_room()) is not None:
            return Choice(None, None, [], reason)
        for folds in ROUNDS:
            if not self._has_time(candidates[0], folds):
                return self._concluded(self._tried(candidates), ended_by="minutes")
            first = self._add(candidates[0], folds)
            if first.saved >= WORTH or not first.is_open:
                break
        if first.saved < WORTH:
            return self._not_worth_it(first, candidates[1:])
        alive = list(candidates)
        for folds in ROUNDS:
            for candidate in list(alive):
                if not self._has_time(candidate, folds):
                    return self._concluded(self._tried(alive), ended_by="minutes")
                if self._add(candidate, folds).has_lost:
                    self._fates[candidate.name] = "dropped: it cannot win any more"
                    alive.remove(candidate)
            alive = self._better_half(alive)
            if not alive or (len(alive) == 1 and self._found[alive[0].name].has_won):
                break
        return self._concluded(alive)

    def _tried(self, candidates):
        return [one for one in candidates if one.name in self._found]

    def _not_worth_it(self, first, dearer):
        """The cheapest candidate says that dearer ones do not pay; it may be better itself."""
        name, saved = first.candidate.name, max(first.saved, 0.0)
        self._fates |= {one.name: f"not tried: {name} saves too little" for one in dearer}
        if first.has_won:
            choice = self._concluded([first.candidate])
            told = f"It saves {saved:.0%} of the probe's loss: below {WORTH:.0%} more does not pay."
            return dataclasses.replace(choice, reason=f"{choice.reason} {told}")
        self._fates[name] = f"saves {saved:.0%} of the probe's loss, and {WORTH:.0%} is asked"
        count = first.num_rows
        reason = (
            f"{name} saves {saved:.0%} of the probe's loss on {count} examples held back: "
            f"below {WORTH:.0%} training more does not pay."
        )
        return Choice(None, None, self._table(), reason)

    def _better_half(self, alive):
        ranked = sorted(alive, key=lambda one: -self._found[one.name].saved)
        left = ranked[: (len(ranked) + 1) // 2]
        for one in ranked[len(left) :]:
            self._fates[one.name] = f"dropped: {left[0].name} gains more"
        return left

    def _no_room(self):
        """Why nothing more is tried, where too few answers of the probe are wrong, or None."""
        probe, targets = self._trials.probe, self._trials.data.train.targets
        hits = self._objective.hits(probe.out_of_fold, targets)
        wrong = None if hits is None else int((np.asarray(hits) < 1).sum())
        if wrong is None or wrong >= LEAST:
            return None
        return (
            f"The probe has {wrong} of {len(targets)} wrong out of fold: nothing that is trained "
            "further could be told from chance."
        )

    def _has_time(self, candidate, folds):
        """Whether so many folds more and a training on everything are within the minutes.

        What was said before a kill is said again: else another process would choose otherwise.
        """
        trials, done = self._trials, self._done.get(candidate.name, {})
        folds = [fold for fold in folds if fold not in done]
        if self._minutes is None or trials.are_done(candidate, folds):
            return True
        mark = trials.folder / f"no-time-{candidate.name}-{folds[0]}"
        known = self._found.get(candidate.name)
        each = known.seconds / len(known.trials) if known else UNKNOWN * trials.probe.seconds
        if not mark.exists() and trials.passed + each * (len(folds) + 1.25) < 60 * self._minutes:
            return True
        mark.touch()
        known = candidate.name in self._found
        self._fates[candidate.name] = (
            "not tried further: no time" if known else "not tried: no time"
        )
        return False

    def _add(self, candidate, folds):
        """The `Standing` of `candidate` after these folds, too."""
        done = self._done.setdefault(candidate.name, {})
        done |= {fold: self._trials.run(candidate, fold) for fold in folds if fold not in done}
        trials = tuple(done.values())
        rows = np.concatenate([trial.rows for trial in trials])
        probe, targets = self._trials.probe, self._trials.data.train.targets
        return self._judge(candidate, trials, probe.out_of_fold[rows], targets[rows])

    def _judge(self, candidate, trials, probe, targets):
        regression, objective = self._regression, self._objective
        wanted = regression.targets(targets)
        before = regression.losses(probe, wanted)
        outputs, temperatures, gains = {}, {}, {}
        for share in candidate.shares:
            given = np.concatenate([trial.outputs[share] for trial in trials]).astype(np.float64)
            temperature = best_temperature(regression, given, wanted)
            if temperature != 1:
                given = regression.outputs(regression.scores(given) / temperature)
            temperatures[share], outputs[share] = temperature, given
            gains[share] = before - regression.losses(outputs[share], wanted)
        share = max(gains, key=lambda one: gains[one].mean())
        gain = gains[share]
        self._found[candidate.name] = standing = Standing(
            candidate,
            trials,
            share,
            temperatures[share],
            float(before.mean()),
            float(gain.mean()),
            float(gain.std() / np.sqrt(len(gain))),
            objective.score(outputs[share], targets),
            objective.score(probe, targets),
            paired(objective, outputs[share], probe, targets),
        )
        return standing

    def _concluded(self, alive, ended_by=None):
        """The `Choice` of the best in `alive`, or of the probe."""
        found = (self._found[one.name] for one in alive)
        best = max(found, key=lambda one: one.saved, default=None)
        # What could not be told to the end must be plain.
        kept = best is not None and (best.has_won if ended_by else best.is_better)
        if best is not None:
            self._fates[best.candidate.name] = "kept" if kept else "not better than the probe"
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
        verb = "does better than" if kept else "does not do better than"
        return f"{best.candidate.name} {verb} the probe: {told}; {loss}."
