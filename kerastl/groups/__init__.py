"""Ordered layer groups: what every other part of kerastl speaks of when it says `where`."""

from kerastl.groups._leaves import leaf_layers
from kerastl.groups.flatten import flat_layers, flatten
from kerastl.groups.layer_groups import LayerGroups, layer_groups
from kerastl.groups.selection import select_layers

__all__ = ["LayerGroups", "flat_layers", "flatten", "layer_groups", "leaf_layers", "select_layers"]
