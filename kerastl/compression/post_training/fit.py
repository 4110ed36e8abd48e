"""Least squares with zeros at given places."""

import numpy as np

from kerastl.compression.reads import TINY, steadied


class Fit:
    """Sums over places of what least squares needs.

    Args:
        width: Int, inputs.
        outputs: Int.
        constant: Boolean, whether a constant may be added to each output.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(500, 3))
        >>> x[:, 2] = x[:, 0]
        >>> fit = Fit(3, 1, constant=False)
        >>> fit.add(x, x @ [[1.0], [2.0], [3.0]])
        >>> kernel, _ = fit.solve(np.array([[True], [True], [False]]))
        >>> np.round(kernel.ravel(), 3)
        array([4., 2., 0.])
    """

    def __init__(self, width, outputs, *, constant):
        self._constant = constant
        size = width + constant
        self._moments = np.zeros((size, size))
        self._targets = np.zeros((size, outputs))
        self._energy = np.zeros(outputs)
        self._sums = np.zeros(outputs)
        self._rows = 0

    def add(self, rows, targets):
        """Add places: what is read there, `(n, width)`, and what is to be given, `(n, outputs)`."""
        rows = np.asarray(rows, "float64")
        if self._constant:
            rows = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
        targets = np.asarray(targets, "float64")
        self._moments += rows.T @ rows
        self._targets += rows.T @ targets
        self._energy += np.square(targets).sum(0)
        self._sums += targets.sum(0)
        self._rows += len(rows)

    def solve(self, keep):
        """The best kernel with zeros wherever `keep` is False, and what to add to each output.

        Args:
            keep: Boolean array `(width, outputs)`.

        Returns:
            Arrays of `(width, outputs)` and `(outputs,)`.
        """
        width = len(keep)
        moments = steadied(self._moments, width, self._rows)
        found = np.zeros_like(self._targets)
        for output in range(keep.shape[1]):
            used = np.append(np.flatnonzero(keep[:, output]), np.arange(width, len(moments)))
            if len(used):
                known = moments[np.ix_(used, used)]
                found[used, output] = np.linalg.solve(known, self._targets[used, output])
        shift = found[width] if self._constant else np.zeros(keep.shape[1])
        return found[:width], shift

    def error(self, kernel, shift=0.0):
        """Energy of the error of `kernel`, as a share of how much the outputs vary."""
        if self._constant:
            kernel = np.concatenate([kernel, np.broadcast_to(shift, (1, kernel.shape[1]))])
        cross = (kernel * self._targets).sum(0)
        given = (kernel * (self._moments @ kernel)).sum(0)
        left = np.maximum(self._energy - 2 * cross + given, 0.0).sum()
        varies = (self._energy - np.square(self._sums) / self._rows).sum()
        return float(left / max(varies, TINY**2))
