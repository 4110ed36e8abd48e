"""One flat functional graph instead of models nested in models."""

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras

from kerastl import _keras
from kerastl.graph.adapters import refuse_adapters


def flatten(
    model: keras.Model, cls: Callable[..., keras.Model] = keras.Model, name: str | None = None
) -> keras.Model:
    """A flat functional model that shares every layer and weight of `model`.

    Nested functional and Sequential models, at any depth, are replaced by their own layers, so
    that each layer can be reached, frozen and trained by itself. The outputs are bit-equal. A
    model applied twice (a siamese pair) stays shared. `keras.ops` nodes, masks, and the
    structure of inputs and outputs are kept. A recorded `training=` constant of a nested call is
    dropped: `fit`, `evaluate` and `predict` overwrite it anyway. A nested *subclassed* model or
    layer has no graph to inline and stays one composite layer.

    A functional model needs unique layer names. Where two different layers of nested models
    have the same name, the one nested less deeply, then the earlier one, keeps it and the other
    is **renamed** to `<nested model>.<layer>`, for `model` too, since the layers are shared.
    Weight files do not depend on it.

    Args:
        model: A functional or built Sequential `keras.Model`.
        cls: Class of the result; called as `cls(inputs, outputs, name=name)`.
        name: Name of the result. By default that of `model`.

    Returns:
        A functional model of class `cls`. If nothing is nested, it runs over the nodes of
        `model` itself and adds none.

    Raises:
        TypeError: If `model` is not a Keras model.
        ValueError: If `model` has no graph: a subclassed model, or one not yet built; or if it
            has adapters, which are no part of the graph.

    Example:
        >>> base = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="features")])
        >>> inputs = keras.Input((4,), name="pixels")
        >>> model = keras.Model(inputs, keras.layers.Dense(2, name="head")(base(inputs)))
        >>> [layer.name for layer in flatten(model).layers]
        ['pixels', 'features', 'head']
    """
    graph = require_graph(model)
    refuse_adapters(model, "`flatten`")
    name = model.name if name is None else name
    if not is_nested(graph):
        return cls(graph.input, graph.output, name=name)
    found = walk(graph)
    outputs = inline(graph, graph.inputs, _call)
    added = [
        operation
        for operation in _keras.operations_between(graph.inputs, outputs)
        if id(operation) not in found.trails
    ]
    make_unique([*found.operations, *added], found.trails)
    return cls(graph.input, outputs, name=name)


def is_nested(graph: Any) -> bool:
    """Whether a functional model holds models that have a graph of their own."""
    return any(_keras.graph_of(node.operation) for node in _keras.graph_nodes(graph))


def flat_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers of `flatten(model)`, in the same order, without touching the model.

    A pure walk: no node is added and no layer is renamed. Indices into this list are the
    indices that `freeze(model, slice(0, 100))` means.

    Args:
        model: A functional or built Sequential `keras.Model`.

    Returns:
        List of layers, input layers included, `keras.ops` nodes left out.

    Raises:
        TypeError: If `model` is not a Keras model.
        ValueError: If `model` has no graph: a subclassed model, or one not yet built.

    Example:
        >>> base = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="features")])
        >>> model = keras.Sequential([keras.Input((4,), name="pixels"), base])
        >>> [layer.name for layer in flat_layers(model)]
        ['pixels', 'features']
    """
    operations = walk(require_graph(model)).operations
    return [operation for operation in operations if isinstance(operation, keras.Layer)]


def layers_at_any_depth(model: keras.Model) -> list[keras.Layer]:
    """Every layer in the graph of `model`, each before those inside it, adapters left out.

    The order is the same in another process, so that a layer can be told by its position.
    """
    found = {}
    for layer in flat_layers(model):
        for inner in _keras.with_sublayers(layer):
            found.setdefault(id(inner), inner)
    return list(found.values())


def require_graph(model: keras.Layer) -> keras.Model:
    """The graph of `model`, or an error that says what to do."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            "`model` must be a keras.Model. Received: "
            f"model={model!r} (of type {type(model).__module__}.{type(model).__qualname__})"
        )
    graph = _keras.graph_of(model)
    if graph is None and type(model) is keras.Sequential:
        raise ValueError(
            f"`model` must be built, because an unbuilt Sequential model has no graph. Received: "
            f"model={model.name!r}. Begin it with a `keras.Input`, or call `model.build(shape)`."
        )
    if graph is None:
        raise ValueError(
            f"`model` must be a functional or Sequential model, because the `call` of a subclass "
            f"cannot be read as a graph. Received: model={model.name!r} (of type "
            f"{type(model).__module__}.{type(model).__qualname__}). Wrap it: `inputs = "
            f"keras.Input(...); model = keras.Model(inputs, model(inputs))`; it then counts as "
            f"one layer. A functional subclass whose `call` runs its own graph may say so by a "
            f"class attribute `runs_own_graph = True`."
        )
    return graph


def _call(node, args, kwargs, trail):
    kwargs = {key: value for key, value in kwargs.items() if key != "training"}
    return node.operation(*args, **kwargs)


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

    def __init__(self, operation: keras.Operation, index: int) -> None:
        super().__init__(name=f"stand_in_{index}")
        self.operation = operation


def inline(
    graph: keras.Model,
    inputs: Sequence[keras.KerasTensor],
    call: Callable[..., Any],
    trail: tuple[str, ...] = (),
) -> Any:
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
    for node in _keras.graph_nodes(graph):
        if any(id(x) not in tensors for x in node.input_tensors):
            continue  # Keras skips what cannot be computed from the inputs, too.
        args, kwargs = _keras.call_arguments(node, tensors)
        nested = _keras.graph_of(node.operation)
        if nested is None:
            outputs = call(node, args, kwargs, trail)
        else:
            inner = (*trail, node.operation.name)
            outputs = inline(nested, _entering(nested, args, kwargs), call, inner)
        tensors.update(zip(map(id, node.outputs), keras.tree.flatten(outputs), strict=True))
    return keras.tree.pack_sequence_as(graph.output, [tensors[id(x)] for x in graph.outputs])


def walk(graph: keras.Model) -> "Walk":
    """The operations of the flattened `graph`, found without adding a node to any of them."""
    if not is_nested(graph):
        trails = {id(op): () for op in graph.operations}
        return Walk(graph.operations, [], trails, _sources(graph))
    stand_ins, trails = {}, {}

    def stand_in(operation, trail=()):
        trails.setdefault(id(operation), trail)
        return stand_ins.setdefault(id(operation), StandIn(operation, len(stand_ins)))

    def record(node, args, kwargs, trail):
        return _keras.record_call(stand_in(node.operation, trail), args, kwargs, node.outputs)

    inputs = [
        _keras.record_call(stand_in(layer), (), {}, [ref])[0]
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
    for node in _keras.graph_nodes(graph):
        read = [_real(_keras.producer_of(x)) for x in node.input_tensors]
        sources[id(_real(node.operation))].extend(read)
    return sources


def _real(operation):
    return operation.operation if isinstance(operation, StandIn) else operation


def input_layers(graph: keras.Model) -> list[keras.Layer]:
    """The InputLayer behind each of `graph.inputs`."""
    return [_keras.producer_of(x) for x in graph.inputs]


def _entering(graph, args, kwargs) -> list[Any]:
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
            _keras.set_keras_mask(x, m)
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


def make_unique(
    operations: Iterable[keras.Operation], trails: Mapping[int, tuple[str, ...]]
) -> None:
    """Rename those of `operations` whose name an earlier or less deeply nested one holds.

    Layers keep their names before plain operations do, the less deeply nested before the more
    deeply nested, the earlier before the later. The new name is the path of nested models and
    the old name, joined by dots, with a number where even that is taken.

    Args:
        operations: The operations of one graph, in order.
        trails: Dict from `id(operation)` to the names of the nested models around it.
    """
    taken = set()
    for operation in sorted(operations, key=lambda op: _seniority(op, trails)):
        operation.name = _free_name(operation.name, trails.get(id(operation), ()), taken)
        taken.add(operation.name)


def _seniority(operation, trails):
    return (not isinstance(operation, keras.Layer), len(trails.get(id(operation), ())))


def _free_name(name, trail, taken):
    if name not in taken:
        return name
    name = ".".join((*trail, name))
    number = 1
    unique = name
    while unique in taken:
        unique = f"{name}_{number}"
        number += 1
    return unique
