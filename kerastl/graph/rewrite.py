"""A functional graph made again, its operations replaced one by one."""

from collections.abc import Callable
from typing import Any

import keras

from kerastl import _keras
from kerastl.graph.flatten import input_layers
from kerastl.graph.index import GraphIndex


def rebuilt(
    index: GraphIndex,
    place: Callable[..., Any],
    *,
    entrance: Callable[..., Any] = lambda old, new: new,
    cls: Callable[..., keras.Model] = keras.Model,
) -> keras.Model:
    """A new model of the same graph, each call made by `place`.

    Args:
        index: `GraphIndex` of the flat model.
        place: Function of `(node, args, kwargs)` that returns the outputs of a call.
        entrance: Function of an original and a new input tensor that returns what takes its place
            in the graph.
        cls: Class of the new model.

    Example:
        >>> from kerastl.graph.index import GraphIndex
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")])
        >>> index = GraphIndex(keras.Model(model.inputs, model.outputs))
        >>> new = rebuilt(index, lambda node, args, kwargs: copy_of(node.operation)(*args))
        >>> new.get_layer("head") is model.get_layer("head"), new.output_shape
        (False, (None, 2))
    """
    model = index.model
    inputs = [copy_of(layer).output for layer in input_layers(model)]
    values = {id(old): entrance(old, new) for old, new in zip(model.inputs, inputs, strict=True)}
    for node in index.nodes:
        args, kwargs = _keras.call_arguments(node, values)
        outputs = keras.tree.flatten(place(node, args, kwargs))
        values.update(zip(map(id, node.outputs), outputs, strict=True))
    structured = keras.tree.pack_sequence_as(model.input, inputs)
    return cls(structured, _keras.outputs_from(model, values), name=model.name)


def copy_of(layer: Any, **changes: Any) -> Any:
    """A layer like `layer`, without its weights; an operation that is no layer is itself."""
    if not isinstance(layer, keras.Layer):
        return layer
    new = type(layer).from_config(layer.get_config() | changes)
    # The config that Keras makes of a layer without `get_config` of its own may lack the name.
    new.name = changes.get("name", layer.name)
    return new


def copy_weights(layer: keras.Layer, new: keras.Layer) -> None:
    """Give `new` the weights of `layer`."""
    for old, fresh in zip(layer.weights, new.weights, strict=True):
        fresh.assign(old)
