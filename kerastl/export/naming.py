"""The graph of a model, and the names under which it and its file speak of the same tensors."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import keras
import numpy as np

from kerastl import _keras
from kerastl._base.checks import listed
from kerastl._base.types import Arrays
from kerastl.graph import inputs

# A model of Keras 3, or a functional one of tf_keras, which no hint is worth importing for.
AnyModel: TypeAlias = keras.Model | Any


def is_tf_keras(model: Any) -> bool:
    """Whether `model` is one of tf_keras (Keras 2), told without importing that."""
    return any(kind.__module__.partition(".")[0] == "tf_keras" for kind in type(model).__mro__)


class _Inferring(keras.Model):
    """A functional model of which every layer infers, whoever calls it.

    Keras's exporter passes no `training`, and a layer whose `call` has `training=True` by default
    (Resizing, CenterCrop, all Random*) then puts every later layer in training mode, too. Seen in
    Keras 3.15.1, whose own LiteRT exporter passes False.
    """

    runs_own_graph = True

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return super().call(inputs, training=False, mask=mask)


def graph_of(model: AnyModel) -> AnyModel:
    """`model` as a functional model on the same layers that infers: no optimizer, no own `call`.

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
        return _Inferring(model.inputs[0], model.outputs[0], name=model.name)
    return _Inferring(model.input, model.output, name=model.name)


@contextlib.contextmanager
def in_float32(graph: AnyModel) -> Iterator[None]:
    """Within this the layers of `graph` compute in float32, as files do.

    Raises:
        ValueError: If a policy of one of them cannot be changed.
    """
    quantized = [layer for layer in every_layer(graph) if getattr(layer, "quantization_mode", None)]
    if quantized:
        raise ValueError(
            f"`model` must have float weights. Received: {graph.name!r}, whose layers "
            f"{listed([layer.name for layer in quantized])} Keras has quantized by "
            f"`model.quantize({quantized[0].quantization_mode!r})`, which no converter can read. "
            "Export the model from before, with quantization='int8' or 'dynamic'."
        )
    policies = {getattr(layer, "_compute_dtype", None) for layer in every_layer(graph)}
    if is_tf_keras(graph) and policies & {"float16", "bfloat16"}:
        raise ValueError(
            f"`model` must compute in float32. Received: {graph.name!r}, a model of tf_keras with "
            f"a mixed policy ({listed(policies & {'float16', 'bfloat16'})}). Load its weights into "
            "one that was built with the policy float32."
        )
    with contextlib.nullcontext() if is_tf_keras(graph) else _keras.computing_in_float32(graph):
        yield


class LayerNames:
    """Finds the names of a model's layers in the names of a file's tensors and operations."""

    def __init__(self, graph: AnyModel) -> None:
        self._names = {layer.name for layer in every_layer(graph)} - {graph.name}

    def of(self, tensor: str) -> str:
        """`'conv + bn + relu'` of `'net_1/relu_1/Relu;net_1/bn_1/add;net_1/conv_1/conv'`."""
        found = {}
        for path in tensor.split(";"):
            parts = path.split("/")
            hits = [name for name in map(self._plain, parts) if name]
            if hits:
                found.setdefault("/".join(hits), None)
        return " + ".join(reversed(found)) or tensor

    def _plain(self, part):
        """A layer called a second time works in a scope with a number behind its name."""
        if part in self._names:
            return part
        stem, _, number = part.rpartition("_")
        return stem if number.isdigit() and stem in self._names else None


def every_layer(graph: AnyModel) -> list[Any]:
    """All layers in `graph`, those inside others too."""
    return list(_keras.with_sublayers(graph))


def input_names(graph: AnyModel) -> list[str]:
    """Names of the inputs as `keras.tree.flatten` lists them."""
    return [tensor.name for tensor in keras.tree.flatten(graph.input)]


def inputs_by_name(graph: AnyModel, data: Arrays, called: str = "data") -> dict[str, Any]:
    """Dict from the graph's input names to the arrays of `data`, whatever structure they are in.

    A file lists its inputs in an order of its own, so names are what holds.

    Raises:
        ValueError: If they are not the graph's inputs.
    """
    return dict(zip(input_names(graph), inputs.in_order(graph, data, called), strict=True))


def in_structure(graph: AnyModel, named: Mapping[str, np.ndarray]) -> Arrays:
    """What `model(...)` takes, from a dict by name."""
    flat = [named[name] for name in input_names(graph)]
    return keras.tree.pack_sequence_as(graph.input, flat)


def has_nested_outputs(graph: keras.Model) -> bool:
    """Whether outputs lie deeper than in one list or one dict."""
    outputs = graph.output.values() if isinstance(graph.output, dict) else graph.output
    return not isinstance(outputs, keras.KerasTensor) and any(map(keras.tree.is_nested, outputs))


def output_names(graph: AnyModel) -> list[str]:
    """Names of the outputs as `keras.tree.flatten` lists them, each another.

    The key of a dict, with a number behind it for what is nested below; else the name of the
    layer, with a number from its second output on.
    """
    if isinstance(graph.output, dict):
        paths = [path for path, _ in keras.tree.flatten_with_path(graph.output)]
        wanted = ["_".join(map(str, path)) for path in paths]
    else:
        wanted = list(graph.output_names)
    return _told_apart(wanted)


def _told_apart(names: Iterable[str]) -> list[str]:
    """`names`, the second and later ones of a name numbered.

    >>> _told_apart(["tower", "tower", "tower_1"])
    ['tower', 'tower_2', 'tower_1']
    """
    names = list(names)
    found: list[str] = []
    for place, name in enumerate(names):
        unique, number = name, 0
        while unique in found or (number and unique in names[place:]):
            number += 1
            unique = f"{name}_{number}"
        found.append(unique)
    return found
