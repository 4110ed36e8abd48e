"""CORAL: two domains whose features have the same covariances, trained so or by a formula."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kerastl._base import checks
from kerastl.adaptation.target_term import FeatureDistance


class Coral(FeatureDistance):
    """Draws the covariances of features of two domains together: Deep CORAL.

    With `C_s` and `C_t` the covariances of `d` features over a batch, divided by `n - 1`,

    `strength * ||C_s - C_t||²_F / (4 d²)`

    Means are left alone, as in the paper. Batches of a few examples tell little of a covariance:
    32 and more are usual.

    What runs on the target and what it leaves alone, batch normalization above all, is told in
    `TargetTerm`.

    Args:
        target: Unlabelled inputs of the target domain: arrays, a `tf.data.Dataset` of batches, or
            a `TargetStream`.
        strength: Float >= 0, dimensionless. At 0 the term is off. The paper chooses it so that
            this and the compiled loss come out about alike.
        features: Names of the layers to compare, a string for one; several add up. Empty is what
            the last Dense reads, before its dropout.
        name: String, the name of the metric.

    Raises:
        ValueError: If `strength` is out of range or the target empty; in `fit`, if a layer does
            not give one vector an example.

    Example:
        >>> import keras
        >>> from kerastl import FineTuner
        >>> inputs = keras.Input((2,))
        >>> body = keras.layers.Dense(3, name="body")(inputs)
        >>> model = FineTuner(inputs, keras.layers.Dense(1)(body))
        >>> model.compile("sgd", "mse", terms=[Coral(np.ones((5, 2)), features="body")])
        >>> sorted(model.fit(np.ones((4, 2)), np.ones(4), verbose=0).history)
        ['coral', 'loss']

    References:
        Sun & Saenko, 2016, equations 1 to 3, https://arxiv.org/abs/1607.01719
    """

    def __init__(
        self,
        target: Any,
        strength: float = 1.0,
        *,
        features: str | Sequence[str] = (),
        name: str = "coral",
    ) -> None:
        checks.in_range(strength, 0.0, 1e9, "strength")
        super().__init__(target, strength, features, name)

    def distance(self, source: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """`||C_s - C_t||²_F / (4 d²)`, a scalar."""
        apart = _covariance(source) - _covariance(target)
        return tf.reduce_mean(tf.square(apart)) / 4.0  # the mean is over d² numbers


def align_covariance(source: np.ndarray, target: np.ndarray, epsilon: float = 1.0) -> np.ndarray:
    """Features of a source domain, given the mean and the covariance of a target domain.

    `(X_s - mean_s) (C_s + epsilon I)^(-1/2) (C_t + epsilon I)^(1/2) + mean_t`

    A classifier that is fitted on the result and the labels of the source is one for the target.
    The paper leaves the means out, its features being standardized.

    Args:
        source: Array `(num_source, width)`.
        target: Array `(num_target, width)`.
        epsilon: Float > 0, in the units of the covariances; the paper has 1.

    Returns:
        float64 array `(num_source, width)`.

    Raises:
        ValueError: If the shapes are others, one has fewer than two rows, or `epsilon` is out of
            range.

    Example:
        >>> source, target = np.array([[0.0], [2.0]]), np.array([[5.0], [9.0]])
        >>> align_covariance(source, target, epsilon=1e-9).round(3).tolist()
        [[5.0], [9.0]]

    References:
        Sun et al., 2016, algorithm 1, https://arxiv.org/abs/1511.05547
    """
    checks.in_range(epsilon, 1e-300, 1e300, "epsilon")
    source, target = (np.asarray(part, np.float64) for part in (source, target))
    good = source.ndim == target.ndim == 2 and source.shape[1] == target.shape[1]
    if not good or min(len(source), len(target)) < 2:
        raise ValueError(
            "`source` and `target` must be two rows of features of one width, or more rows. "
            f"Received: shapes {source.shape} and {target.shape}"
        )
    white = _power(np.cov(source, rowvar=False), epsilon, -0.5)
    color = _power(np.cov(target, rowvar=False), epsilon, 0.5)
    return (source - source.mean(0)) @ white @ color + target.mean(0)


def _covariance(features):
    """Covariance over the rows, `(width, width)`; equation 2, for centred features."""
    centred = features - tf.reduce_mean(features, axis=0)
    rows = tf.cast(tf.shape(features)[0], features.dtype)
    return tf.matmul(centred, centred, transpose_a=True) / tf.maximum(rows - 1.0, 1.0)


def _power(covariance, epsilon, exponent):
    """A power of a symmetric matrix with `epsilon` on its diagonal."""
    covariance = np.atleast_2d(covariance)
    values, vectors = np.linalg.eigh(covariance + epsilon * np.eye(len(covariance)))
    return (vectors * np.maximum(values, np.finfo(float).tiny) ** exponent) @ vectors.T
