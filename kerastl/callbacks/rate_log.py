"""The rate of every group at every step, in memory and as a CSV file."""

import csv
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from kerastl import _keras
from kerastl._base import files
from kerastl._base.types import PathLike
from kerastl.optimizers.lr_multiplier import LRMultiplier
from kerastl.plans.resolved import ResolvedPhase


def shared_rates(optimizer: LRMultiplier, start: int, end: int) -> list[float]:
    """The shared rate of each step of `optimizer`, an `LRMultiplier`, from `start` to before `end`.

    The rate of a step is its present learning rate times the factor of its schedule.
    """
    steps, placed = np.arange(start, end), optimizer.schedule
    if placed is None:
        return [_keras.rate_at(optimizer.inner_optimizer, int(step)) for step in steps]
    progress = np.clip((steps - placed.start) / placed.num_steps, 0.0, 1.0)
    return (float(optimizer.learning_rate) * placed.schedule.factor(progress)).tolist()


class RateLog:
    """What the rates were.

    Args:
        groups: Names of the groups that train at some time.
        path: CSV file to write as well, or None.

    Attributes:
        rows: List of `(step, epoch, ResolvedPhase, shared rate)`.
    """

    def __init__(self, groups: Sequence[str], path: PathLike | None) -> None:
        self._groups = groups
        self._path: Any = None if path is None else pathlib.Path(path)
        self.rows = []

    def begin(self, step: int) -> None:
        """Begin the file; one of an earlier process keeps its rows of steps before `step`."""
        if self._path is None:
            return
        kept = self._rows_before(step) if step and self._path.exists() else []
        with (
            files.replacing(self._path) as partial,
            partial.open("w", encoding="utf-8", newline="") as file,
        ):
            csv.writer(file).writerows([self._header, *kept])

    def add(self, step: int, epoch: int, phase: ResolvedPhase, rates: Sequence[float]) -> None:
        """Remember that the steps from `step` on were taken at these shared `rates`."""
        new = [(step + i, epoch, phase, rate) for i, rate in enumerate(rates)]
        self.rows += new
        if self._path is None:
            return
        # Opened each time, so that a killed process has told all its steps.
        with self._path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(
                [i, epoch, phase.index, rate, *self.of_groups(phase, rate).values()]
                for i, _, _, rate in new
            )

    def of_groups(self, phase: ResolvedPhase, shared: float) -> dict[str, float]:
        """Dict from each group that trains at some time to its rate, 0 while it is frozen."""
        return {
            name: shared * phase.multipliers[name] if name in phase.training else 0.0
            for name in self._groups
        }

    @property
    def _header(self):
        return ["step", "epoch", "phase", "learning_rate", *self._groups]

    def _rows_before(self, step):
        with self._path.open(encoding="utf-8", newline="") as file:
            header, *rows = list(csv.reader(file)) or [[]]
        if header != self._header:
            raise ValueError(
                f"{self._path} must be a log of rates of the same groups, to be gone on with. "
                f"Received: columns {header}, needed: {self._header}. Remove it or log to "
                "another file."
            )
        whole = [row for row in rows if len(row) == len(header)]  # a killed process may cut one
        return [row for row in whole if int(row[0]) < step]
