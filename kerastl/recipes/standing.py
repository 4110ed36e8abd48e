"""How a candidate did beside the probe on examples held back, and what follows from it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from kerastl.recipes.trials import Candidate, Trial
from kerastl.tasks.paired import Paired, paired
from kerastl.tasks.protocols import Objective
from kerastl.training import Probe
from kerastl.training.probe import Regression, best_temperature

LEAST = 6  # answers that must be wrong out of fold: with fewer, no gain could be told from chance
SURE = 2.0  # standard errors from which a candidate has lost
WORTH = 0.15  # share of the probe's loss that must be saved for more of it, or dearer ones, to pay
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
        outputs: What it gives for these rows, at this share and temperature.
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
    outputs: np.ndarray

    @property
    def has_lost(self) -> bool:
        """Whether neither its loss nor its score can be hoped to become better than the probe's."""
        return self.gain + SURE * self.error < 0 and self.difference.high <= 0

    @property
    def is_better(self) -> bool:
        """Whether it is to be kept: a lower loss beyond its standard error, and no lower score."""
        return self.gain > FURTHER * self.error and self.difference.difference >= 0

    @property
    def is_surely_better(self) -> bool:
        """Whether it has a lower loss beyond two standard errors, and no lower score."""
        return self.gain > SURE * self.error and self.difference.difference >= 0

    @property
    def has_won(self) -> bool:
        """Whether more folds would not change that it is kept."""
        return self.gain > SURE * self.error and self.difference.low > 0

    @property
    def saved(self) -> float:
        """The share of the probe's loss that it saves."""
        return self.gain / self.loss if self.loss else 0.0

    @property
    def told_saving(self) -> str:
        """What it saves, in words."""
        return f"{self.saved:.0%}" if self.saved >= 0.005 else "nothing"

    @property
    def is_worth_it(self) -> bool:
        """Whether it saves so much that more of it, or dearer ones, pay."""
        return self.saved >= WORTH

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


def compared(
    candidate: Candidate,
    trials: Sequence[Trial],
    probe: np.ndarray,
    targets: np.ndarray,
    objective: Objective,
    regression: Regression,
) -> Standing:
    """The `Standing` of `candidate`, by the share of its way and the temperature that do best.

    Args:
        candidate: `Candidate`.
        trials: What it gave, a `Trial` a fold.
        probe: What the probe gives for the same rows.
        targets: Of these rows.
        objective: `Objective` that scores answers.
        regression: `Regression` of the head, by whose loss candidates are compared.
    """
    wanted = regression.targets(targets)
    before = regression.losses(probe, wanted)
    outputs, temperatures, gains = {}, {}, {}
    for share in candidate.shares:
        given = np.concatenate([trial.outputs[share] for trial in trials]).astype(np.float64)
        trained = candidate.plan.phases  # a regression is as sure as it is right
        temperature = best_temperature(regression, given, wanted) if trained else 1.0
        if temperature != 1:
            given = regression.outputs(regression.scores(given) / temperature)
        temperatures[share], outputs[share] = temperature, given
        gains[share] = before - regression.losses(outputs[share], wanted)
    share = max(gains, key=lambda one: gains[one].mean())
    gain = gains[share]
    return Standing(
        candidate,
        tuple(trials),
        share,
        temperatures[share],
        float(before.mean()),
        float(gain.mean()),
        float(gain.std() / np.sqrt(len(gain))),
        objective.score(outputs[share], targets),
        objective.score(probe, targets),
        paired(objective, outputs[share], probe, targets),
        outputs[share],
    )


def few_wrong(probe: Probe, targets: np.ndarray, objective: Objective) -> str | None:
    """Why nothing more is tried, where too few answers of `probe` are wrong out of fold, or None.

    Answers that one gets right and the other does not could not be told from chance.
    """
    hits = objective.hits(probe.out_of_fold, targets)
    wrong = None if hits is None else int((np.asarray(hits) < 1).sum())
    if wrong is None or wrong >= LEAST:
        return None
    return (
        f"The probe has {wrong} of {len(targets)} wrong out of fold: nothing that is trained "
        "further could be told from chance."
    )
