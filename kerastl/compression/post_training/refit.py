"""The weights that stay in a layer, fitted to what the whole layer gave."""

import numpy as np
import tensorflow as tf

from kerastl.compression.post_training.fit import Fit
from kerastl.compression.post_training.report import PrunedLayer
from kerastl.compression.post_training.rows import rows_of, why_not_fitted
from kerastl.compression.post_training.two_runs import Originals
from kerastl.compression.sinks import norms_after, sink_of

PLACES = 8  # that a kernel is fitted to, about, for each of its inputs
FEWEST = 512  # of a batch, if it has so many


class Refit:
    """Fits the kernels of a layer before it runs; collects what the report says.

    Args:
        model: Flat functional `keras.Model`.
        masks: List of `Mask`, not applied yet.
        progress: As in `prune_weights`.

    Attributes:
        originals: `Originals` of all that changes: kernels, and what takes up constants.
    """

    def __init__(self, model, masks, progress):
        after = norms_after(model)
        self._masks, self._progress = masks, progress
        self._sinks = {
            id(mask): sink_of(mask.kernel.layer, after)
            for mask in masks
            if why_not_fitted(mask.kernel) is None
        }
        taking = [sink[0] for sink in self._sinks.values() if sink is not None]
        self.originals = Originals([*(mask.kernel.variable for mask in masks), *taking])
        self._found, self._rng = {}, np.random.default_rng(0)

    def __call__(self, layer, before, now):
        for mask in self._masks:
            if mask.kernel.layer is layer and id(mask) in self._sinks:
                self._found[id(mask)] = self._fitted(mask, before, now)
                if self._progress is not None:
                    self._progress(len(self._found), len(self._masks))

    def _fitted(self, mask, before, now):
        """The kernel of `mask` fitted; its errors before and after."""
        layer, variable = mask.kernel.layer, mask.kernel.variable
        sink = self._sinks[id(mask)]
        shape = tuple(variable.shape)
        as_it_was = self.originals[variable].reshape(-1, shape[-1])
        fit = Fit(*as_it_was.shape, constant=sink is not None)
        most = max(FEWEST, PLACES * len(as_it_was) // len(now))
        for old, new in zip(before, now, strict=True):
            rows, read_before = rows_of(layer, new), rows_of(layer, old)
            chosen = self._some_of(len(rows), most)
            fit.add(tf.gather(rows, chosen), tf.gather(read_before, chosen) @ as_it_was)
        keep = mask.keep.numpy().reshape(as_it_was.shape)
        masked = fit.error(np.where(keep, as_it_was, 0.0))
        if keep.all():
            return masked, masked
        kernel, shift = fit.solve(keep)
        variable.assign(np.where(keep, kernel, 0.0).reshape(shape))
        if sink is not None:
            other, sign = sink
            other.assign_add((sign * shift).astype("float32"))
        return masked, fit.error(kernel, shift)

    def _some_of(self, count, most):
        if count <= most:
            return np.arange(count)
        return np.sort(self._rng.choice(count, most, replace=False))

    def rows(self):
        """A `PrunedLayer` for each mask."""
        for mask in self._masks:
            kernel = mask.kernel
            errors = self._found.get(id(mask), (None, None))
            note = why_not_fitted(kernel) or "is inside a composite layer"
            note = "" if id(mask) in self._found else f"not fitted: {note}"
            yield PrunedLayer(kernel.path, mask.pruned, kernel.size, *errors, note)
