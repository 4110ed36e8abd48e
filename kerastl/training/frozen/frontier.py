"""Where a network's frozen part ends: the tensors that cross from inert to training layers."""

import functools
import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from kerastl import _keras
from kerastl._base import checks
from kerastl.graph.flags import trains
from kerastl.graph.index import GraphIndex
from kerastl.graph.run import folded_pairs, is_inert, run_evaluation
from kerastl.training.frozen.part import Features, Subgraph, with_masks

if TYPE_CHECKING:
    from kerastl.training.fine_tuner import FineTuner

UNKNOWN_SIZE = 64  # stands for an axis of unknown length where two cuts are compared


def find_frontier(model: "FineTuner") -> "Frontier":
    """The `Frontier` of `model` as its layers are frozen now.

    An operation is static if all its inputs are and it is steady itself (`unsteady`). The frontier
    is what static operations hand to the others, or to the outputs, as late as possible; but not
    behind an operation without weights whose result is larger than what goes into it, such as
    padding, or an activation whose input crosses the frontier too.

    Args:
        model: `FineTuner`.

    Example:
        >>> inputs = keras.Input((4,))
        >>> hidden = keras.layers.Dense(3, trainable=False, name="body")(inputs)
        >>> frontier = find_frontier(keras.Model(inputs, keras.layers.Dense(2)(hidden)))
        >>> [layer.name for layer in frontier.static_layers], frontier.tensors[0].shape
        (['body'], (None, 3))
    """
    cuts = _Cuts(model)
    static, upper, blocked_by = {id(tensor) for tensor in model.inputs}, set(), {}
    for node in cuts.index.nodes:
        if not all(id(tensor) in static for tensor in node.input_tensors):
            upper.add(id(node))
        elif why := unsteady(node.operation):
            upper.add(id(node))
            blocked_by[node.operation] = why
        else:
            static.update(map(id, node.outputs))
    return Frontier(cuts, _cheapest(cuts, upper), blocked_by)


class Frontier:
    """A cut through a network's graph; made by `find_frontier`.

    Attributes:
        model: The `FineTuner`.
        tensors: List of symbolic tensors, those of `model`'s graph that cross.
        static_layers: List of the layers below, in order.
        below: Set of the names of all operations that do not run in training.
        blocked_by: Dict from each operation that stops the static part to why, in words.
    """

    def __init__(self, cuts: Any, upper: set[int], blocked_by: Mapping[Any, str]) -> None:
        self.model, self.blocked_by = cuts.index.model, blocked_by
        self.tensors = cuts.crossing(upper)
        self._cuts, self._upper_ids = cuts, upper
        below = cuts.between({id(tensor) for tensor in self.model.inputs}, self.tensors)
        operations = dict.fromkeys(node.operation for node in below)
        self.static_layers = [op for op in operations if isinstance(op, keras.Layer)]
        self.below = {n.operation.name for n in cuts.index.nodes if id(n) not in upper}

    @property
    def no_rows(self) -> str | None:
        """Why what crosses cannot be stored by rows, in one sentence, or None."""
        foreign = [t for t in self.tensors if math.isinf(self._cuts.size(t))]
        if not foreign:
            return None
        return f"the input {foreign[0].name!r} has no rows of numbers to be stored"

    @property
    def reason(self) -> str | None:
        """Why there is nothing to compute once and for all, in one sentence, or None."""
        if self.no_rows:
            return self.no_rows
        if any(_learned(layer) for layer in self.static_layers):
            return None
        stops = [f"{op.name!r}, which {why}" for op, why in self.blocked_by.items()]
        before = checks.listed(stops or ["the outputs"], 3)
        return f"no frozen layer with weights comes before {before}"

    @functools.cached_property
    def lower(self) -> keras.Model:
        """`keras.Model` from the inputs to `tensors`, sharing the static layers."""
        return keras.Model(self.model.input, self.tensors, name=f"{self.model.name}_lower")

    def compute(self, inputs: Any) -> Features:
        """`Features` of `inputs`: what `lower` gives, in the steps of the training of `model`."""
        outputs = run_evaluation(self.model, inputs, self.lower)
        return with_masks(tf.nest.flatten(outputs))

    @functools.cached_property
    def upper(self) -> Subgraph:
        """Layer from `Features` of `tensors` to the outputs; runs only the rest of the graph.

        Call it instead of the model: `upper(features, training=True)`.
        """
        return Subgraph(
            self.model,
            self._cuts.chosen(self._upper_ids),
            known=self.tensors,
            finish=functools.partial(_keras.outputs_from, self.model),
            name=f"{self.model.name}_upper",
        )

    def to(self, tensor: Any) -> Subgraph:
        """Layer from `Features` of `tensors` to the values of `tensor`, which lies above them."""
        nodes: Any = self._cuts.between({id(known) for known in self.tensors}, [tensor])
        return Subgraph(
            self.model,
            nodes,
            known=self.tensors,
            finish=lambda values: values[id(tensor)],
            name=f"{self.model.name}_to_{len(nodes)}",
        )

    def same_cut(self, other: "Frontier | None") -> bool:
        """Whether `other`, a `Frontier` of this model or None, is the same cut."""
        return other is not None and other._upper_ids == self._upper_ids

    def above(self, old: "Frontier") -> Subgraph | None:
        """Layer from `Features` of the frontier `old` to those of this one, or None.

        There is one if this frontier has moved up, so that nothing needs the inputs again, and it
        computes bit for bit what the inputs would give.
        """
        crossed = {id(tensor) for tensor in old.tensors}
        nodes = self._cuts.between(crossed, self.tensors)
        if nodes is None or any(
            id(conv.outputs[0]) in crossed for conv, _ in folded_pairs(self.model)
        ):
            return None

        def finish(values):
            return with_masks([values[id(tensor)] for tensor in self.tensors])

        return Subgraph(self.model, nodes, known=old.tensors, finish=finish, name="moved_up")


def _learned(layer):
    """Whether `layer` holds weights that could train; a `Normalization` alone saves nothing."""
    return any(_keras.own_trainable_variables(part) for part in _keras.with_sublayers(layer))


class _Cuts:
    """Questions about cuts through a model's graph.

    A cut is told by the set of the ids of the nodes above it.
    """

    def __init__(self, model: "FineTuner") -> None:
        self.index = GraphIndex(model)
        self._batch = model.inputs[0].shape[0]

    def chosen(self, ids: AbstractSet[int]) -> list[Any]:
        return [node for node in self.index.nodes if id(node) in ids]

    def crossing(self, upper: AbstractSet[int]) -> list[Any]:
        """Tensors made below and needed above, each once."""
        above = self.chosen(upper)
        made = {id(tensor) for node in above for tensor in node.outputs}
        needed = [tensor for node in above for tensor in node.input_tensors]
        crossing = {id(t): t for t in [*needed, *self.index.model.outputs] if id(t) not in made}
        return list(crossing.values())

    def between(self, known: AbstractSet[int], wanted: Sequence[Any]) -> list[Any] | None:
        """Nodes that make `wanted` from tensors with the ids `known`; None if those do not do."""
        missing = {id(tensor) for tensor in wanted} - known
        nodes = []
        for node in reversed(self.index.nodes):
            outputs = set(map(id, node.outputs))
            if outputs & missing:
                nodes.append(node)
                missing = (missing - outputs) | (set(map(id, node.input_tensors)) - known)
        return None if missing else nodes[::-1]

    def size(self, tensor: Any) -> float:
        """Bytes of one example in `tensor`; infinite if it has no rows of numbers."""
        shape = tensor.shape
        by_rows = len(shape) > 0 and shape[0] == self._batch
        if not by_rows or tensor.sparse or tensor.ragged or tensor.dtype == "string":
            return math.inf
        known = (UNKNOWN_SIZE if axis is None else axis for axis in shape[1:])
        return math.prod(known) * tf.as_dtype(tensor.dtype).size

    def cost(self, upper: AbstractSet[int]) -> tuple[int, float]:
        """How many tensors of a cut cannot be stored, and the bytes of one example in the rest."""
        sizes = [self.size(tensor) for tensor in self.crossing(upper)]
        return sum(map(math.isinf, sizes)), sum(filter(math.isfinite, sizes))


def _cheapest(cuts, upper):
    """The cut `upper`, moved down past operations for as long as fewer bytes cross."""
    while True:
        lower_cuts = [cut for t in cuts.crossing(upper) for cut in _below(cuts, upper, t)]
        best = min(lower_cuts, key=cuts.cost, default=upper)
        if cuts.cost(best) >= cuts.cost(upper):
            return upper
        upper = best


def _below(cuts, upper, tensor):
    """Cuts below one, two, ... of the operations that lead to `tensor`, if they are cheap."""
    while node := cuts.index.makers.get(id(tensor)):
        cheap = not isinstance(node.operation, keras.Layer) or not node.operation.weights
        if not cheap and math.isfinite(cuts.size(tensor)):
            return
        upper = upper | {id(node)}
        yield upper
        if len(node.input_tensors) != 1:
            return
        tensor = node.input_tensors[0]


def unsteady(operation: keras.Operation) -> str | None:
    """Why the outputs of `operation` change between epochs where its inputs do not, or None.

    The truth is what a `FineTuner` does in training: inert layers infer, all others train. So an
    operation is steady if nothing in it trains and it is inert, or has no training mode at all.
    A loss that a layer adds would be lost with its call, so such a layer is not steady either.

    Args:
        operation: `keras.Operation` of a functional graph, a layer or a `keras.ops` node.

    Returns:
        Part of a sentence whose subject is the operation, or None if it is steady.

    Example:
        >>> dropout = keras.layers.Dropout(0.5)
        >>> unsteady(dropout)
        'draws at random in training'
        >>> dropout.trainable = False
        >>> unsteady(dropout) is None
        True
    """
    if not isinstance(operation, keras.Layer):
        return None
    inside = _keras.with_sublayers(operation)
    if trains(operation):
        return "trains"
    if any(layer.activity_regularizer is not None for layer in inside):
        return "adds a loss"
    if is_inert(operation):
        return None
    if any(_keras.is_augmentation(layer) for layer in inside):
        return "augments at random"
    if any(_keras.draws_at_random(layer) for layer in inside):
        return "draws at random in training"
    if any(_keras.takes_training(layer) and not _is_plain(layer) for layer in inside):
        return "is not frozen and may act otherwise in training"
    return None


def _is_plain(layer):
    """Keras's own layers without weights draw from seed generators or do nothing at random."""
    return (_keras.keras_module(layer) or "").startswith("layers.") and not layer.variables
