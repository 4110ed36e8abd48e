"""Private names of Keras's functional graphs."""

import keras
from keras.src.backend import get_keras_mask, set_keras_mask  # noqa: F401 (re-exported)


def run_graph(model, inputs, mask, operation_fn):
    """Run a functional model's graph on `inputs`, each node through `operation_fn(operation)`.

    `Functional.call` offers no way to give each layer its own `training`; it overwrites the value
    recorded in the graph by the container's (keras/src/models/functional.py, `operation_fn`).
    """
    inputs = model._standardize_inputs(inputs)
    if mask is not None:
        for tensor, tensor_mask in zip(inputs, keras.tree.flatten(mask), strict=True):
            if tensor_mask is not None:
                tensor._keras_mask = tensor_mask
    outputs = model._run_through_graph(inputs, operation_fn=operation_fn)
    single = isinstance(outputs, (list, tuple)) and len(outputs) == 1
    return outputs[0] if single else outputs


def graph_nodes(model):
    """The calls in a functional model's graph, in the order Keras runs them, inputs left out.

    `Model.operations` has no edges; only `_nodes_by_depth` has.
    """
    depths = sorted(model._nodes_by_depth, reverse=True)
    return [node for depth in depths for node in model._nodes_by_depth[depth] if not node.is_input]


def run_nodes(nodes, values, operation_fn):
    """Run some of a graph's nodes, as `run_graph` runs all of them.

    Args:
        nodes: Some of `graph_nodes(model)`, in their order.
        values: Dict from the id of a symbolic tensor to its value; gets those of the outputs.
        operation_fn: As in `run_graph`.
    """
    for node in nodes:
        args, kwargs = node.arguments.fill_in(values)
        outputs = keras.tree.flatten(operation_fn(node.operation)(*args, **kwargs))
        values.update(zip(map(id, node.outputs), outputs, strict=True))


def outputs_from(model, values):
    """The outputs of `model`, structured as those of a call, from `values` as in `run_nodes`."""
    flat = [values[id(tensor)] for tensor in model.outputs]
    outputs = keras.tree.pack_sequence_as(model._outputs_struct, flat)
    single = isinstance(outputs, (list, tuple)) and len(outputs) == 1
    return outputs[0] if single else outputs
