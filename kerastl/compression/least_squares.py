"""Least squares with zeros at given places."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl._base.types import OnProgress, TensorLike
from kerastl.compression.kernels import SEPARABLE, Kernel
from kerastl.compression.masks import Mask
from kerastl.compression.pruning_report import PrunedLayer
from kerastl.compression.reads import TINY, mixed_by, norms_after, sink_of, steadied
from kerastl.compression.two_runs import Originals


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

    def __init__(self, width: int, outputs: int, *, constant: bool) -> None:
        self._constant = constant
        size = width + constant
        self._moments = np.zeros((size, size))
        self._targets = np.zeros((size, outputs))
        self._energy = np.zeros(outputs)
        self._sums = np.zeros(outputs)
        self._rows = 0

    def add(self, rows: TensorLike, targets: TensorLike) -> None:
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

    def solve(self, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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

    def error(self, kernel: np.ndarray, shift: float | np.ndarray = 0.0) -> float:
        """Energy of the error of `kernel`, as a share of how much the outputs vary."""
        if self._constant:
            kernel = np.concatenate([kernel, np.broadcast_to(shift, (1, kernel.shape[1]))])
        cross = (kernel * self._targets).sum(0)
        given = (kernel * (self._moments @ kernel)).sum(0)
        left = np.maximum(self._energy - 2 * cross + given, 0.0).sum()
        varies = (self._energy - np.square(self._sums) / self._rows).sum()
        return float(left / max(varies, TINY**2))


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

    def __init__(
        self, model: keras.Model, masks: Sequence[Mask], progress: OnProgress | None
    ) -> None:
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

    def __call__(self, layer: keras.Layer, before: Any, now: Any) -> None:
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

    def rows(self) -> Iterator[PrunedLayer]:
        """A `PrunedLayer` for each mask."""
        for mask in self._masks:
            kernel = mask.kernel
            masked, error = self._found.get(id(mask), (None, None))
            note = why_not_fitted(kernel) or "is inside a composite layer"
            note = "" if id(mask) in self._found else f"not fitted: {note}"
            yield PrunedLayer(kernel.path, mask.pruned, kernel.size, masked, error, note)


L = keras.layers
WIDEST = 5000  # inputs up to which a kernel is fitted anew: the time grows with their third power


def why_not_fitted(kernel: Kernel) -> str | None:
    """Why the weights that stay in a `Kernel` are left as they are, or None if they are not.

    Example:
        >>> from kerastl.compression.kernels import Kernel
        >>> layer = L.Embedding(10, 4)
        >>> layer.build()
        >>> why_not_fitted(Kernel("words", layer, layer.embeddings))
        'is an Embedding, whose inputs are no numbers to fit to'
    """
    layer = kernel.layer
    if isinstance(layer, L.Embedding):
        return "is an Embedding, whose inputs are no numbers to fit to"
    is_plain = isinstance(layer, (L.Conv1D, L.Conv2D)) and layer.groups == 1
    is_pointwise = isinstance(layer, SEPARABLE) and kernel.variable is layer.pointwise_kernel
    if not (is_plain or is_pointwise or isinstance(layer, L.Dense)):
        return f"is of the class {type(layer).__name__}, whose inputs are not seen as rows"
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return "has its channels first"
    if getattr(layer, "padding", None) == "causal":
        return "pads causally"
    width = kernel.size // kernel.variable.shape[-1]
    return f"has {width:,} inputs, more than {WIDEST:,}" if width > WIDEST else None


def rows_of(layer: keras.Layer, value: TensorLike) -> tf.Tensor:
    """Tensor of `(places, inputs)`: what the kernel of `layer` multiplies where it reads `value`.

    A convolution's inputs are the taps times the channels, in the order of its kernel.
    """
    value = tf.cast(mixed_by(layer, value), "float32")
    if isinstance(layer, (L.Conv1D, L.Conv2D)):
        value = _patches(layer, value)
    return tf.reshape(value, (-1, value.shape[-1]))


def _patches(layer, value):
    kernel, strides, dilations = layer.kernel_size, layer.strides, layer.dilation_rate
    if isinstance(layer, L.Conv1D):
        value = value[:, None]
        kernel, strides, dilations = (1, *kernel), (1, *strides), (1, *dilations)
    return tf.image.extract_patches(
        value,
        sizes=(1, *kernel, 1),
        strides=(1, *strides, 1),
        rates=(1, *dilations, 1),
        padding=layer.padding.upper(),
    )
