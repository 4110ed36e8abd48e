"""MMD: a term that draws the distributions of features of two domains together."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from kerastl._base import checks
from kerastl.adaptation.target_term import FeatureDistance

# Bandwidths beside the median one, in its units: the usual factors of 2 around it.
_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)


class MMD(FeatureDistance):
    """Draws the distributions of features of two domains together: maximum mean discrepancy.

    `strength * (mean k(s, s') + mean k(t, t') - 2 mean k(s, t))`

    over all pairs of a batch, those of an example with itself among them, so that it is never
    negative (the biased estimate of the first paper). The kernel is a sum of Gaussian
    ones, `k(x, y) = Σ_u exp(-||x - y||² / (u m))` for `u` of 1/4, 1/2, 1, 2 and 4, where `m` is
    the median of `||x - y||²` over the pairs of two examples of both batches together, without a
    gradient.

    What runs on the target and what it leaves alone, batch normalization above all, is told in
    `TargetTerm`.

    Args:
        target: Unlabelled inputs of the target domain: arrays, a `tf.data.Dataset` of batches, or
            a `TargetStream`.
        strength: Float >= 0, dimensionless. At 0 the term is off.
        features: Names of the layers to compare, a string for one; several add up. Empty is what
            the last Dense reads, before its dropout.
        name: String, the name of the metric.

    Raises:
        ValueError: If `strength` is out of range or the target empty; in `fit`, if a layer does
            not give one vector an example.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from kerastl import FineTuner
        >>> inputs = keras.Input((2,))
        >>> body = keras.layers.Dense(3, name="body")(inputs)
        >>> model = FineTuner(inputs, keras.layers.Dense(1)(body))
        >>> model.compile("sgd", "mse", terms=[MMD(np.ones((5, 2)), features="body")])
        >>> sorted(model.fit(np.ones((4, 2)), np.ones(4), verbose=0).history)
        ['loss', 'mmd']

    References:
        Gretton et al., 2012, https://jmlr.org/papers/v13/gretton12a.html;
        Long et al., 2015, section 3, https://arxiv.org/abs/1502.02791
    """

    def __init__(
        self,
        target: Any,
        strength: float = 1.0,
        *,
        features: str | Sequence[str] = (),
        name: str = "mmd",
    ) -> None:
        checks.in_range(strength, 0.0, 1e9, "strength")
        super().__init__(target, strength, features, name)

    def distance(self, source: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """The squared discrepancy, a scalar."""
        both = tf.concat([source, target], axis=0)
        squares = _squared_distances(both)
        median = tf.maximum(tf.stop_gradient(_median_of_pairs(squares)), 1e-12)
        each = [tf.exp(-squares / (factor * median)) for factor in _FACTORS]
        kernel = tf.reduce_sum(tf.stack(each), axis=0)
        num = tf.shape(source)[0]
        blocks = kernel[:num, :num], kernel[num:, num:], kernel[:num, num:]
        within, other, across = (tf.reduce_mean(block) for block in blocks)
        # In one sum: see `terms.total_loss`.
        return tf.reduce_sum(tf.stack([within, other, -2.0 * across]))


def _squared_distances(rows):
    """Between all pairs of rows, `(num, num)`."""
    # Near the origin: far from it the difference of large numbers would lose the small ones.
    rows = rows - tf.stop_gradient(tf.reduce_mean(rows, axis=0))
    lengths = tf.reduce_sum(tf.square(rows), axis=1)
    products = tf.matmul(rows, rows, transpose_b=True)
    return tf.maximum(lengths[:, None] + lengths[None, :] - 2.0 * products, 0.0)


def _median_of_pairs(squares):
    """The median off the diagonal, where each pair stands twice, which leaves it as it is."""
    num = tf.shape(squares)[0]
    on_diagonal = tf.linalg.set_diag(squares, tf.fill([num], -1.0))
    ordered = tf.sort(tf.reshape(on_diagonal, [-1]))[num:]
    half = num * (num - 1) // 2
    return 0.5 * (ordered[half - 1] + ordered[half])
