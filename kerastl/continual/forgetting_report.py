"""What a model still knows of each task after each other one."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kerastl._base import checks
from kerastl._base.text_table import in_columns


@dataclasses.dataclass(frozen=True)
class ForgettingReport:
    """Accuracies of tasks learnt one after another; printed, it is a table of them in percent.

    Attributes:
        tasks: Tuple of the names of the tasks, in the order in which they were learnt.
        accuracies: Tuple of rows: `accuracies[i][j]` is the accuracy in [0, 1] on task `j` after
            the first `i + 1` tasks were learnt. So far as they were.
    """

    tasks: tuple[str, ...]
    accuracies: tuple[tuple[float, ...], ...] = ()

    @property
    def accuracy(self) -> float | None:
        """Mean of the latest accuracies on the tasks learnt so far; None before the first."""
        done = len(self.accuracies)
        return float(np.mean(self.accuracies[-1][:done])) if done else None

    @property
    def backward_transfer(self) -> float | None:
        """Mean over earlier tasks `i` of `A[T, i] - A[i, i]`; below 0 where they were forgotten.

        None before the second task is learnt.
        """
        changes = [self.accuracies[-1][i] - self.accuracies[i][i] for i in self._earlier]
        return float(np.mean(changes)) if changes else None

    @property
    def forgetting(self) -> float | None:
        """Mean over earlier tasks `i` of `max_t A[t, i] - A[T, i]`, `t` from `i` on; at least 0.

        None before the second task is learnt.
        """
        lost = [
            max(row[i] for row in self.accuracies[i:]) - self.accuracies[-1][i]
            for i in self._earlier
        ]
        return float(np.mean(lost)) if lost else None

    @property
    def _earlier(self):
        return range(max(0, len(self.accuracies) - 1))

    def with_row(self, accuracies: Any) -> "ForgettingReport":
        """This report and the accuracies on all tasks after one more of them.

        Args:
            accuracies: Floats in [0, 1], one a task.

        Raises:
            ValueError: If they are not as many, or all tasks were learnt.
        """
        row = tuple(float(value) for value in accuracies)
        if len(row) != len(self.tasks) or not all(0 <= value <= 1 for value in row):
            raise ValueError(
                f"`accuracies` must be {len(self.tasks)} numbers in [0, 1], one a task. "
                f"Received: {row}"
            )
        if len(self.accuracies) == len(self.tasks):
            raise ValueError(
                f"There is one row for each of {len(self.tasks)} tasks, and all were learnt. "
                "Begin another report."
            )
        return dataclasses.replace(self, accuracies=(*self.accuracies, row))

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON-able values, for `metrics.json` or a figure."""
        return {
            "tasks": list(self.tasks),
            "accuracies": [list(row) for row in self.accuracies],
            "accuracy": self.accuracy,
            "backward_transfer": self.backward_transfer,
            "forgetting": self.forgetting,
        }

    def __str__(self) -> str:
        rows = [("after", *self.tasks)]
        for name, row in zip(self.tasks, self.accuracies, strict=False):
            rows.append((name, *(f"{100 * value:.1f}" for value in row)))
        lines = [in_columns(rows, right=range(1, len(self.tasks) + 1))]
        if self.forgetting is not None and self.backward_transfer is not None:
            lines.append(
                f"backward transfer {100 * self.backward_transfer:+.1f}, "
                f"forgetting {100 * self.forgetting:.1f}, in points"
            )
        return "\n".join(lines)


def forgetting_report(
    model: keras.Model, tasks: Mapping[str, Any], before: ForgettingReport | None = None
) -> ForgettingReport:
    """Measure a model on all tasks after it has learnt one more of them.

    Call it after each task, with the report of the call before. Accuracies are measured on the
    data that it is given; give it data that were not trained on.

    Args:
        model: `keras.Model` whose one output has a score for each class, `(batch, classes)`, or
            for class 1 of two, `(batch, 1)`, as a probability.
        tasks: Dict from the name of each task, in the order in which they are learnt, to its data:
            `(x, y)` as arrays or a dataset of batches `(x, y)`, with labels as indices or one-hot
            rows. Where tasks have heads of their own, a value may be `(model, data)` with the
            model of that head.
        before: `ForgettingReport` of the call after the task before; None after the first.

    Returns:
        `ForgettingReport`, with one row more than `before`.

    Raises:
        ValueError: If `tasks` are not those of `before`, all were learnt, or labels have another
            number than answers.

    Example:
        >>> inputs = keras.Input((1,))
        >>> dense = keras.layers.Dense(1, activation="sigmoid", kernel_initializer="ones")
        >>> model = keras.Model(inputs, dense(inputs))
        >>> x = np.float32([[-1], [1]])
        >>> tasks = {"sign": (x, np.array([0, 1])), "other": (x, np.array([1, 1]))}
        >>> report = forgetting_report(model, tasks)
        >>> model.set_weights([-weight for weight in model.get_weights()])
        >>> print(forgetting_report(model, tasks, report))
        after   sign  other
        sign   100.0   50.0
        other    0.0   50.0
        backward transfer -100.0, forgetting 100.0, in points

    References:
        Lopez-Paz & Ranzato, 2017, equation 3 (backward transfer), https://arxiv.org/abs/1706.08840
        Chaudhry et al., 2018, equation 3 (forgetting), https://arxiv.org/abs/1801.10112. There the
        maximum leaves out the last task, so that forgetting can be negative.
    """
    if not tasks:
        raise ValueError("`tasks` must name one at least. Received: none")
    before = ForgettingReport(tuple(tasks)) if before is None else before
    if before.tasks != tuple(tasks):
        raise ValueError(
            "`tasks` must be those of the report before, in their order. Received: "
            f"{checks.listed(tasks)}; before: {checks.listed(before.tasks)}"
        )
    return before.with_row(_accuracy(model, data, name) for name, data in tasks.items())


def _accuracy(model, data, name):
    if isinstance(data, tuple) and isinstance(data[0], keras.Model):
        model, data = data
    right = count = 0
    for x, y in [data] if isinstance(data, tuple) else data:
        answers = _classes(np.asarray(model.predict(x, verbose=0)), 0.5)
        labels = _classes(np.asarray(y), 0.5)
        if answers.shape != labels.shape:
            raise ValueError(
                "There must be one label for each answer, (batch,) or one-hot. Received: labels of "
                f"shape {np.shape(y)} for {len(answers)} answers in the task {name!r}"
            )
        right, count = right + int((answers == labels).sum()), count + len(labels)
    if not count:
        raise ValueError(f"A task must have examples. Received: none in the task {name!r}")
    return right / count


def _classes(scores, threshold):
    """Indices `(batch,)` of scores by class, of the score of class 1, or of indices as they are."""
    if scores.ndim == 2 and scores.shape[1] > 1:
        return scores.argmax(axis=1)
    flat = scores.reshape(len(scores)) if scores.ndim == 2 else scores
    return (flat > threshold).astype("int64") if flat.dtype.kind == "f" else flat
