"""A folded model with its kernels and activations rounded to 8 bits."""

import keras

from kerastl.compression.quantize import parts
from kerastl.compression.quantize.graph import Graph, copy_of, copy_weights
from kerastl.compression.quantize.kinds import WEIGHTED
from kerastl.compression.quantize.layers import QUANTIZED
from kerastl.compression.quantize.policy import FIXED, Policy
from kerastl.compression.quantize.ranges import FakeQuantize, KeepFloat


def fake_quantize(folded, kept=frozenset()):
    """Round kernels and activations of a folded model, where int8 kernels will.

    Args:
        folded: Flat functional `keras.Model`, as `fold` makes it.
        kept: Set of the ids of its operations that are to stay float.

    Returns:
        Model of the same class with weights of its own, and the `Policy` it was made by.
    """
    graph = Graph(folded)
    making = _Making(graph, Policy(graph, kept))
    made = graph.rebuilt(making.place, making.entrance, type(folded))
    for layer, new in making.copies.values():
        if isinstance(layer, keras.Layer):
            copy_weights(layer, new)
            parts.copy_flags(layer, new, making.training)
    return made, making.policy


class _Making:
    """The state of one rewriting.

    Attributes:
        copies: Dict from the id of an operation to it and what took its place.
    """

    def __init__(self, graph, policy):
        self.graph, self.policy, self.copies = graph, policy, {}
        self.training = {id(leaf) for leaf in parts.training_leaves(graph.model)}
        self._ranges = {}  # id of a new tensor → the FakeQuantize whose range it has
        self._names = {operation.name for operation in graph.model.operations}

    def entrance(self, old, new):
        if not self.policy.wants_range(old):
            return new
        return self._rounded(new, self._new_range(old.name, True))

    def place(self, node, args, kwargs):
        step = self.policy.steps[id(node)]
        given = [x for x in keras.tree.flatten([args, kwargs]) if id(x) in self._ranges]
        new = self._copy(step)
        if given and isinstance(new, tuple(QUANTIZED.values())) and new.use_bias:
            kwargs = {**kwargs, "step": self._ranges[id(given[0])](given[0], step_only=True)}
        outputs = new(*args, **kwargs)
        if step.range == "same":
            return self._rounded(outputs, self._ranges[id(given[0])], observe=False)
        if step.range == "fixed":
            low, high = FIXED[step.kind]
            layer = FakeQuantize(low, high, name=self._name(step.name))
            return self._rounded(outputs, layer)
        if step.range == "own":
            operation = node.operation
            trains = not isinstance(operation, keras.Layer) or id(operation) in self.training
            return self._rounded(outputs, self._new_range(step.name, trains))
        if self.policy.is_kept(step):
            mark = KeepFloat(name=self._name(step.name, "float"))
            return keras.tree.map_structure(mark, outputs)
        if given and step.why_float is None and len(node.outputs) == 1:
            self._ranges[id(keras.tree.flatten(outputs)[0])] = self._ranges[id(given[0])]
        return outputs

    def _copy(self, step):
        operation = step.node.operation
        if id(operation) not in self.copies:
            if step.kind in WEIGHTED and step.why_float is None:
                new = QUANTIZED[step.kind].from_config(operation.get_config())
            else:
                new = copy_of(operation)
            self.copies[id(operation)] = operation, new
        return self.copies[id(operation)][1]

    def _new_range(self, name, trains):
        layer = FakeQuantize(name=self._name(name))
        layer.trainable = trains
        return layer

    def _rounded(self, tensor, layer, **kwargs):
        outputs = layer(tensor, **kwargs)
        self._ranges[id(outputs)] = layer
        return outputs

    def _name(self, name, what="range"):
        """A name that no other layer has: a layer called twice has a range for each call."""
        stem, number = f"{name}_{what}", 0
        name = stem
        while name in self._names:
            number += 1
            name = f"{stem}_{number}"
        self._names.add(name)
        return name
