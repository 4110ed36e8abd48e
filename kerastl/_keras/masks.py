"""How far below the others Keras puts the scores of what a mask hides."""

import contextlib
from collections.abc import Iterator
from typing import Any

HIDDEN = -100.0  # e to this is 4e-44: nothing, in float32


@contextlib.contextmanager
def masks_for_integers() -> Iterator[None]:
    """Have masked softmaxes that are traced within this put -100 where Keras puts -1e9.

    Integers have 256 steps over the range of a tensor, and one that reaches to -1e9 has a single
    step left for all other scores. In float32 the answers are the same.

    Private name: `_large_negative_number` of `keras.src.layers.activations.softmax` (seen in Keras
    3.15.1). It can go when Keras asks for less, or the converter measures ranges without what is
    hidden. Attention without dropout takes another way through Keras and is not reached.
    """
    from keras.src.layers.activations import softmax as module

    softmax: Any = module
    usual = softmax._large_negative_number
    softmax._large_negative_number = lambda dtype: HIDDEN
    try:
        yield
    finally:
        softmax._large_negative_number = usual
