"""The deepest layers of a model, and which variables each of them owns itself."""

import dataclasses
from collections.abc import Sequence

import keras

from kerastl import _keras
from kerastl.graph.adapters import adapted
from kerastl.graph.flatten import Walk, flat_layers, require_graph, walk


def leaf_layers(layer_or_model: keras.Layer) -> list[keras.Layer]:
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


def variables_of_no_sublayer(layer: keras.Layer) -> list[keras.Variable]:
    """The variables of `layer` that belong to none of its sublayers, random states included."""
    below = {id(v) for child in _keras.sublayers_without_inputs(layer) for v in child.variables}
    return [v for v in layer.variables if id(v) not in below]


def leaves_with_paths(layer: keras.Layer) -> list[tuple[keras.Layer, tuple[str, ...]]]:
    """`(leaf, names)` for each leaf of `layer`; `names` leads from `layer` down to the leaf."""
    found = {}
    _collect(layer, (), found)
    return list(found.values())


def _collect(layer, names, found):
    if id(layer) in found:
        return
    children = _children(layer)
    is_graph = _keras.graph_of(layer) is not None
    if not children or (variables_of_no_sublayer(layer) and not is_graph):
        found[id(layer)] = (layer, names)
    for child in children:
        if not (names and isinstance(child, keras.layers.InputLayer)):
            _collect(child, (*names, child.name), found)


def _children(layer):
    """Sublayers in order: those of the graph first, then any kept beside it."""
    if _keras.graph_of(layer) is None:
        return _keras.sublayers_without_inputs(layer)
    flat = flat_layers(layer)
    seen = {id(child) for child in flat}
    beside = [c for c in _keras.sublayers_without_inputs(layer) if id(c) not in seen]
    return [*flat, *(c for c in beside if _keras.graph_of(c) is None)]


@dataclasses.dataclass(frozen=True)
class Unit:
    """One leaf layer and its place.

    Attributes:
        layer: The leaf layer.
        flat_layer: The layer of the flat graph that is it or holds it.
        index: Index of `flat_layer` in `flat_layers(model)`; None if it is a layer of a nested
            model whose result no output needs, which therefore has no place there.
        names: Names from `flat_layer` down to `layer`.
        trail: Names of the nested models around `flat_layer`, outermost first.
    """

    layer: keras.Layer
    flat_layer: keras.Layer
    index: int | None
    names: tuple[str, ...]
    trail: tuple[str, ...]

    @property
    def path(self) -> str:
        """`names` joined by slashes: `transformer_layer_3/self_attention_layer/query`."""
        return "/".join(self.names)

    @property
    def full_path(self) -> str:
        """`path` with the nested models before it: `bert/transformer_layer_3/...`."""
        return "/".join((*self.trail, *self.names))


def units_of(model: keras.Model) -> list["Unit"]:
    """Each leaf layer of `model` as a `Unit`, in the order of the flat graph, unused ones last.

    The leaves of an adapter come after all those, with the place of what it goes with.
    """
    units = units_and_walk(model)[0]
    return [*units, *(unit for unit, _ in units_of_adapters(model, units))]


def units_of_adapters(model: keras.Model, units: Sequence["Unit"]) -> list[tuple["Unit", "Unit"]]:
    """Each leaf of an adapter of `model` as a `Unit`, and that of `units` which it goes with."""
    by_leaf, found = {id(unit.layer): unit for unit in units}, []
    for adapter, layer in adapted(model):
        below = [by_leaf[id(leaf)] for leaf in (layer, *leaf_layers(layer)) if id(leaf) in by_leaf]
        beside = below[0]
        for leaf, names in leaves_with_paths(adapter):
            path = (*beside.names, adapter.name, *names)
            unit = Unit(leaf, beside.flat_layer, beside.index, path, beside.trail)
            found.append((unit, beside))
    return found


def units_and_walk(model: keras.Model) -> tuple[list["Unit"], Walk]:
    """`(units, walk)`, for those who need the edges of the graph as well."""
    found = walk(require_graph(model))
    layers = [op for op in found.operations if isinstance(op, keras.Layer)]
    unused = [op for op in found.unused if isinstance(op, keras.Layer)]
    units = {}
    for index, layer in [*enumerate(layers), *((None, layer) for layer in unused)]:
        for leaf, names in leaves_with_paths(layer):
            unit = Unit(leaf, layer, index, (layer.name, *names), found.trails[id(layer)])
            units.setdefault(id(leaf), unit)
    return list(units.values()), found
