"""Weights between two sets of them."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np


def blend_weights(model: keras.Model, start: Sequence[Any], alpha: float) -> None:
    """Put `start + alpha · (weights - start)` in the place of the weights of `model`.

    Args:
        model: Keras model.
        start: List of arrays, one for each of `model.weights`.
        alpha: Float in [0, 1]. 1 leaves the weights alone, bit for bit; 0 gives `start`.

    References:
        Wortsman et al., 2022 (WiSE-FT, equation 1), https://arxiv.org/abs/2109.01903
    """
    for variable, before in zip(model.weights, start, strict=True):
        if alpha == 0:
            variable.assign(before)
        elif alpha < 1 and np.issubdtype(before.dtype, np.floating):
            trained = np.asarray(variable.numpy(), np.float64)
            variable.assign((before + alpha * (trained - before)).astype(before.dtype))
