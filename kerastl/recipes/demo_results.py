"""What both demos tell: the accuracy of each way to learn, and the first seed's network."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kerastl.graph.flags import count_weights
from kerastl.plans import TransferPlan
from kerastl.recipes.run_folder import RunFolder
from kerastl.report import draw_curves
from kerastl.tasks import Classification, TaskData, TrainedFor

SCRATCH = "same network from scratch"
PROBE = "regression on its frozen features"


@dataclasses.dataclass(frozen=True)
class DemoResult:
    """What a demo gave: the first seed's model, `metrics.json`, and the folder both lie in."""

    model: keras.Model
    metrics: dict[str, Any]
    folder: pathlib.Path


@dataclasses.dataclass(frozen=True, eq=False)
class FirstTransfer:
    """What is kept of the first seed's transfer.

    Attributes:
        model: The tuned network.
        plan: `TransferPlan` that it followed.
        history: Dict of lists, a value an epoch.
        data: `TaskData`.
        outputs: What the network gives for `data.test`.
    """

    model: keras.Model
    plan: TransferPlan
    history: dict[str, Any]
    data: TaskData
    outputs: np.ndarray

    @property
    def thaws(self) -> dict[int, list[str]]:
        """Dict from an epoch to the groups that thaw in it."""
        return self.plan.resolve(self.model.groups).thaws

    def metrics(self, examples: str, evaluated_on: str) -> dict[str, Any]:
        """What `metrics.json` says of it.

        Args:
            examples: What they are called, in the plural.
            evaluated_on: Which of them the figures are of.
        """
        objective, data = Classification(), self.data
        judged = objective.judge(self.outputs, data.test.targets, data.outputs)
        return {
            "objective": objective.name,
            "score_name": objective.score_name,
            "score": judged.score,
            **judged.details,
            "examples": examples,
            "evaluated_on": evaluated_on,
            "num_train": len(data.train),
            "num_skipped": 0,
            "num_weights": count_weights(self.model),
            "seed": 0,
        }

    def write(self, run: RunFolder, settings: Mapping[str, Any], title: str) -> None:
        """Write the network and how it came about, but for `metrics.json`.

        Args:
            run: `RunFolder`.
            settings: What `config.json` says, beside what is read off this.
            title: Of the curves, what was learnt.
        """
        self.model.save(run.file("model.keras"))
        run.write_task(TrainedFor(Classification(), self.data.prepare, self.data.outputs, 0))
        self.plan.save(run.file("plan.json"))
        run.write_json("config.json", {**settings, "schedule": self.thaws, "history": self.history})
        draw_curves(
            self.history,
            run.file("curves.png"),
            metric="accuracy",
            thaws=self.thaws,
            title=f"{title}, {len(self.data.train)} labels, first seed",
        )


def accuracies(scores: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Any]]:
    """From each way to learn to its accuracies, one a seed, their mean and their deviation.

    Example:
        >>> accuracies({"by hand": [0.5, 1.0]})
        {'by hand': {'mean': 0.75, 'std': 0.25, 'each': [0.5, 1.0]}}
    """
    return {
        name: {"mean": float(np.mean(each)), "std": float(np.std(each)), "each": each}
        for name, each in scores.items()
    }
