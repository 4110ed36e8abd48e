"""`Classification`: one class an example."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kerastl._base import checks
from kerastl.data import UNBALANCED, class_weights, imbalance
from kerastl.export.answers import Answers
from kerastl.tasks.answering import outputs_of
from kerastl.tasks.measures import (
    CLASSES,
    auc,
    f1_of,
    matthews_of,
    measure_named,
    rows_of,
    value_of,
)
from kerastl.tasks.protocols import Judgement, TaskData

PROBABILITIES = Answers("classes", logits=False)
SHOWN = 10  # classes in the table of a run


class Classification:
    """One of several classes an example; the model gives one probability a class.

    Args:
        reads: `export.answers.Answers`, how to read a model that gives logits, or one score of two
            classes. What this objective trains gives probabilities.
        scored_by: `"accuracy"`, `"macro_f1"`, `"matthews"` or `"auc"`, what the score is; None for
            the accuracy.
    """

    name = "classification"
    score_name = "accuracy"
    cost_name: str | None = None
    metric = "accuracy"
    is_share = True
    solves = True
    outputs_of = staticmethod(outputs_of)

    def __init__(self, reads: Answers = PROBABILITIES, scored_by: str | None = None) -> None:
        self.reads = reads
        self.scored_by = measure_named(scored_by, CLASSES, self.name)
        self._measure = CLASSES[self.scored_by]
        self.score_name, self.is_share = self._measure.name, self._measure.is_share

    def by(self, metric: str | None) -> "Classification":
        return Classification(self.reads, metric)

    def check_data(self, data: TaskData) -> None:
        """Refuse examples to measure on of one class, where the score needs two.

        Sources refuse classes without examples to train on.
        """
        there = np.unique(np.asarray(data.test.targets))
        if self.scored_by in ("matthews", "auc") and len(there) < 2:
            raise ValueError(
                f"The {self.score_name} (`metric`, --metric) needs two classes among the examples "
                f"to measure on. Received: {len(data.test)} of "
                f"{checks.listed([data.outputs[i] for i in there] or ['none'])}"
            )

    def head(self, features: keras.KerasTensor, data: TaskData) -> keras.KerasTensor:
        """A softmax over the classes.

        It starts at zero, so that it gives every class the same probability and nothing of a
        random start is left when it has few examples to learn from.
        """
        layer = keras.layers.Dense(
            len(data.outputs),
            activation="softmax",
            kernel_initializer="zeros",
            dtype="float32",
            name="predictions",
        )
        return layer(features)

    def compile_args(self, data: TaskData, settings: Any) -> dict[str, Any]:
        """Cross-entropy on smoothed labels."""
        loss = keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing)
        return {"loss": loss, "metrics": ["accuracy"]}

    def class_weight(self, data: TaskData) -> dict[int, float] | None:
        """Weights for the classes of `data.train` if they are far from even, else None."""
        labels = data.train.targets
        return class_weights(labels) if imbalance(labels) >= UNBALANCED else None

    def judge(self, outputs: np.ndarray, targets: np.ndarray, names: Sequence[str]) -> Judgement:
        """Accuracy, cross-entropy, recall of each class and the confusion matrix.

        Args:
            outputs: Float array of shape `(n, num_classes)`, rows sum to 1; or what `reads` says.
            targets: Int array of shape `(n,)`.
            names: The `num_classes` names.

        Returns:
            `Judgement`. `loss` is the mean of `-log p[label]` in nats; `confusion[i][j]` counts
            examples of class `i` that were taken for class `j`; `macro_f1`, `matthews` and `auc`
            are None where they are not defined, as of one class. So is a score that is one of them.

        Raises:
            ValueError: If there are no examples or the numbers of classes differ.

        Example:
            >>> said = Classification().judge([[0.9, 0.1], [0.4, 0.6]], [0, 0], ["cat", "dog"])
            >>> said.score, said.details["confusion"]
            (0.5, [[1, 1], [0, 0]])
        """
        probabilities = self.reads.probabilities(outputs)
        labels = np.asarray(targets)
        if probabilities.ndim != 2 or probabilities.shape != (len(labels), len(names)):
            raise ValueError(
                "`outputs` must have the shape (n, num_classes). Received: shape "
                f"{probabilities.shape} for {len(labels)} targets and {len(names)} classes"
            )
        if not len(labels):
            raise ValueError("`targets` must hold at least one example. Received: none")
        predicted = probabilities.argmax(axis=1)
        confusion = np.zeros((len(names), len(names)), int)
        np.add.at(confusion, (labels, predicted), 1)
        of_label = probabilities[np.arange(len(labels)), labels]
        right = float((predicted == labels).mean())
        loss = float(-np.log(np.maximum(of_label, 1e-12)).mean())
        details = {
            "accuracy": right,
            **_measured(confusion, probabilities, labels),
            "loss": loss,
            "per_class": _per_class(confusion, names),
            "confusion": confusion.tolist(),
            "num_examples": len(labels),
        }
        return Judgement(details[self.scored_by], loss, details)

    def score(self, outputs: np.ndarray, targets: np.ndarray) -> float:
        if self.scored_by == "accuracy":
            return self.reads.accuracy(outputs, targets)
        labels = np.asarray(targets)
        value = value_of(self._measure, self.reads.probabilities(outputs), labels)
        if value is None:
            raise ValueError(
                f"The {self.score_name} is defined where examples of two classes are measured. "
                f"Received: {len(labels)} examples of {len(np.unique(labels))} class"
            )
        return value

    def hits(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray | None:
        """Right or wrong, where the score is the share of right answers."""
        return self.reads.right(outputs, targets) if self.scored_by == "accuracy" else None

    def scores(self, outputs: np.ndarray, targets: np.ndarray, counts: np.ndarray) -> np.ndarray:
        if self.scored_by != "accuracy":
            shares = self.reads.probabilities(outputs)
            return self._measure.of(shares, np.asarray(targets), counts)
        right, size = counts @ self.reads.right(outputs, targets), counts.sum(axis=1)
        return np.divide(right, size, where=size > 0, out=np.full(len(size), np.nan))

    def agreement(self, ours: np.ndarray, theirs: np.ndarray) -> float | None:
        return self.reads.agreement(ours, theirs)

    def companions(self, names: Sequence[str]) -> dict[str, str]:
        return {"labels.txt": "".join(f"{name}\n" for name in names)}

    def num_names(self, output_shape: Any) -> int:
        return 2 if self.reads.kind == "either" else output_shape[-1]

    def names_inside(self, names: Sequence[str]) -> tuple[str, ...] | None:
        """None for one score of two classes: a file has one name for each score."""
        return None if self.reads.kind == "either" else tuple(names)

    def check_model(
        self, path: pathlib.Path, output_shape: Any, names: Sequence[str] | None = None
    ) -> None:
        rows = isinstance(output_shape, tuple) and len(output_shape) == 2
        if not rows or (output_shape[1] < 2 and self.reads.kind != "either"):
            raise ValueError(
                "The model must give one score for each of two classes or more, (batch, classes). "
                f"Received: {path} with output shape {output_shape}"
                + (_OF_ONE if rows and output_shape[1] == 1 else "")
            )
        check_count(path, self.num_names(output_shape), names)

    def check_outputs(self, path: pathlib.Path, outputs: np.ndarray) -> None:
        """Cross-entropy needs rows that sum to 1."""
        two = self.reads.kind == "either"
        if two or (outputs < 0).any() or not np.allclose(outputs.sum(axis=1), 1, atol=1e-2):
            raise ValueError(
                f"The model must give one probability for each class. {path} gives "
                + (
                    "one score of two classes. "
                    if two
                    else "scores that are negative or do not sum to 1. "
                )
                + "Put a softmax behind its last layer."
            )

    def aligned(
        self, targets: np.ndarray, given: Sequence[str], known: Sequence[str]
    ) -> np.ndarray:
        """Indices into `given` as indices into `known`, names of the same classes."""
        number = np.array([list(known).index(name) for name in given])
        return number[targets]

    def answer(self, output: np.ndarray, names: Sequence[str], top: int) -> dict[str, Any]:
        shares = self.reads.probabilities(output[None])[0]
        best = np.argsort(-shares, kind="stable")[:top]
        return {"top": [{"label": names[i], "probability": float(shares[i])} for i in best]}

    def sentence(self, answer: Mapping[str, Any]) -> str:
        return "  ".join(f"{c['label']} {100 * c['probability']:.1f} %" for c in answer["top"])

    def tables(self, metrics: Mapping[str, Any]) -> list[tuple[str, tuple[str, ...], list[Any]]]:
        known = [item for item in metrics["per_class"].items() if item[1]["recall"] is not None]
        worst = sorted(known, key=lambda item: item[1]["recall"])
        rows = [
            (name, f"{100 * said['recall']:.1f} %", said["num_examples"])
            for name, said in worst[:SHOWN]
        ]
        return [
            ("By each measure", ("", ""), rows_of(CLASSES, metrics)),
            ("Classes, hardest first", ("class", "found", "examples"), rows),
        ]


_OF_ONE = (
    ". One number is a score of two classes where a sigmoid is its last layer, where the model was "
    "compiled with such a loss before it was saved, or where a labels.txt of two lines lies beside."
)


def check_count(path: pathlib.Path, count: int, names: Sequence[str] | None) -> None:
    """Refuse a model with another number of outputs than there are names."""
    if names is not None and len(names) != count:
        raise ValueError(
            f"labels.txt beside {path} must have one line for each of the {count} "
            f"outputs of {path.name}. Received: {len(names)} lines: {checks.listed(names, 5)}"
        )


def _per_class(confusion, names):
    return {
        name: {
            "recall": float(confusion[i, i] / confusion[i].sum()) if confusion[i].any() else None,
            "num_examples": int(confusion[i].sum()),
        }
        for i, name in enumerate(names)
    }


def _measured(confusion, probabilities, labels):
    """The measures beside accuracy; of the first two the confusion matrix says all."""
    sums = [part[None] for part in (np.diag(confusion), confusion.sum(1), confusion.sum(0))]
    values = {"macro_f1": f1_of(*sums)[0], "matthews": matthews_of(*sums)[0]}
    values["auc"] = auc(probabilities, labels, np.ones((1, len(labels)), np.int64))[0]
    return {key: float(value) if np.isfinite(value) else None for key, value in values.items()}
