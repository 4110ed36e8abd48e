"""Which variable takes up a constant that is added to what a layer gives."""

import keras

from kerastl import _keras
from kerastl.compression.prunable import TRANSPOSED


def sink_of(layer, after):
    """The variable that takes up a constant added to the outputs of `layer`, and its sign.

    A transposed convolution has none: not every output has all taps.
    """
    if isinstance(layer, TRANSPOSED):
        return None
    if layer.bias is not None:
        return layer.bias, 1.0
    is_linear = layer.activation is None or layer.activation is keras.activations.linear
    norm = after.get(id(layer)) if is_linear else None
    return None if norm is None else (norm.moving_mean, -1.0)


def norms_after(model):
    """Dict from the id of a layer to the batch normalization that alone reads what it returns."""
    nodes = _keras.graph_nodes(model)
    readers, calls = {}, {}
    for node in nodes:
        calls.setdefault(id(node.operation), []).append(node)
        for tensor in node.input_tensors:
            readers.setdefault(id(tensor), []).append(node.operation)
    outputs = {id(tensor) for tensor in model.outputs}
    found = {}
    for key, [node, *others] in calls.items():
        reading = readers.get(id(node.outputs[0]), [])
        if others or len(reading) != 1 or id(node.outputs[0]) in outputs:
            continue
        norm = reading[0]
        if isinstance(norm, keras.layers.BatchNormalization) and len(calls[id(norm)]) == 1:
            found[key] = norm
    return found
