"""Private names of Keras's functional graphs: their calls, edges, masks, and how they run.

Seen in Keras 3.15.1 (keras/src/ops/function.py, keras/src/models/functional.py). `get_keras_mask`
and `set_keras_mask` are here because masks travel as attributes of tensors that only they know.
This file can go when a functional model offers its edges, and `call` a way to run each layer in a
mode of its own.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
from keras.src.backend import get_keras_mask, set_keras_mask  # noqa: F401 (re-exported)
from keras.src.models.functional import Functional
from keras.src.ops.function import _build_map
from keras.src.ops.node import Node


def graph_of(model: keras.Operation) -> Any:
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


def graph_nodes(model: Any) -> list[Any]:
    """The calls in a functional model's graph, in the order Keras runs them, inputs left out.

    `Model.operations` has no edges; only `_nodes_by_depth` has.
    """
    graph: Any = model  # the attribute is that of a functional model
    depths = sorted(graph._nodes_by_depth, reverse=True)
    return [node for depth in depths for node in graph._nodes_by_depth[depth] if not node.is_input]


def call_arguments(node: Any, tensors: Mapping[int, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The `(args, kwargs)` recorded at `node`, with values from `tensors` (id → value)."""
    return node.arguments.fill_in(tensors)


def called_with_training(node: Any) -> bool | None:
    """The `training` that someone passed to the call at `node`, or None.

    Keras records the default of a layer's `call` in the same place, where that is no None.
    """
    said = node.arguments.kwargs.get("training")
    given = inspect.signature(node.operation.call).parameters.get("training")
    return None if given is not None and said is given.default else said


def producer_of(tensor: Any) -> Any:
    """The operation that made a symbolic tensor. Private name: `_keras_history`."""
    return tensor._keras_history.operation


def inputs_of(tensor: Any) -> list[Any]:
    """The symbolic tensors that the call which made `tensor` read.

    `producer_of(tensor).input` would be those of the operation's first call, which may be in
    another graph. Private names: `_keras_history`, `_inbound_nodes`.
    """
    history = tensor._keras_history
    return list(history.operation._inbound_nodes[history.node_index].input_tensors)


def operations_between(inputs: Any, outputs: Any) -> list[keras.Operation]:
    """Every operation between two structures of symbolic tensors, each once.

    Private name: `_build_map`. `keras.Function(inputs, outputs).operations` is public, but
    refuses repeated names, and those are to be found and mended here.
    """
    return list(_build_map(inputs, outputs)[1])


def record_call(
    operation: keras.Operation,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    like: Sequence[keras.KerasTensor],
) -> list[keras.KerasTensor]:
    """Record a call of `operation` without running it; returns tensors shaped as `like`.

    Private name: `Node`. Calling an operation is the only public way to record a call, and
    that needs the real layer.
    """
    outputs = [keras.KerasTensor(t.shape, t.dtype, sparse=t.sparse, name=t.name) for t in like]
    Node(operation, call_args=args, call_kwargs=kwargs, outputs=outputs)
    return outputs


def check_inputs(model: Any, inputs: Any) -> None:
    """Raise if a call of the functional `model` would not take `inputs`.

    Private name: `_assert_input_compatibility`, which only a call of the model runs.
    """
    model._assert_input_compatibility(inputs)


def run_graph(model: keras.Model, inputs: Any, mask: Any, operation_fn: Callable[..., Any]) -> Any:
    """Run a functional model's graph on `inputs`, each node through `operation_fn(operation)`.

    `Functional.call` offers no way to give each layer its own `training`; it overwrites the value
    recorded in the graph by the container's (keras/src/models/functional.py, `operation_fn`).
    """
    inputs = model._standardize_inputs(inputs)
    if mask is not None:
        for tensor, tensor_mask in zip(inputs, keras.tree.flatten(mask), strict=False):
            if tensor_mask is not None:
                tensor._keras_mask = tensor_mask
    outputs = model._run_through_graph(inputs, operation_fn=operation_fn)
    single = isinstance(outputs, (list, tuple)) and len(outputs) == 1
    return outputs[0] if single else outputs


def run_nodes(
    nodes: Iterable[Any], values: dict[int, Any], operation_fn: Callable[..., Any]
) -> None:
    """Run some of a graph's nodes, as `run_graph` runs all of them.

    Args:
        nodes: Some of `graph_nodes(model)`, in their order.
        values: Dict from the id of a symbolic tensor to its value; gets those of the outputs.
        operation_fn: As in `run_graph`.
    """
    for node in nodes:
        args, kwargs = call_arguments(node, values)
        outputs = keras.tree.flatten(operation_fn(node.operation)(*args, **kwargs))
        values.update(zip(map(id, node.outputs), outputs, strict=True))


def outputs_from(model: keras.Model, values: Mapping[int, Any]) -> Any:
    """The outputs of `model`, structured as those of a call, from `values` as in `run_nodes`."""
    flat = [values[id(tensor)] for tensor in model.outputs]
    outputs = keras.tree.pack_sequence_as(model._outputs_struct, flat)
    single = isinstance(outputs, (list, tuple)) and len(outputs) == 1
    return outputs[0] if single else outputs
