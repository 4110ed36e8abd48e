"""A graph run layer by layer on some examples, with the weights that it had and those that stay."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl import _keras
from kerastl.graph.run import infer


class Originals:
    """What weights were before they were changed.

    Args:
        variables: The `keras.Variable`s, not changed yet.
    """

    def __init__(self, variables: Sequence[keras.Variable]) -> None:
        self.variables = list(variables)
        self._values = {id(variable): _copy(variable) for variable in self.variables}

    def __getitem__(self, variable: keras.Variable) -> Any:
        return self._values[id(variable)]

    def within(self, operation: keras.Operation) -> list[keras.Variable]:
        """Those variables that `operation` has."""
        weights = getattr(operation, "weights", ())
        return [weight for weight in weights if id(weight) in self._values]

    def restore(self) -> None:
        """Put all of them back for good."""
        for variable in self.variables:
            variable.assign(self[variable])

    @contextlib.contextmanager
    def put_back(self, operation: keras.Operation) -> Iterator[None]:
        """Have `operation` compute with what its weights were while this lasts."""
        variables = self.within(operation)
        now = [_copy(variable) for variable in variables]
        try:
            for variable in variables:
                variable.assign(self[variable])
            yield
        finally:
            for variable, value in zip(variables, now, strict=True):
                variable.assign(value)


def _copy(variable):
    return np.array(keras.ops.convert_to_numpy(variable))


def run_both(
    model: keras.Model,
    batches: Iterable[list[tf.Tensor]],
    originals: Originals,
    visit: Callable[..., None],
) -> None:
    """Run `model` in inference mode, one operation after the other, with both sets of weights.

    Before an operation with such weights runs for the first time, `visit(operation, before, now)`
    may change these: two lists of what it reads, a tensor a batch, in the network as it was
    and in that of now, whose weights below are final.

    Args:
        model: Flat functional `keras.Model`.
        batches: List of lists of input tensors.
        originals: `Originals`.
        visit: Function.
    """
    inputs = [id(tensor) for tensor in model.inputs]
    before = [dict(zip(inputs, batch, strict=True)) for batch in batches]
    now, visited = before, set()
    nodes = _keras.graph_nodes(model)
    for node, spent in zip(nodes, _spent_after(nodes), strict=True):
        operation = node.operation
        if originals.within(operation):
            if now is before:  # what lies below the first of them is the same in both
                now = [dict(values) for values in before]
            if id(operation) not in visited:
                visited.add(id(operation))
                read = id(node.input_tensors[0])
                visit(operation, [v[read] for v in before], [v[read] for v in now])
        with originals.put_back(operation):
            for values in before:
                _keras.run_nodes([node], values, infer)
        for values in now if now is not before else ():
            _keras.run_nodes([node], values, infer)
        for values in [*before, *now]:
            for tensor in spent:
                values.pop(tensor, None)


def _spent_after(nodes):
    """For each node the ids of the tensors that no later one reads."""
    seen, found = set(), []
    for node in reversed(nodes):
        new = {id(t) for t in (*node.input_tensors, *node.outputs)} - seen
        seen |= new
        found.append(new)
    return reversed(found)
