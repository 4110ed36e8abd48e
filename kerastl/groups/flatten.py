"""One flat functional graph instead of models nested in models."""

import keras

from kerastl.groups import _graph
from kerastl.groups._inline import inline, walk
from kerastl.groups._names import make_unique


def flatten(model, cls=keras.Model, name=None):
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
        ValueError: If `model` has no graph: a subclassed model, or one not yet built.

    Example:
        >>> base = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="features")])
        >>> inputs = keras.Input((4,), name="pixels")
        >>> model = keras.Model(inputs, keras.layers.Dense(2, name="head")(base(inputs)))
        >>> [layer.name for layer in flatten(model).layers]
        ['pixels', 'features', 'head']
    """
    graph = require_graph(model)
    name = model.name if name is None else name
    if not any(_graph.graph_of(node.operation) for node in _graph.nodes(graph)):
        return cls(graph.input, graph.output, name=name)
    found = walk(graph)
    outputs = inline(graph, graph.inputs, _call)
    added = [
        operation
        for operation in _graph.operations_between(graph.inputs, outputs)
        if id(operation) not in found.trails
    ]
    make_unique([*found.operations, *added], found.trails)
    return cls(graph.input, outputs, name=name)


def flat_layers(model):
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


def require_graph(model):
    """The graph of `model`, or an error that says what to do."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            "`model` must be a keras.Model. Received: "
            f"model={model!r} (of type {type(model).__module__}.{type(model).__qualname__})"
        )
    graph = _graph.graph_of(model)
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
