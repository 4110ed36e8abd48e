"""A functional graph whose operations are replaced one by one."""

import collections

import keras

from kerastl import _keras


class Graph:
    """The calls of a flat functional model, and who reads what.

    Args:
        model: Flat functional `keras.Model`.

    Attributes:
        model: As given.
        nodes: List of its calls, in the order Keras runs them.
        calls: Dict from the id of an operation to its calls.
        readers: Dict from the id of a tensor to the calls that read it; None stands for the output
            of the model.
    """

    def __init__(self, model):
        self.model = model
        self.nodes = _keras.graph_nodes(model)
        self.calls, self.readers = collections.defaultdict(list), collections.defaultdict(list)
        for node in self.nodes:
            self.calls[id(node.operation)].append(node)
            for key in {id(tensor): None for tensor in node.input_tensors}:
                self.readers[key].append(node)
        for tensor in model.outputs:
            self.readers[id(tensor)].append(None)

    def sole_reader(self, node):
        """The one call that reads what `node` gives; None if there are more, or the model does."""
        readers = [reader for tensor in node.outputs for reader in self.readers[id(tensor)]]
        return readers[0] if len(readers) == 1 else None

    def rebuilt(self, place, entrance, cls):
        """A new model of the same graph, each call made by `place`.

        Args:
            place: Function of `(node, args, kwargs)` that returns the outputs of a call.
            entrance: Function of an original and a new input tensor that returns what takes its
                place in the graph.
            cls: Class of the new model.
        """
        model = self.model
        layers = {id(x.output): x for x in model.layers if isinstance(x, keras.layers.InputLayer)}
        inputs = [_copy_input(layers[id(tensor)]) for tensor in model.inputs]
        values = {id(old): entrance(old, x) for old, x in zip(model.inputs, inputs, strict=True)}
        for node in self.nodes:
            args, kwargs = node.arguments.fill_in(values)
            outputs = keras.tree.flatten(place(node, args, kwargs))
            values.update(zip(map(id, node.outputs), outputs, strict=True))
        structured = keras.tree.pack_sequence_as(model.input, inputs)
        return cls(structured, _keras.outputs_from(model, values), name=model.name)


def copy_of(layer, **changes):
    """A layer like `layer`, without its weights; an operation that is no layer is itself."""
    if not isinstance(layer, keras.Layer):
        return layer
    return type(layer).from_config(layer.get_config() | changes)


def copy_weights(layer, new):
    """Give `new` the weights of `layer`."""
    for old, fresh in zip(layer.weights, new.weights, strict=True):
        fresh.assign(old)


def _copy_input(layer):
    return type(layer).from_config(layer.get_config()).output
