"""A model's graph: flat, in named groups, selected from, run and rewritten."""

from kerastl.graph.fine_tuner import check_fine_tuner, is_fine_tuner
from kerastl.graph.flatten import flat_layers, flatten
from kerastl.graph.layer_groups import LayerGroups, layer_groups
from kerastl.graph.leaves import leaf_layers
from kerastl.graph.selection import select_layers

__all__ = [
    "LayerGroups",
    "check_fine_tuner",
    "flat_layers",
    "flatten",
    "is_fine_tuner",
    "layer_groups",
    "leaf_layers",
    "select_layers",
]
