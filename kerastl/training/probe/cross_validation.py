"""The strength of a regression and whether augmented views help it, by cross-validation."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from kerastl.training.probe.regressions import (
    SOFTENING,
    Linear,
    Regression,
    Scaled,
    Weighted,
    regression_strengths,
)

FOLDS = 5
ROUGH, EXACT = 1e-4, 1e-10  # scikit-learn's `tol`, to choose a strength and to fit at it
PATIENCE = 2  # lighter penalties that are tried after one that was no better than the one before


@dataclasses.dataclass(frozen=True, eq=False)
class CrossValidated:
    """A regression on all rows at the strength that did best on rows held out.

    Attributes:
        linear: `Linear`, fitted on all rows.
        by_fold: Tuple of the `Linear` for each fold, fitted on all rows outside it.
        strength: Float > 0, scikit-learn's `C`.
        views: Int, of how many augmented views of each row it learnt besides the row itself.
        out_of_fold: float64 array `(n, num_outputs)`: what the model would give for each row, by
            a regression that had not seen it.
        losses: float64 array `(n,)` of these.
        half_losses: The same by regressions that saw half as many rows: the learning curve.
        half_out_of_fold: As `out_of_fold`, by those.
    """

    linear: Linear
    by_fold: tuple[Linear, ...]
    strength: float
    views: int
    out_of_fold: np.ndarray
    losses: np.ndarray
    half_out_of_fold: np.ndarray
    half_losses: np.ndarray


def folds_of(targets: np.ndarray, *, stratified: bool, seed: int, count: int = FOLDS) -> np.ndarray:
    """The fold of each row, an int array; no fold is larger than another by more than one row.

    Args:
        targets: Array with a row for each example: of classes, their indices.
        stratified: Boolean, whether each class is spread evenly over the folds.
        seed: Int.
        count: Int > 1, at most the number of rows.

    Example:
        >>> folds_of(np.array([0] * 4 + [1] * 2), stratified=True, seed=0, count=2).tolist()
        [0, 1, 1, 0, 1, 0]
    """
    rows = np.random.default_rng(seed).permutation(len(targets))
    if stratified:
        rows = rows[np.argsort(targets[rows], kind="stable")]
    fold = np.empty(len(targets), np.int64)
    fold[rows] = np.arange(len(targets)) % count
    return fold


def cross_validated(
    regression: Regression,
    views: Sequence[np.ndarray],
    targets: np.ndarray,
    weights: np.ndarray,
    *,
    folds: np.ndarray,
    softening: float = SOFTENING,
) -> CrossValidated:
    """Fit `regression`, with augmented views if rows held out say that they help.

    They do if the mean loss is lower with them by more than the standard error of the difference.

    Args:
        regression: `Regression`.
        views: Features of shape `(n, num_features)`: of the rows as they are, then of each
            augmented view of them, which shares the row's weight.
        targets: As `regression.targets` gives them.
        weights: Float array `(n,)`, how much the loss of each row counts.
        folds: The fold of each row, as `folds_of` gives it.
        softening: Float >= 0, of the scaling of features.
    """
    rows = _Rows(regression, views[:1], targets, weights, folds, softening)
    plain = rows.chosen()
    if len(views) == 1:
        return plain
    seen = dataclasses.replace(rows, views=views).chosen()
    gain = weights * (plain.losses - seen.losses)
    return seen if gain.mean() > gain.std() / np.sqrt(len(gain)) else plain


@dataclasses.dataclass(frozen=True, eq=False)
class _Rows:
    """What a regression is fitted on."""

    regression: Regression
    views: Sequence[np.ndarray]
    targets: np.ndarray
    weights: np.ndarray
    folds: np.ndarray
    softening: float

    def chosen(self) -> CrossValidated:
        strength, by_fold = self._best()
        out_of_fold = self._outputs(by_fold)
        half = self._outputs(self._by_half(strength))
        (linear,) = self._fits(np.ones(len(self.targets), bool), [strength], EXACT)
        losses = self.regression.losses
        return CrossValidated(
            linear,
            tuple(by_fold),
            strength,
            len(self.views) - 1,
            out_of_fold,
            losses(out_of_fold, self.targets),
            half,
            losses(half, self.targets),
        )

    def _fits(self, rows, strengths, tolerance=ROUGH):
        """Fits on some rows, a boolean array, and all views of them."""
        scaled = Scaled(np.concatenate([view[rows] for view in self.views]), self.softening)
        count = len(self.views)
        shared = np.tile(self.weights[rows] / count, count)
        weighted = Weighted(scaled, np.concatenate([self.targets[rows]] * count), shared)
        return self.regression.fits(weighted, strengths, tolerance)

    def _best(self):
        """The strength with the lowest loss on rows held out, and the fits of the folds at it."""
        strengths = regression_strengths()
        paths = [self._fits(~held, strengths) for held in self._held()]
        found, worse = [], 0
        for strength in strengths:
            by_fold = [next(path) for path in paths]
            losses = self.regression.losses(self._outputs(by_fold), self.targets)
            loss = float((self.weights * losses).mean())
            worse = worse + 1 if found and loss >= min(found, key=_loss_of)[0] else 0
            found.append((loss, strength, by_fold))
            if worse == PATIENCE:
                break
        _, strength, by_fold = min(found, key=_loss_of)
        return strength, by_fold

    def _by_half(self, strength):
        """For each fold a fit on every other row of the others."""
        fits = []
        for held in self._held():
            others, rows = np.flatnonzero(~held), np.zeros(len(held), bool)
            if self.regression.stratified:
                others = others[np.argsort(self.targets[others], kind="stable")]
            rows[others[::2]] = True
            fits += self._fits(rows, [strength])
        return fits

    def _held(self):
        return [self.folds == fold for fold in np.unique(self.folds)]

    def _outputs(self, by_fold):
        """Outputs for all rows, those of each fold by its `Linear`."""
        held = self._held()
        pairs = zip(held, by_fold, strict=True)
        scores = np.concatenate([linear(self.views[0][rows]) for rows, linear in pairs])
        rows = np.concatenate([np.flatnonzero(rows) for rows in held])
        return self.regression.outputs(scores[np.argsort(rows, kind="stable")])


def _loss_of(tried):
    return tried[0]
