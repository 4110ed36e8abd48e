"""The private Keras names that reading and rewriting a graph needs, in one place.

Seen on Keras 3.15.1. Each function says which name it uses and why no public one serves.
"""

import keras
from keras.src import backend as keras_backend
from keras.src.models.functional import Functional
from keras.src.ops.function import _build_map
from keras.src.ops.node import Node


def graph_of(model):
    """The functional graph that `model` runs when called, or None if there is none.

    A functional model is its own graph and a built Sequential model holds one. A subclass that
    overrides `call` may do anything there, so its graph counts only if its class says that
    `call` runs that graph, by a class attribute `runs_own_graph = True`.

    Private names: `Functional` is not exported, and `Sequential._functional` is the only way to
    the graph of a Sequential model.
    """
    if isinstance(model, keras.Sequential):
        return model._functional if _runs_graph(model, keras.Sequential) else None
    if isinstance(model, Functional):
        return model if _runs_graph(model, Functional) else None
    return None


def _runs_graph(model, cls):
    return getattr(type(model), "runs_own_graph", False) or type(model).call is cls.call


def nodes(graph):
    """The nodes of a functional graph in the order in which Keras runs them, inputs left out.

    Private name: `_nodes_by_depth`. The public `Model.operations` has no edges.
    """
    depths = sorted(graph._nodes_by_depth, reverse=True)
    return [node for depth in depths for node in graph._nodes_by_depth[depth] if not node.is_input]


def call_arguments(node, tensors):
    """The `(args, kwargs)` recorded at `node`, with values from `tensors` (id → value)."""
    return node.arguments.fill_in(tensors)


def record_call(operation, args, kwargs, like):
    """Record a call of `operation` without running it; returns tensors shaped as `like`.

    Private name: `Node`. Calling an operation is the only public way to record a call, and
    that needs the real layer.
    """
    outputs = [keras.KerasTensor(t.shape, t.dtype, sparse=t.sparse, name=t.name) for t in like]
    Node(operation, call_args=args, call_kwargs=kwargs, outputs=outputs)
    return outputs


def operations_between(inputs, outputs):
    """Every operation between two structures of symbolic tensors, each once.

    Private name: `_build_map`. `keras.Function(inputs, outputs).operations` is public, but
    refuses repeated names, and those are to be found and mended here.
    """
    return list(_build_map(inputs, outputs)[1])


def sublayers(layer):
    """The direct sublayers of a layer, each once, without the input layers of nested models.

    Private name: `_layers`. A Layer offers its sublayers under no public name.
    """
    unique = {id(child): child for child in layer._layers}
    return [c for c in unique.values() if not isinstance(c, keras.layers.InputLayer)]


def set_mask(tensor, mask):
    """Attach a Keras mask to a symbolic tensor, as a call with `mask=` does.

    Private name: `set_keras_mask`. Masks travel as attributes of tensors that only it can set.
    """
    keras_backend.set_keras_mask(tensor, mask)


def producer(tensor):
    """The operation that made a symbolic tensor. Private name: `_keras_history`."""
    return tensor._keras_history.operation
