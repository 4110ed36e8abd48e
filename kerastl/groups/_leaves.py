"""The deepest layers of a model, and which variables each of them owns itself."""

import keras

from kerastl.groups import _graph
from kerastl.groups.flatten import flat_layers


def leaf_layers(layer_or_model):
    """The layers that do the work: those without sublayers, in order from input to head.

    A composite layer (a transformer block, a Bidirectional wrapper, a nested subclassed model)
    is replaced by its sublayers, at any depth. A composite that owns variables itself, besides
    those of its sublayers, is listed too, before them. A shared layer is listed once.

    Args:
        layer_or_model: A Keras layer or model. A functional or Sequential model is read in the
            order of `flat_layers`, any other in the order in which its sublayers were made.

    Returns:
        List of layers.

    Raises:
        TypeError: If `layer_or_model` is not a Keras layer.

    Example:
        >>> layer = keras.layers.Bidirectional(keras.layers.LSTM(2, name="lstm"))
        >>> [leaf.name for leaf in leaf_layers(layer)]
        ['lstm_cell', 'lstm_cell']
    """
    if not isinstance(layer_or_model, keras.Layer):
        raise TypeError(
            "`layer_or_model` must be a keras.Layer. Received: "
            f"layer_or_model={layer_or_model!r} (of type "
            f"{type(layer_or_model).__module__}.{type(layer_or_model).__qualname__})"
        )
    return [layer for layer, _ in leaves_with_paths(layer_or_model)]


def own_variables(layer):
    """The variables of `layer` that belong to none of its sublayers, random states included."""
    below = {id(v) for child in _graph.sublayers(layer) for v in child.variables}
    return [v for v in layer.variables if id(v) not in below]


def leaves_with_paths(layer):
    """`(leaf, names)` for each leaf of `layer`; `names` leads from `layer` down to the leaf."""
    found = {}
    _collect(layer, (), found)
    return list(found.values())


def _collect(layer, names, found):
    if id(layer) in found:
        return
    children = _children(layer)
    is_graph = _graph.graph_of(layer) is not None
    if not children or (own_variables(layer) and not is_graph):
        found[id(layer)] = (layer, names)
    for child in children:
        if not (names and isinstance(child, keras.layers.InputLayer)):
            _collect(child, (*names, child.name), found)


def _children(layer):
    """Sublayers in order: those of the graph first, then any kept beside it."""
    if _graph.graph_of(layer) is None:
        return _graph.sublayers(layer)
    flat = flat_layers(layer)
    seen = {id(child) for child in flat}
    beside = [c for c in _graph.sublayers(layer) if id(c) not in seen]
    return [*flat, *(c for c in beside if _graph.graph_of(c) is None)]
