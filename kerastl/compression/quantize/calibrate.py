"""Ranges of activations, seen in a few batches of data."""

import itertools

import keras
import numpy as np
import tensorflow as tf

from kerastl.compression.batches import checked_inputs
from kerastl.compression.quantize.ranges import ranges_of

BATCH = 32
BATCHES = 16  # 512 examples; a range averages over few batches only at its start


def calibrate(model, data):
    """Show a quantized model some data, in inference mode, and keep the ranges of its activations.

    Args:
        model: Quantized `keras.Model`.
        data: Inputs of `model`: an array, or arrays nested as its inputs are, or a tuple of those
            and targets, of which up to 512 examples are taken, evenly spread; or a
            `tf.data.Dataset` or other iterable of batches of inputs, or of `(inputs, targets)`, of
            which up to 16 are read.

    Raises:
        ValueError: If it holds no example, or none that fits the inputs.
    """
    layers, count = ranges_of(model), 0

    @tf.function(autograph=False)
    def observe(batch):
        return model(batch, training=False)

    try:
        for layer in layers:
            layer.observing = True
        for batch in _batches(model, data):
            observe(keras.tree.pack_sequence_as(model.input, batch))
            count += 1
    finally:
        for layer in layers:
            layer.observing = False
    if not count:
        raise ValueError("`data` must hold at least one example. Received: none")


def _batches(model, data):
    """Lists of tensors, one an input."""
    arrays = keras.tree.flatten(data)
    if isinstance(data, tuple) and len(arrays) != len(model.inputs):
        arrays = keras.tree.flatten(data[0])  # (inputs, targets)
    if all(hasattr(array, "shape") for array in arrays):
        arrays = checked_inputs(model, arrays)
        count = min(len(arrays[0]), BATCH * BATCHES)
        rows = np.linspace(0, len(arrays[0]) - 1, count).round().astype(int)
        for start in range(0, count, BATCH):
            yield _tensors(model, arrays, rows[start : start + BATCH])
        return
    for element in itertools.islice(data, BATCHES):
        inputs = keras.utils.unpack_x_y_sample_weight(element)[0]
        arrays = checked_inputs(model, keras.tree.flatten(inputs))
        if len(arrays[0]):
            yield _tensors(model, arrays, np.arange(len(arrays[0])))


def _tensors(model, arrays, rows):
    chosen = [tf.gather(x, rows) if tf.is_tensor(x) else np.asarray(x[rows]) for x in arrays]
    for tensor, values in zip(model.inputs, map(np.asarray, chosen), strict=True):
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError(
                f"`data` must be finite. Received: {np.count_nonzero(~np.isfinite(values))} values "
                f"for input {tensor.name!r} that are not."
            )
    return [tf.cast(x, tensor.dtype) for x, tensor in zip(chosen, model.inputs, strict=True)]
