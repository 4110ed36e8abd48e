"""How good answers are: each measure once, for a score and for the resamples of its interval.

A measure takes `counts`, `(draws, n)`, how often each example is in each resample, and gives one
value a resample: NaN where it is not defined. The score itself is that of one resample with every
example in it once.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kerastl._base import checks

FLAT = 1e-9  # of the sum of squares, below which what is left of a spread is rounding


@dataclasses.dataclass(frozen=True)
class Measure:
    """One way to count how good answers are.

    Attributes:
        name: String, for a person.
        is_share: Boolean, whether it lies in [0, 1] and is shown in percent.
        of: Function of scores, targets and `counts`; gives an array `(draws,)`.
    """

    name: str
    is_share: bool
    of: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def measure_named(metric: str | None, known: Mapping[str, Measure], objective: str) -> str:
    """`metric` if it is one of `known`, whose first is what None means.

    Raises:
        ValueError: If it is none of this objective.

    Example:
        >>> measure_named(None, {"accuracy": None, "auc": None}, "classification")
        'accuracy'
    """
    if metric is None:
        return next(iter(known))
    if metric not in known:
        raise ValueError(
            f"`metric` (--metric) must be {checks.listed(known)} where the data are for "
            f"{objective}. Received: metric={metric!r}"
        )
    return metric


def value_of(measure: Measure, scores: np.ndarray, targets: np.ndarray) -> float | None:
    """The measure of all examples, each once; None where it is not defined."""
    (value,) = measure.of(scores, targets, np.ones((1, len(targets)), np.int64))
    return float(value) if np.isfinite(value) else None


def told(value: float | None, *, is_share: bool) -> str:
    """A measure as text: in percent where it is a share, a dash where it is not defined.

    Example:
        >>> told(0.8333, is_share=True), told(-0.2, is_share=False), told(None, is_share=True)
        ('83.3 %', '-0.200', '-')
    """
    if value is None:
        return "-"
    return f"{100 * value:.1f} %" if is_share else f"{value:.3f}"


def rows_of(known: Mapping[str, Measure], metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """`(name, value)` of each of `known` that `metrics` of a run have."""
    return [
        (measure.name, told(metrics[key], is_share=measure.is_share))
        for key, measure in known.items()
        if key in metrics
    ]


def accuracy(shares: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The share of right answers, the most probable class being the answer."""
    right = shares.argmax(axis=1) == labels
    return _over(counts @ right, counts.sum(axis=1))


def macro_f1(shares: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The mean of F1 over the classes that are there or that are answered."""
    return f1_of(*_sums(shares, labels, counts))


def matthews(shares: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The correlation of classes and answers, in [-1, 1]; see `matthews_of`."""
    return matthews_of(*_sums(shares, labels, counts))


def auc(shares: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """How often an example of a class has a larger share of it than one of another class.

    The mean over the classes, each against all others, of which there are examples; of two classes
    both say the same. Not defined where only one class is there.

    References:
        Hanley & McNeil, 1982, https://doi.org/10.1148/radiology.143.1.7063747
    """
    classes = range(shares.shape[1])
    return _mean([_auc_of(shares[:, i], labels == i, counts) for i in classes])


def f1_of(right: np.ndarray, there: np.ndarray, said: np.ndarray) -> np.ndarray:
    """The mean of `2 · right / (there + said)`, of arrays `(draws, classes)`, where it is defined.

    References:
        scikit-learn's `f1_score(average="macro")`.
    """
    return _mean(_over(2.0 * right, there + said).T)


def matthews_of(right: np.ndarray, there: np.ndarray, said: np.ndarray) -> np.ndarray:
    """Matthews' correlation of several classes, of arrays `(draws, classes)`.

    Not defined where all examples are of one class; 0 where all answers are.

    References:
        Gorodkin, 2004, equation 8 (R_K), https://doi.org/10.1016/j.compbiolchem.2004.09.006
    """
    size = there.sum(axis=1)
    spread = size**2 - np.square(there).sum(axis=1)
    answered = size**2 - np.square(said).sum(axis=1)
    together = right.sum(axis=1) * size - (there * said).sum(axis=1)
    return _correlation(together, spread, answered)


def label_f1(shares: np.ndarray, there: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The mean over labels of F1 at a threshold of 1/2; 1 of one that is neither there nor said."""
    said, counts = shares > 0.5, counts.astype(float)
    right, of_label = counts @ (said & there), counts @ there + counts @ said
    return np.where(of_label > 0, _over(2.0 * right, of_label), 1.0).mean(axis=1)


def average_precision(shares: np.ndarray, there: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The mean of the average precisions of the labels that are there."""
    labels = range(there.shape[1])
    return _mean([_precision_of(shares[:, i], there[:, i], counts) for i in labels])


def r2(given: np.ndarray, true: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """1 minus the mean squared error over the variance of the true numbers."""
    errors = np.square(given - true)
    true = true - true.mean()  # the same spread, and no digits are lost to a large mean
    squares = counts @ np.square(true)
    spread = squares - np.square(counts @ true) / np.maximum(counts.sum(axis=1), 1)
    differ = spread > FLAT * squares  # what rounding leaves of one value is no spread
    return 1 - np.divide(counts @ errors, spread, where=differ, out=spread * np.nan)


def pearson(given: np.ndarray, true: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The linear correlation. Not defined where all true numbers are one; 0 where all given are."""
    return _pearson(given - given.mean(), true - true.mean(), counts)


def spearman(given: np.ndarray, true: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The correlation of the ranks, equal numbers having the mean of theirs.

    References:
        Spearman, 1904, https://doi.org/10.2307/1412159
    """
    return _pearson(_ranks(given, counts), _ranks(true, counts), counts)


CLASSES = {
    "accuracy": Measure("accuracy", True, accuracy),
    "macro_f1": Measure("macro F1", True, macro_f1),
    "matthews": Measure("Matthews correlation", False, matthews),
    "auc": Measure("AUC", True, auc),
}
LABELS = {
    "mean_average_precision": Measure("mean average precision", True, average_precision),
    "macro_f1": Measure("macro F1", True, label_f1),
}
NUMBERS = {
    "r2": Measure("R²", False, r2),
    "spearman": Measure("Spearman correlation", False, spearman),
    "pearson": Measure("Pearson correlation", False, pearson),
}


def _over(part, whole):
    """`part / whole`, NaN where `whole` is 0."""
    out = np.full(np.shape(whole), np.nan)
    return np.divide(part, whole, where=np.asarray(whole) > 0, out=out)


def _mean(each) -> np.ndarray:
    """The mean over the first axis of what is defined; NaN where nothing is."""
    each = np.asarray(each)
    known = np.isfinite(each)
    return _over(np.where(known, each, 0.0).sum(axis=0), known.sum(axis=0))


def _sums(shares, labels, counts):
    """Of each class in each resample: how many are found, are there and are answered."""
    classes, counts = np.arange(shares.shape[1]), counts.astype(float)
    is_there = labels[:, None] == classes
    is_said = shares.argmax(axis=1)[:, None] == classes
    return counts @ (is_there & is_said), counts @ is_there, counts @ is_said


def _ends(ordered):
    """Where runs of equal values end in a sorted array."""
    return np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)


def _auc_of(scores, there, counts):
    order = np.argsort(scores, kind="stable")
    ends, in_order = _ends(scores[order]), counts[:, order]
    found = np.cumsum(in_order * there[order], axis=1)[:, ends].astype(float)
    others = np.cumsum(in_order, axis=1)[:, ends] - found
    rises, equal = (np.diff(one, axis=1, prepend=0) for one in (found, others))
    beaten = (rises * (others - equal / 2)).sum(axis=1)  # of equals one half
    return _over(beaten, found[:, -1] * others[:, -1])


def _precision_of(scores, there, counts):
    """Average precision of one label in each resample, NaN where none of its examples has it.

    As scikit-learn's: the sum over the thresholds of the precision times what recall rises there.
    """
    order = np.argsort(-scores, kind="stable")
    ends, in_order = _ends(scores[order]), counts[:, order]  # equals fall together
    right = np.cumsum(in_order * there[order], axis=1)[:, ends].astype(float)
    said = np.cumsum(in_order, axis=1)[:, ends]
    rises = np.diff(right, axis=1, prepend=0)
    return _over((rises * (right / np.maximum(said, 1))).sum(axis=1), right[:, -1])


def _ranks(values, counts):
    """The rank of each value in each resample, `(draws, n)`."""
    order = np.argsort(values, kind="stable")
    ends = _ends(values[order])
    below = np.cumsum(counts[:, order], axis=1)[:, ends]
    equal = np.diff(below, axis=1, prepend=0)
    run = np.searchsorted(ends, np.arange(len(values)))
    ranks = np.empty(counts.shape)
    ranks[:, order] = (below - (equal - 1) / 2)[:, run]
    return ranks


def _pearson(given, true, counts):
    size = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    parts, spreads = [], []
    for values in np.broadcast_arrays(given, true, counts)[:2]:
        away = values - (counts * values).sum(axis=1, keepdims=True) / size
        spread = (counts * np.square(away)).sum(axis=1)
        flat = spread <= FLAT * (counts * np.square(values)).sum(axis=1)
        parts.append(away)
        spreads.append(np.where(flat, 0.0, spread))
    return _correlation((counts * parts[0] * parts[1]).sum(axis=1), spreads[1], spreads[0])


def _correlation(together, of_true, of_given):
    """NaN where what is so does not vary; 0 where only the answers do not."""
    both = np.sqrt(of_true.astype(float)) * np.sqrt(of_given.astype(float))
    return np.where(of_true > 0, np.nan_to_num(_over(together, both), nan=0.0), np.nan)
