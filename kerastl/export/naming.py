"""The graph of a model, and the names under which it and its file speak of the same tensors."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import keras
import numpy as np

from kerastl import _keras
from kerastl._base.types import Arrays

# A model of Keras 3, or a functional one of tf_keras, which no hint is worth importing for.
AnyModel: TypeAlias = keras.Model | Any


def is_tf_keras(model: Any) -> bool:
    """Whether `model` is one of tf_keras (Keras 2), told without importing that."""
    return any(kind.__module__.partition(".")[0] == "tf_keras" for kind in type(model).__mro__)


def graph_of(model: AnyModel) -> AnyModel:
    """`model` as a plain functional model on the same layers: no optimizer, no `call` of its own.

    A functional model of tf_keras is returned as it is.

    Raises:
        ValueError: If the model declares no inputs and so has no graph.
    """
    known = isinstance(model, keras.Model) or is_tf_keras(model)
    if not known or not getattr(model, "inputs", None):
        raise ValueError(
            "`model` must be a built keras.Model with declared inputs (functional or Sequential). "
            f"Received: {type(model).__module__}.{type(model).__qualname__}"
        )
    if is_tf_keras(model):
        return model
    if isinstance(model, keras.Sequential):  # has no `input` before its first call
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return keras.Model(model.input, model.output, name=model.name)


def every_layer(graph: AnyModel) -> list[Any]:
    """All layers in `graph`, those inside others too."""
    return list(_keras.with_sublayers(graph))


def input_names(graph: AnyModel) -> list[str]:
    """Names of the inputs as `keras.tree.flatten` lists them."""
    return [tensor.name for tensor in keras.tree.flatten(graph.input)]


def inputs_by_name(graph: AnyModel, data: Arrays) -> dict[str, np.ndarray]:
    """Dict from the graph's input names to the arrays of `data`, whatever structure they are in.

    A file lists its inputs in an order of its own, so names are what holds.

    Raises:
        ValueError: If there are not as many arrays as inputs.
    """
    names = input_names(graph)
    arrays = keras.tree.flatten(data)
    if len(names) != len(arrays):
        raise ValueError(
            f"The model has {len(names)} inputs: {', '.join(names)}. "
            f"Received: {len(arrays)} arrays."
        )
    return dict(zip(names, arrays, strict=True))


def in_structure(graph: AnyModel, named: Mapping[str, np.ndarray]) -> Arrays:
    """What `model(...)` takes, from a dict by name."""
    flat = [named[name] for name in input_names(graph)]
    return keras.tree.pack_sequence_as(graph.input, flat)


def output_names(graph: AnyModel) -> list[str]:
    """Names of the outputs as `keras.tree.flatten` lists them: keys of a dict, else layer names."""
    return sorted(graph.output) if isinstance(graph.output, dict) else list(graph.output_names)
