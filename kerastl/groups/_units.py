"""The leaf layers of a model together with where each of them is."""

import dataclasses

import keras

from kerastl.groups._inline import walk
from kerastl.groups._leaves import leaves_with_paths
from kerastl.groups.flatten import require_graph


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
    index: int
    names: tuple
    trail: tuple

    @property
    def path(self):
        """`names` joined by slashes: `transformer_layer_3/self_attention_layer/query`."""
        return "/".join(self.names)

    @property
    def full_path(self):
        """`path` with the nested models before it: `bert/transformer_layer_3/...`."""
        return "/".join((*self.trail, *self.names))


def units_of(model):
    """Each leaf layer of `model` as a `Unit`, in the order of the flat graph, unused ones last."""
    return units_and_walk(model)[0]


def units_and_walk(model):
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
