"""Linear regressions on scaled features, with the scaling folded into their weights.

Each is scikit-learn's, with an L2 penalty on the kernel alone: the mean loss of the rows, and
`|kernel|² / (2 · strength · n)` of `n` rows. `strength` is scikit-learn's `C`; a large one is a
weak penalty.

A feature is centred and divided by `√(σ² + (softening · s)²)`, with `σ` its standard deviation and
`s` the root mean square of those of all features. Softening 0 is plain standardization. That gives
a feature that hardly ever acts weights as large as it is small, through which the network below
trembles as soon as it trains. At 1 the kernel is up to a tenth as large, and the loss of rows held
out was lower on three of four sets (docs/measured.md).
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

SOFTENING = 1.0
CONSTANT = 1e-5  # of its mean, below which the spread of a float32 feature is rounding
LEAST = 1e-12  # a probability whose logarithm is taken
ROUNDING = 2.0**-24  # how much a probability of float32 that is called 1 may lack
NEVER = -30.0  # the score of a class of which there is no example


@dataclasses.dataclass(frozen=True, eq=False)
class Linear:
    """Scores `x @ kernel + bias` of features as they are.

    Attributes:
        kernel: float64 array of shape `(num_features, num_outputs)`.
        bias: float64 array of shape `(num_outputs,)`.
    """

    kernel: np.ndarray
    bias: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Scores of shape `(n, num_outputs)`."""
        return np.asarray(features, np.float64) @ self.kernel + self.bias


class Regression(Protocol):
    """What a head that answers in one way is solved by."""

    stratified: bool  # whether targets are classes, of which each fold gets its share
    sure: bool  # whether answers are more or less sure, and scores may be divided by a temperature

    def targets(self, targets: np.ndarray) -> np.ndarray:
        """Targets of the data as `fits` and `losses` take them."""
        ...

    def fits(
        self, rows: "Weighted", strengths: Iterable[float], tolerance: float
    ) -> Iterator[Linear]:
        """A `Linear` for each of `strengths`, one after the other, each begun at the one before."""
        ...

    def outputs(self, scores: np.ndarray) -> np.ndarray:
        """Outputs of the model of the scores of its last Dense."""
        ...

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        """Scores that give these outputs: the other way round than `outputs`."""
        ...

    def losses(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """The loss of each row, of shape `(n,)`."""
        ...


class Classes:
    """Multinomial logistic regression: one of `num_classes` a row.

    Args:
        num_classes: Int > 1. Targets are class indices or one-hot rows.
        from_logits: Boolean, whether the model gives scores and not probabilities.
    """

    stratified, sure = True, True

    def __init__(self, num_classes: int, from_logits: bool = False) -> None:
        self.num_classes, self.from_logits = num_classes, from_logits

    def targets(self, targets: np.ndarray) -> np.ndarray:
        targets = np.asarray(targets)
        if targets.shape[1:] == (self.num_classes,):
            targets = targets.argmax(axis=1)
        targets = targets.reshape(len(targets)).astype(np.int64)
        if targets.size and not (targets.min() >= 0 and targets.max() < self.num_classes):
            raise ValueError(
                f"Targets must be class indices from 0 to {self.num_classes - 1}, because the head "
                f"has {self.num_classes} outputs. Received: {targets.min()} to {targets.max()}"
            )
        return targets

    def fits(
        self, rows: "Weighted", strengths: Iterable[float], tolerance: float
    ) -> Iterator[Linear]:
        scaled, there = rows.scaled, np.unique(rows.targets)
        fit = _logistic(rows, rows.targets, tolerance)
        for strength in strengths:
            kernel = np.zeros((scaled.values.shape[1], self.num_classes))
            bias = np.full(self.num_classes, NEVER)
            if len(there) == 1:
                bias[there] = 0.0
            else:
                model = fit(strength)
                found = model.coef_.T, model.intercept_
                if len(there) == 2:  # one score of two classes, halved between them
                    found = (np.hstack([-found[0], found[0]]) / 2, np.array([-1, 1]) * found[1] / 2)
                kernel[:, there], bias[there] = found
            yield scaled.folded(kernel, bias)

    def outputs(self, scores: np.ndarray) -> np.ndarray:
        return scores if self.from_logits else _softmax(scores)

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        return outputs if self.from_logits else np.log(np.maximum(outputs, LEAST))

    def losses(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        shares = _softmax(outputs) if self.from_logits else outputs
        return -np.log(np.maximum(shares[np.arange(len(targets)), targets], LEAST))


class Labels:
    """A logistic regression a label, any number of which a row may have.

    Args:
        num_labels: Int > 0. Targets are rows of 0 and 1.
        from_logits: As in `Classes`.
    """

    stratified, sure = False, True

    def __init__(self, num_labels: int, from_logits: bool = False) -> None:
        self.num_labels, self.from_logits = num_labels, from_logits

    def targets(self, targets: np.ndarray) -> np.ndarray:
        targets = np.asarray(targets)
        return (targets.reshape(len(targets), self.num_labels) > 0.5).astype(np.int64)

    def fits(
        self, rows: "Weighted", strengths: Iterable[float], tolerance: float
    ) -> Iterator[Linear]:
        scaled, targets = rows.scaled, rows.targets
        each = [_logistic(rows, column, tolerance) for column in targets.T]
        ever = [0 < column.mean() < 1 for column in targets.T]
        for strength in strengths:
            models = [
                fit(strength) if mixed else None for fit, mixed in zip(each, ever, strict=True)
            ]
            kernel = np.zeros((scaled.values.shape[1], self.num_labels))
            bias = np.where(targets[0] > 0, -NEVER, NEVER)
            for i, model in enumerate(models):
                if model is not None:
                    kernel[:, i], bias[i] = model.coef_[0], model.intercept_[0]
            yield scaled.folded(kernel, bias)

    def outputs(self, scores: np.ndarray) -> np.ndarray:
        return scores if self.from_logits else _sigmoid(scores)

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        if self.from_logits:
            return outputs
        shares = np.clip(outputs, LEAST, 1 - ROUNDING)
        return np.log(shares) - np.log1p(-shares)

    def losses(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        shares = _sigmoid(outputs) if self.from_logits else outputs
        right = np.where(targets > 0, shares, 1 - shares)
        return -np.log(np.maximum(right, LEAST)).mean(axis=1)


class Numbers:
    """Ridge regression of numbers, with a penalty of `1 / strength`.

    Args:
        num_numbers: Int > 0.
        scale: Float or array, and `offset`: the model gives `scores * scale + offset`.
        offset: Float or array.
    """

    stratified, sure = False, False

    def __init__(self, num_numbers: int, scale: Any = 1.0, offset: Any = 0.0) -> None:
        self.num_numbers, self._scale, self._offset = num_numbers, scale, offset

    def targets(self, targets: np.ndarray) -> np.ndarray:
        targets = np.asarray(targets, np.float64)
        return targets.reshape(len(targets), self.num_numbers)

    def fits(
        self, rows: "Weighted", strengths: Iterable[float], tolerance: float
    ) -> Iterator[Linear]:
        from sklearn.linear_model import Ridge

        scaled, wanted = rows.scaled, (rows.targets - self._offset) / self._scale
        for strength in strengths:
            model = Ridge(1.0 / strength).fit(scaled.values, wanted, sample_weight=rows.weights)
            kernel = model.coef_.reshape(self.num_numbers, -1).T
            yield scaled.folded(kernel, np.reshape(model.intercept_, self.num_numbers))

    def outputs(self, scores: np.ndarray) -> np.ndarray:
        return scores * self._scale + self._offset

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        return (outputs - self._offset) / self._scale

    def losses(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return np.square((outputs - targets) / self._scale).mean(axis=1)


class Scaled:
    """Features centred and scaled, in as few columns as they have rows.

    The penalty is the same in all directions, so that of more features than rows only the space
    that the rows span is looked at. That changes no solution.

    Args:
        features: Array of shape `(n, num_features)`.
        softening: Float >= 0; 0 is plain standardization.

    Attributes:
        values: float64 array with a row for each of `features`.
    """

    def __init__(self, features: np.ndarray, softening: float = SOFTENING) -> None:
        features = np.asarray(features, np.float64)
        self._mean, deviation = features.mean(axis=0), features.std(axis=0)
        constant = deviation <= CONSTANT * np.abs(self._mean)
        deviation = np.where(constant, 0.0, deviation)
        least = softening * np.sqrt(np.mean(deviation**2))
        scale = np.sqrt(deviation**2 + least**2)
        self._scale = np.where(scale > 0, scale, 1.0)
        self.values = np.where(constant, 0.0, (features - self._mean) / self._scale)
        self._basis = None
        if self.values.shape[1] > self.values.shape[0]:
            self._basis, across = np.linalg.qr(self.values.T)
            self.values = np.ascontiguousarray(across.T)

    def folded(self, kernel: np.ndarray, bias: np.ndarray) -> Linear:
        """`Linear` on the features as they are, of one on `values`."""
        wide = kernel if self._basis is None else self._basis @ kernel
        wide = wide / self._scale[:, None]
        return Linear(wide, bias - self._mean @ wide)


@dataclasses.dataclass(frozen=True, eq=False)
class Weighted:
    """Rows to fit on.

    Attributes:
        scaled: `Scaled`, their features.
        targets: As `Regression.targets` gives them.
        weights: Float array `(n,)`, how much the loss of each counts.
    """

    scaled: Scaled
    targets: np.ndarray
    weights: np.ndarray


def _logistic(rows, targets, tolerance):
    """Function from a strength to scikit-learn's regression, begun at what it last gave."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(warm_start=True, max_iter=10_000, tol=tolerance)

    def fit(strength):
        return model.set_params(C=strength).fit(
            rows.scaled.values, targets, sample_weight=rows.weights
        )

    return fit


def regression_strengths(low: float = 1e-4, high: float = 1e2, each: int = 2) -> Sequence[float]:
    """Strengths from the heaviest penalty to the lightest, so many a power of ten."""
    count = round(each * np.log10(high / low)) + 1
    return [float(strength) for strength in np.geomspace(low, high, count)]


def _softmax(scores):
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def _sigmoid(scores):
    return 0.5 * (1 + np.tanh(scores / 2))
