"""`MultiLabel`: any number of labels an example."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kerastl.export.answers import Answers
from kerastl.tasks.answering import outputs_of
from kerastl.tasks.classification import SHOWN, check_count
from kerastl.tasks.measures import LABELS, measure_named, rows_of, value_of
from kerastl.tasks.protocols import Judgement, TaskData

PROBABILITIES = Answers("labels", logits=False)
THRESHOLD = 0.5  # of a probability, from which on a label is said to be there


class MultiLabel:
    """Any number of labels an example; the model gives each label a probability of its own.

    Args:
        reads: `export.answers.Answers`, how to read a model that gives logits. What this objective
            trains gives probabilities.
        scored_by: `"mean_average_precision"` or `"macro_f1"`, what the score is; None for the
            former.
    """

    name = "multi_label"
    score_name = "mean average precision"
    cost_name: str | None = None
    metric = "label_accuracy"
    is_share = True
    solves = True
    outputs_of = staticmethod(outputs_of)

    def __init__(self, reads: Answers = PROBABILITIES, scored_by: str | None = None) -> None:
        self.reads = reads
        self.scored_by = measure_named(scored_by, LABELS, self.name)
        self._measure = LABELS[self.scored_by]
        self.score_name, self.is_share = self._measure.name, self._measure.is_share

    def by(self, metric: str | None) -> "MultiLabel":
        return MultiLabel(self.reads, metric)

    def check_data(self, data: TaskData) -> None:
        """Refuse examples to train on or to measure on of which none has a label."""
        for name, part in (("train on", data.train), ("measure on", data.test)):
            if not (np.asarray(part.targets) > THRESHOLD).any():
                raise ValueError(
                    f"Of the examples to {name}, one at least must have a label. Received: "
                    f"{len(part)} without any. Give more examples, or say in a column `split` "
                    "which are for what."
                )

    def head(self, features: keras.KerasTensor, data: TaskData) -> keras.KerasTensor:
        """A sigmoid a label, which starts at zero: every label has probability 1/2."""
        layer = keras.layers.Dense(
            len(data.outputs),
            activation="sigmoid",
            kernel_initializer="zeros",
            dtype="float32",
            name="predictions",
        )
        return layer(features)

    def compile_args(self, data: TaskData, settings: Any) -> dict[str, Any]:
        """Binary cross-entropy, the mean over the labels."""
        metric = keras.metrics.BinaryAccuracy(name=self.metric, threshold=THRESHOLD)
        return {"loss": keras.losses.BinaryCrossentropy(), "metrics": [metric]}

    def class_weight(self, data: TaskData) -> dict[int, float] | None:
        return None

    def judge(self, outputs: np.ndarray, targets: np.ndarray, names: Sequence[str]) -> Judgement:
        """Average precision of each label, and how often its decisions at 1/2 are right.

        Args:
            outputs: Float array of shape `(n, num_labels)` in [0, 1]; or of what `reads` says.
            targets: Array of the same shape, 1 where the label is there.
            names: The `num_labels` names.

        Returns:
            `Judgement`. `mean_average_precision` is the mean of the average precisions of the
            labels that are there at all; `exact` is the share of examples with all labels right,
            `macro_f1` the mean over the labels of F1 at a threshold of 1/2.

        Raises:
            ValueError: If shapes differ, or no label is there.

        Example:
            >>> said = MultiLabel().judge([[0.9, 0.2], [0.1, 0.8]], [[1, 0], [0, 1]], ["a", "b"])
            >>> said.score, said.details["exact"]
            (1.0, 1.0)
        """
        scores, there = self.reads.probabilities(outputs), np.asarray(targets) > THRESHOLD
        if scores.ndim != 2 or scores.shape != there.shape or scores.shape[1] != len(names):
            raise ValueError(
                "`outputs` must have the shape (n, num_labels). Received: shape "
                f"{scores.shape} for targets of shape {there.shape} and {len(names)} labels"
            )
        per_label = {name: _of_label(scores[:, i], there[:, i]) for i, name in enumerate(names)}
        said = scores > THRESHOLD
        near = np.clip(scores, 1e-7, 1 - 1e-7)
        loss = float(-np.where(there, np.log(near), np.log(1 - near)).mean())
        details = {
            "mean_average_precision": _mean_average_precision(scores, there),
            "loss": loss,
            "exact": float((said == there).all(axis=1).mean()),
            "label_accuracy": float((said == there).mean()),
            "macro_f1": float(np.mean([label["f1"] for label in per_label.values()])),
            "per_label": per_label,
            "num_examples": len(there),
        }
        return Judgement(details[self.scored_by], loss, details)

    def score(self, outputs: np.ndarray, targets: np.ndarray) -> float:
        scores, there = self.reads.probabilities(outputs), np.asarray(targets) > THRESHOLD
        if self.scored_by == "mean_average_precision":
            return _mean_average_precision(scores, there)
        value: Any = value_of(self._measure, scores, there)  # F1 is defined of any answers
        return value

    def hits(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray | None:
        """None: neither score is a mean over examples."""

    def scores(self, outputs: np.ndarray, targets: np.ndarray, counts: np.ndarray) -> np.ndarray:
        scores, there = self.reads.probabilities(outputs), np.asarray(targets) > THRESHOLD
        return self._measure.of(scores, there, counts)

    def agreement(self, ours: np.ndarray, theirs: np.ndarray) -> float | None:
        """The share of all decisions at 1/2 that are the same."""
        return self.reads.agreement(ours, theirs)

    def companions(self, names: Sequence[str]) -> dict[str, str]:
        return {"labels.txt": "".join(f"{name}\n" for name in names)}

    def num_names(self, output_shape: Any) -> int:
        return output_shape[-1]

    def names_inside(self, names: Sequence[str]) -> tuple[str, ...] | None:
        return tuple(names)

    def check_model(
        self, path: pathlib.Path, output_shape: Any, names: Sequence[str] | None = None
    ) -> None:
        if not isinstance(output_shape, tuple) or len(output_shape) != 2:
            raise ValueError(
                "The model must give one probability a label, (batch, labels). "
                f"Received: {path} with output shape {output_shape}"
            )
        check_count(path, output_shape[1], names)

    def check_outputs(self, path: pathlib.Path, outputs: np.ndarray) -> None:
        if (outputs < 0).any() or (outputs > 1).any():
            raise ValueError(
                f"The model must give one probability a label. {path} gives scores outside [0, 1]. "
                "Put a sigmoid behind its last layer."
            )

    def aligned(
        self, targets: np.ndarray, given: Sequence[str], known: Sequence[str]
    ) -> np.ndarray:
        """Columns for the labels `given` as columns for the labels `known`."""
        columns = np.zeros((len(targets), len(known)), np.float32)
        columns[:, [list(known).index(name) for name in given]] = targets
        return columns

    def answer(self, output: np.ndarray, names: Sequence[str], top: int) -> dict[str, Any]:
        """All labels from a probability of 1/2 on, best first; the `top` best stand in `top`."""
        shares = self.reads.probabilities(output[None])[0]
        order = np.argsort(-shares, kind="stable")
        said = [{"label": names[i], "probability": float(shares[i])} for i in order]
        return {
            "labels": [one["label"] for one in said if one["probability"] >= THRESHOLD],
            "top": said[:top],
        }

    def sentence(self, answer: Mapping[str, Any]) -> str:
        labels = ", ".join(answer["labels"]) or "no label"
        best = "  ".join(f"{c['label']} {100 * c['probability']:.1f} %" for c in answer["top"])
        return f"{labels}  ({best})"

    def tables(self, metrics: Mapping[str, Any]) -> list[tuple[str, tuple[str, ...], list[Any]]]:
        worst = sorted(metrics["per_label"].items(), key=lambda item: item[1]["f1"])
        rows = [
            (name, _percent(said["average_precision"]), f"{said['f1']:.2f}", said["num_examples"])
            for name, said in worst[:SHOWN]
        ]
        header = ("label", "average precision", "F1", "examples")
        return [
            ("By each measure", ("", ""), rows_of(LABELS, metrics)),
            ("Labels, hardest first", header, rows),
        ]


def _of_label(scores, there):
    """What is said of one label, from a vector of scores and one of booleans."""
    from sklearn.metrics import average_precision_score

    said = scores > THRESHOLD
    right = float((said & there).sum())
    wrong = float((said != there).sum())
    return {
        "average_precision": float(average_precision_score(there, scores)) if there.any() else None,
        "f1": 2 * right / (2 * right + wrong) if right + wrong else 1.0,
        "num_examples": int(there.sum()),
    }


def _mean_average_precision(scores, there):
    from sklearn.metrics import average_precision_score

    known = there.any(axis=0)
    if not known.any():
        raise ValueError(
            "To measure, at least one of the examples must have a label. Received: none has"
        )
    return float(average_precision_score(there[:, known], scores[:, known], average="macro"))


def _percent(share):
    return "-" if share is None else f"{100 * share:.1f} %"
