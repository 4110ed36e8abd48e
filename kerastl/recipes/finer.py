"""The probe on finer examples, such as larger pictures: what is tried first, for it trains nothing.

Half of the examples tell whether more could be got from such features at all: where regressions
that saw half as many do as well, the features are the limit, and the network must learn. Where the
learning curve still falls, a sample of the examples is read again in more detail; where that saves
enough there, all are.
"""

import dataclasses
import pathlib
import time
from typing import Any

import numpy as np

from kerastl.plans import strategies
from kerastl.recipes import training
from kerastl.recipes.run_folder import Progress
from kerastl.recipes.solved import Solved
from kerastl.recipes.standing import WORTH, Standing, compared, few_wrong
from kerastl.recipes.trials import Candidate, Trial
from kerastl.tasks.protocols import Source
from kerastl.tasks.settings import StrategySettings
from kerastl.training.probe import folds_of, head_of

SAMPLE = 200  # examples, about, that are read again first; half of them where they are fewer


@dataclasses.dataclass(frozen=True, eq=False)
class Tried:
    """What became of finer examples.

    Attributes:
        solved: `Solved` on them if they are better, else None.
        row: Dict for the table of what was tried.
        reason: One sentence, or empty where nothing was solved.
        notices: Tuple of lines for the user.
    """

    solved: Solved | None
    row: dict[str, Any]
    reason: str = ""
    notices: tuple[str, ...] = ()


class FinerProbe:
    """Tries finer examples where the learning curve says that more may pay.

    Args:
        source: `Source` of the data.
        settings: `TuneSettings`.
        folder: `pathlib.Path` of a folder that a later process finds again.
        progress: `Progress`.
    """

    def __init__(
        self, source: Source, settings: Any, folder: pathlib.Path, progress: Progress
    ) -> None:
        self._source, self._settings = source, settings
        self._folder, self._progress = folder, progress

    def tried(self, coarse: Solved) -> Tried | None:
        """What becomes of them beside `coarse`; None where there are none or nothing is wrong."""
        data, probe = coarse.data, coarse.probe
        finer = self._source.finer(data.prepare, self._settings)
        if finer is None or few_wrong(probe, data.train.targets, data.objective):
            return None
        name = f"probe, {finer.said}"
        if not _still_falls(coarse):
            return Tried(None, _untried(name, "half of the examples do as well"))
        if not self._has_time(probe, finer):
            return Tried(None, _untried(name, "no time"))
        started = time.perf_counter()
        candidate = Candidate(name, strategies.probe(coarse.model.groups), finer.settings, (1.0,))
        standing = self._on_sample(coarse, finer, candidate, started)
        if not standing.is_worth_it:
            fate = f"saves {standing.told_saving} of the probe's loss, and {WORTH:.0%} is asked"
            return Tried(None, standing.row(fate))
        return self._on_all(coarse, finer, candidate, started)

    def _has_time(self, probe, finer):
        """Whether a probe on them is within the minutes; said again to a later process."""
        mark = self._folder / "no-time-finer"
        taken = 2 * finer.cost * probe.seconds
        if not mark.exists() and taken < 60 * self._settings.minutes:
            return True
        mark.touch()
        return False

    def _on_sample(self, coarse, finer, candidate, started):
        """How it does on a part of the training examples, beside a probe on the same ones."""
        model, data = coarse.model, coarse.data
        rows = _sample(coarse, self._settings.seed)
        self._progress.stage(f"Trying {finer.said} on {len(rows)} examples")
        nothing = data.train.at(np.arange(0))
        part = dataclasses.replace(data, train=data.train.at(rows), val=nothing, test=nothing)
        before = training.solve(model, part, self._settings, shared=True)
        head_of(model).set(coarse.probe.linear)
        model.fit_state.probe = coarse.probe
        backbone = self._source.load_backbone(finer.settings)
        prepare = self._source.prepare_for(backbone, finer.settings)
        part = dataclasses.replace(part, train=data.train.prepared(prepare, rows), prepare=prepare)
        larger = training.build(backbone, part, dropout=finer.settings.dropout, name="sample")
        training.adapt(larger, part, finer.settings)
        after = training.solve(larger, part, finer.settings)
        seconds = time.perf_counter() - started
        return _beside(candidate, coarse, after, before, part.train.targets, seconds)

    def _on_all(self, coarse, finer, candidate, started):
        """`Tried` of a network that takes them, its head solved on all training examples."""
        model, data = training.begin(self._source, finer.settings, self._progress)
        targets = coarse.data.train.targets
        if not np.array_equal(data.train.targets, targets):
            raise RuntimeError(
                f"The examples at {self._source.path} must stay as they are while a run reads "
                f"them. Received: {len(targets)} to train on at first, then {len(data.train)}, or "
                "others"
            )
        solved = Solved.of(model, data, finer.settings, self._progress)
        seconds = time.perf_counter() - started
        standing = _beside(candidate, coarse, solved.probe, coarse.probe, targets, seconds)
        saved = f"{standing.told_saving} of the probe's loss"
        if not standing.is_surely_better:
            return Tried(None, standing.row(f"saves {saved} on all examples: not surely better"))
        said = finer.said[0].upper() + finer.said[1:]
        return Tried(
            solved,
            standing.row("taken: what follows begins there"),
            f"{said} save {saved}.",
            (
                f"{said} save {saved}, and each takes {finer.cost:.2g} times as long, on a device, "
                "too. Say how large they shall be to have them so.",
            ),
        )


def _still_falls(coarse):
    """Whether regressions that saw half as many examples lose so much, and the score with it."""
    probe, plan = coarse.probe, strategies.probe(coarse.model.groups)
    candidate = Candidate("all examples", plan, StrategySettings(), (1.0,))
    half = dataclasses.replace(probe, out_of_fold=probe.half_out_of_fold)
    curve = _beside(candidate, coarse, probe, half, coarse.data.train.targets, 0.0)
    return curve.is_worth_it and curve.is_better


def _beside(candidate, coarse, finer, probe, targets, seconds) -> Standing:
    """The `Standing` of `finer` beside `probe`, both `Probe`s of the same examples."""
    trial = Trial(np.arange(len(targets)), {1.0: finer.out_of_fold}, seconds, 0.0)
    regression = head_of(coarse.model).regression
    return compared(
        candidate, [trial], probe.out_of_fold, targets, coarse.data.objective, regression
    )


def _untried(name, why):
    return {"name": name, "folds": 0, "fate": f"not tried: {why}"}


def _sample(coarse, seed):
    """Rows of about so many training examples, or half of them, of each class its share."""
    regression, targets = head_of(coarse.model).regression, coarse.data.train.targets
    folds = folds_of(
        regression.targets(targets),
        stratified=regression.stratified,
        seed=seed,
        count=max(2, len(targets) // SAMPLE),
    )
    return np.flatnonzero(folds == 0)
