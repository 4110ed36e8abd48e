"""Examples that a network is measured on, a few at a time."""

from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from kerastl.graph import inputs

BATCH = 8  # examples at once: every activation of the network is held


def batches_of(data: Any, model: keras.Model) -> Iterator[list[tf.Tensor]]:
    """Lists of input tensors, at most `BATCH` examples each.

    Args:
        data: As in `kerastl.graph.inputs.batches`.
        model: `keras.Model`.
    """
    for arrays, _ in inputs.batches(model, data):
        yield from _chunks(arrays, model)


def checked_inputs(model: keras.Model, arrays: list[Any]) -> list[Any]:
    """`arrays`, one an input of `model`; raise if they are no batches of its inputs."""
    for array, tensor in zip(arrays, model.inputs, strict=True):
        shape, expected = tuple(array.shape), tuple(tensor.shape)
        fits = len(shape) == len(expected) and all(
            size in (None, got) for size, got in zip(expected[1:], shape[1:], strict=True)
        )
        if not fits:
            raise ValueError(
                f"`data` must be batches of inputs of shape {expected}. "
                f"Received: an array of shape {shape}"
            )
        kinds = [keras.backend.standardize_dtype(each.dtype) for each in (array, tensor)]
        if "float" in kinds[0] and "int" in kinds[1]:
            raise ValueError(
                f"`data` for input {tensor.name!r} must hold integers ({kinds[1]}). "
                f"Received: an array of {kinds[0]}"
            )
    return arrays


def _chunks(arrays, model):
    arrays = checked_inputs(model, arrays)
    for start in range(0, len(arrays[0]), BATCH):
        yield [tf.convert_to_tensor(array[start : start + BATCH]) for array in arrays]
