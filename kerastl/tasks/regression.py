"""`Regression`: a number an example."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kerastl.tasks.answering import check_numbers, outputs_of
from kerastl.tasks.measures import NUMBERS, measure_named, rows_of, value_of
from kerastl.tasks.protocols import Judgement, TaskData


class Regression:
    """A number an example, in its own units; the model gives one.

    Args:
        scored_by: `"r2"`, `"spearman"` or `"pearson"`, what the score is; None for R².
    """

    name = "regression"
    score_name = "R²"
    cost_name: str | None = None
    metric = "mean_absolute_error"
    is_share = False
    solves = True
    outputs_of = staticmethod(outputs_of)
    check_outputs = staticmethod(check_numbers)

    def __init__(self, scored_by: str | None = None) -> None:
        self.scored_by = measure_named(scored_by, NUMBERS, self.name)
        self._measure = NUMBERS[self.scored_by]
        self.score_name = self._measure.name

    def by(self, metric: str | None) -> "Regression":
        return Regression(metric)

    def check_data(self, data: TaskData) -> None:
        """Refuse examples to train on or to measure on that all have one value."""
        for name, part in (("train on", data.train), ("measure on", data.test)):
            values = np.unique(np.asarray(part.targets))
            if len(values) < 2:
                raise ValueError(
                    f"The examples to {name} must have different values. Received: {len(part)} "
                    f"of value {values[0] if len(values) else None}. Give more examples, or say "
                    "in a column `split` which are for what."
                )

    def head(self, features: keras.KerasTensor, data: TaskData) -> keras.KerasTensor:
        """A number that starts at the mean of the training values.

        A layer learns it in standard deviations from the mean, so that one learning rate suits
        grams and tons; another one, fixed, brings it into the units of the values.
        """
        mean, deviation = _spread(data.train.targets)
        layer = keras.layers.Dense(
            1, kernel_initializer="zeros", dtype="float32", name="predictions"
        )
        in_units = keras.layers.Rescaling(deviation, mean, dtype="float32", name="in_units")
        return in_units(layer(features))

    def compile_args(self, data: TaskData, settings: Any) -> dict[str, Any]:
        """The mean squared error, in units of the variance of the training values."""
        _, deviation = _spread(data.train.targets)
        return {
            "loss": keras.losses.MeanSquaredError(),
            "loss_weights": 1.0 / deviation**2,
            "metrics": [keras.metrics.MeanAbsoluteError(name=self.metric)],
        }

    def class_weight(self, data: TaskData) -> dict[int, float] | None:
        return None

    def judge(
        self, outputs: np.ndarray, targets: np.ndarray, names: Sequence[str] = ()
    ) -> Judgement:
        """How far numbers are from the true ones.

        Args:
            outputs: Float array of shape `(n, 1)` or `(n,)`.
            targets: Array of as many numbers.
            names: Not used.

        Returns:
            `Judgement`. `r2` is the share of the variance of `targets` that is explained: 1 for all
            right, 0 for as good as their mean, below 0 for worse. `spearman` is the correlation of
            ranks, `pearson` that of values; both are 0 where all outputs are the same. All three
            are None where all targets are. Errors are in the units of the values.

        Raises:
            ValueError: If the numbers of both differ, or there are none.

        Example:
            >>> said = Regression().judge([[1.0], [3.0]], [[1.0], [2.0]])
            >>> said.score, said.details["mean_absolute_error"]
            (-1.0, 0.5)
        """
        given, true = _numbers(outputs, targets)
        error = float(np.square(given - true).mean())
        details = {
            **{key: value_of(measure, given, true) for key, measure in NUMBERS.items()},
            "loss": error,
            "mean_absolute_error": float(np.abs(given - true).mean()),
            "root_mean_squared_error": float(np.sqrt(error)),
            "mean": float(true.mean()),
            "deviation": float(true.std()),
            "num_examples": len(true),
        }
        return Judgement(details[self.scored_by], error, details)

    def score(self, outputs: np.ndarray, targets: np.ndarray) -> float:
        given, true = _numbers(outputs, targets)
        value = value_of(self._measure, given, true)
        if value is None:
            raise ValueError(
                "To measure, the values must differ among the examples held out. "
                f"Received: {len(true)} values, all {true[0]}"
            )
        return value

    def hits(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray | None:
        """None: a number is not right or wrong."""

    def scores(self, outputs: np.ndarray, targets: np.ndarray, counts: np.ndarray) -> np.ndarray:
        return self._measure.of(*_numbers(outputs, targets), counts)

    def agreement(self, ours: np.ndarray, theirs: np.ndarray) -> float | None:
        """None: a number decides nothing."""

    def companions(self, names: Sequence[str]) -> dict[str, str]:
        return {}

    def num_names(self, output_shape: Any) -> int:
        return output_shape[-1]

    def names_inside(self, names: Sequence[str]) -> tuple[str, ...] | None:
        """None: a number needs no name."""

    def check_model(
        self, path: pathlib.Path, output_shape: Any, names: Sequence[str] | None = None
    ) -> None:
        if not isinstance(output_shape, tuple) or output_shape[1:] != (1,):
            raise ValueError(
                "The model must give one number, (batch, 1). "
                f"Received: {path} with output shape {output_shape}"
            )

    def aligned(
        self, targets: np.ndarray, given: Sequence[str], known: Sequence[str]
    ) -> np.ndarray:
        return targets

    def answer(self, output: np.ndarray, names: Sequence[str], top: int) -> dict[str, Any]:
        return {"value": float(output[0])}

    def sentence(self, answer: Mapping[str, Any]) -> str:
        return f"{answer['value']:.4g}"

    def tables(self, metrics: Mapping[str, Any]) -> list[tuple[str, tuple[str, ...], list[Any]]]:
        rows = [
            ("mean absolute error", f"{metrics['mean_absolute_error']:.4g}"),
            ("root mean squared error", f"{metrics['root_mean_squared_error']:.4g}"),
            ("values held out", f"{metrics['mean']:.4g} ± {metrics['deviation']:.4g}"),
        ]
        return [
            ("By each measure", ("", ""), rows_of(NUMBERS, metrics)),
            ("In the units of the values", ("", ""), rows),
        ]


def _numbers(outputs, targets):
    """Both as vectors of float64."""
    given = np.asarray(outputs, np.float64).reshape(-1)
    true = np.asarray(targets, np.float64).reshape(-1)
    if len(given) != len(true):
        raise ValueError(
            "`outputs` must be one number for each target. "
            f"Received: {len(given)} outputs for {len(true)} targets"
        )
    if not len(true):
        raise ValueError("`targets` must hold at least one number. Received: none")
    return given, true


def _spread(values):
    """Mean and standard deviation of the training values."""
    values = np.asarray(values, np.float64)
    mean, deviation = float(values.mean()), float(values.std())
    if not deviation > 0:
        raise ValueError(
            "The training examples must have different values to learn from. "
            f"Received: {len(values)} examples, all {mean:g}"
        )
    return mean, deviation
