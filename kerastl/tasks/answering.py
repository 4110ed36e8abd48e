"""What a model gives for examples, as it is judged."""

import pathlib
from typing import Any

import keras
import numpy as np

from kerastl.tasks.protocols import Examples


def outputs_of(model: keras.Model, examples: Examples, batch_size: int = 32) -> np.ndarray:
    """What `model` gives for `examples`, batch by batch, in their order.

    Args:
        model: `keras.Model`.
        examples: `Examples`.
        batch_size: Int > 0.

    Returns:
        Array with a row for each of `examples`.
    """
    passes: Any = examples.batches(batch_size)
    order = passes.repeatable.computing_order
    if order is None:
        return model.predict(passes.map(lambda given, _: given), verbose=0)
    given = model.predict(passes.repeatable.in_computing_order(), verbose=0)
    outputs = np.empty_like(given)
    outputs[order] = given
    return outputs


def check_numbers(path: pathlib.Path, outputs: np.ndarray) -> None:
    """Refuse the model at `path` where some of its `outputs` are no numbers."""
    if not np.isfinite(outputs).all():
        raise ValueError(f"The model must give numbers. {path} gives NaN or infinity.")
