"""Unrolling nested models: one routine, run with real calls or with recorded stand-ins."""

import collections

import keras

from kerastl.groups import _graph

Walk = collections.namedtuple("Walk", ["operations", "unused", "trails", "sources"])
Walk.__doc__ = """What `walk` found.

Attributes:
    operations: List of the operations of the flat graph, in the order Keras gives them.
    unused: List of operations of nested models whose results no output needs, such as the pooler
        of a BERT of which only the sequence is used. The flat graph has no place for them.
    trails: Dict from `id(operation)` to the names of the nested models around it, outermost
        first; `()` for an operation of the model itself.
    sources: Dict from `id(operation)` to the operations whose outputs it reads.
"""


class StandIn(keras.Operation):
    """Stands for `operation` in a recorded graph, so that the real one gets no new node."""

    def __init__(self, operation, index):
        super().__init__(name=f"stand_in_{index}")
        self.operation = operation


def inline(graph, inputs, call, trail=()):
    """Run `graph` on `inputs` with every nested graph unrolled.

    Args:
        graph: A functional model.
        inputs: Flat list of symbolic tensors, one for each of `graph.inputs`.
        call: Function of `(node, args, kwargs, trail)` that returns the outputs of one node.
        trail: Names of the models around `graph`.

    Returns:
        The outputs, in the structure of `graph.output`.
    """
    tensors = {id(ref): x for ref, x in zip(graph.inputs, inputs, strict=True)}
    for node in _graph.nodes(graph):
        if any(id(x) not in tensors for x in node.input_tensors):
            continue  # Keras skips what cannot be computed from the inputs, too.
        args, kwargs = _graph.call_arguments(node, tensors)
        nested = _graph.graph_of(node.operation)
        if nested is None:
            outputs = call(node, args, kwargs, trail)
        else:
            inner = (*trail, node.operation.name)
            outputs = inline(nested, _entering(nested, args, kwargs), call, inner)
        tensors.update(zip(map(id, node.outputs), keras.tree.flatten(outputs), strict=True))
    return keras.tree.pack_sequence_as(graph.output, [tensors[id(x)] for x in graph.outputs])


def walk(graph):
    """The operations of the flattened `graph`, found without adding a node to any of them."""
    if not any(_graph.graph_of(node.operation) for node in _graph.nodes(graph)):
        trails = {id(op): () for op in graph.operations}
        return Walk(graph.operations, [], trails, _sources(graph))
    stand_ins, trails = {}, {}

    def stand_in(operation, trail=()):
        trails.setdefault(id(operation), trail)
        return stand_ins.setdefault(id(operation), StandIn(operation, len(stand_ins)))

    def record(node, args, kwargs, trail):
        return _graph.record_call(stand_in(node.operation, trail), args, kwargs, node.outputs)

    inputs = [
        _graph.record_call(stand_in(layer), (), {}, [ref])[0]
        for layer, ref in zip(input_layers(graph), graph.inputs, strict=True)
    ]
    outputs = inline(graph, inputs, record)
    recorded = keras.Function(inputs, outputs)
    operations = [op.operation for op in recorded.operations if isinstance(op, StandIn)]
    used = {id(op) for op in operations}
    unused = [op.operation for op in stand_ins.values() if id(op.operation) not in used]
    return Walk(operations, unused, trails, _sources(recorded))


def _sources(graph):
    sources = collections.defaultdict(list)
    for node in _graph.nodes(graph):
        read = [_real(_graph.producer(x)) for x in node.input_tensors]
        sources[id(_real(node.operation))].extend(read)
    return sources


def _real(operation):
    return operation.operation if isinstance(operation, StandIn) else operation


def input_layers(graph):
    """The InputLayer behind each of `graph.inputs`."""
    return [_graph.producer(x) for x in graph.inputs]


def _entering(graph, args, kwargs):
    """The flat inputs of a nested call, converted as Keras does when it enters a nested model."""
    bound = dict(zip(("inputs", "training", "mask"), args, strict=False)) | kwargs
    given, mask = bound["inputs"], bound.get("mask")
    if isinstance(given, dict) and not isinstance(graph.input, dict):
        given = [given[ref.name] for ref in graph.inputs]
    flat = [
        _as_input(x, ref) for x, ref in zip(keras.tree.flatten(given), graph.inputs, strict=True)
    ]
    for x, m in zip(flat, keras.tree.flatten(mask) if mask is not None else (), strict=False):
        if m is not None:
            _graph.set_mask(x, m)
    return flat


def _as_input(x, ref):
    """`x` with the dtype, density and rank that the input `ref` of a nested model declares."""
    if x is None:
        return None
    if x.dtype != ref.dtype or x.sparse != ref.sparse:
        x = keras.ops.convert_to_tensor(x, dtype=ref.dtype, sparse=ref.sparse)
    if len(x.shape) == len(ref.shape) + 1:
        return keras.ops.squeeze(x, axis=-1)
    if len(x.shape) == len(ref.shape) - 1:
        return keras.ops.expand_dims(x, axis=-1)
    return x
