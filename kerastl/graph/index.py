"""Who makes and who reads each tensor of a flat graph."""

import collections
from typing import Any

import keras

from kerastl import _keras


class GraphIndex:
    """The calls of a flat functional model, and who makes and reads what.

    It is of the moment when it was made: what the model calls later is not in it.

    Args:
        model: Flat functional `keras.Model`.

    Attributes:
        model: As given.
        nodes: List of its calls, in the order in which Keras runs them, inputs left out.
        calls: Dict from the id of an operation to the list of its calls.
        makers: Dict from the id of a tensor to the call that makes it; inputs are not in it.
        readers: Dict from the id of a tensor to the list of the calls that read it, each once, in
            order; None at its end stands for an output of the model.

    Example:
        >>> import keras
        >>> inputs = keras.Input((4,))
        >>> hidden = keras.layers.Dense(3, name="body")(inputs)
        >>> index = GraphIndex(keras.Model(inputs, keras.layers.ReLU(name="relu")(hidden)))
        >>> index.makers[id(hidden)].operation.name, index.readers[id(hidden)][0].operation.name
        ('body', 'relu')
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.nodes = _keras.graph_nodes(model)
        self.makers = {id(tensor): node for node in self.nodes for tensor in node.outputs}
        self.calls, self.readers = collections.defaultdict(list), collections.defaultdict(list)
        for node in self.nodes:
            self.calls[id(node.operation)].append(node)
            for key in {id(tensor): None for tensor in node.input_tensors}:
                self.readers[key].append(node)
        for tensor in model.outputs:
            self.readers[id(tensor)].append(None)

    def sole_reader(self, node: Any) -> Any:
        """The one call that reads what `node` gives; None if there are more, or the model does."""
        readers = [reader for tensor in node.outputs for reader in self.readers[id(tensor)]]
        return readers[0] if len(readers) == 1 else None

    def follower(self, node: Any) -> Any:
        """The sole reader of `node` if the operations of both are called just once, else None."""
        reader = self.sole_reader(node)
        alone = reader is not None and all(
            len(self.calls[id(each.operation)]) == 1 for each in (node, reader)
        )
        return reader if alone else None
