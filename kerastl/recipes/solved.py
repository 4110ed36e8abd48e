"""The probe of a run: a network whose head is solved, and on what."""

import dataclasses
from typing import Any

import numpy as np

from kerastl.recipes import training
from kerastl.recipes.run_folder import Progress
from kerastl.tasks.protocols import TaskData
from kerastl.tasks.settings import StrategySettings
from kerastl.training import FineTuner, Probe


@dataclasses.dataclass(frozen=True, eq=False)
class Solved:
    """A network whose head is solved.

    Attributes:
        model: `FineTuner`, with the features of its frozen layers in a shared cache.
        data: `TaskData` that it takes.
        probe: `Probe`.
        zero: List of arrays, its weights before.
    """

    model: FineTuner
    data: TaskData
    probe: Probe
    zero: list[Any]

    @classmethod
    def of(
        cls, model: FineTuner, data: TaskData, settings: StrategySettings, progress: Progress
    ) -> "Solved":
        """Solve the head of `model` on `data.train`, with augmented views where they help."""
        zero = model.get_weights()
        progress.stage("Solving the head on frozen features", len(data.train))
        probe = training.solve(
            model,
            data,
            settings,
            augmented_copies=training.views_of(settings),
            progress=progress.count,
            shared=True,
        )
        return cls(model, data, probe, zero)

    def outputs(self, settings: StrategySettings) -> np.ndarray:
        """What the model gives for the examples held out, as it is now."""
        return self.data.objective.outputs_of(self.model, self.data.test, settings.batch_size)
