"""A model's graph: flat, in named groups, selected from, run and rewritten."""

from kerastl.graph.flatten import flat_layers, flatten
from kerastl.graph.layer_groups import LayerGroups, layer_groups
from kerastl.graph.leaves import leaf_layers
from kerastl.graph.selection import select_layers

__all__ = ["LayerGroups", "flat_layers", "flatten", "layer_groups", "leaf_layers", "select_layers"]
