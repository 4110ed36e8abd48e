"""How much a step of each group computes, counted and not timed: the same on every machine."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import keras

from kerastl import _keras
from kerastl.graph.index import GraphIndex
from kerastl.graph.layer_groups import LayerGroups
from kerastl.graph.leaves import leaf_layers

UNKNOWN_LENGTH = 64  # stands for an axis whose length the graph does not say


@dataclasses.dataclass(frozen=True)
class GroupWork:
    """What one group computes, forward, for one example.

    Attributes:
        operations: Int, calls of leaf layers and of `keras.ops`.
        variables: Int, those that train when the group does.
        multiply_adds: Int, of kernels; of attention and recurrence over time, a part.
        values: Int, numbers that its layers give.
    """

    operations: int = 0
    variables: int = 0
    multiply_adds: int = 0
    values: int = 0

    def __add__(self, other: "GroupWork") -> "GroupWork":
        mine, theirs = dataclasses.astuple(self), dataclasses.astuple(other)
        return GroupWork(*(a + b for a, b in zip(mine, theirs, strict=True)))


# Seconds of the machine of docs/measured.md, where a table says what they were fitted to.
TRACE = {"once": 0.2, "forward": 0.015, "backward": 0.011, "variable": 0.067}
STEP = {"operation": 2.8e-5, "multiply_add": 1.3e-11, "value": 8.2e-11, "augmented": 9e-9}


@dataclasses.dataclass(frozen=True)
class TrainingWork:
    """What a training of a model computes, by its groups and the size of its data.

    Its seconds are those of one machine, so that every machine chooses alike.

    Args:
        groups: Dict from each group to its `GroupWork`, from input to head.
        examples: Int >= 0, of an epoch.
        batch_size: Int > 0.
        copies: Int, how many copies of each example are computed once by frozen layers and serve
            all epochs of a phase that has more; 0 where examples are augmented anew in each.
        inputs: Int, numbers of one example, which are augmented where `copies` is 0.
    """

    groups: Mapping[str, GroupWork]
    examples: int
    batch_size: int
    copies: int
    inputs: int = 0

    @classmethod
    def of(
        cls,
        model: keras.Model,
        groups: LayerGroups,
        *,
        examples: int,
        batch_size: int,
        copies: int,
    ) -> "TrainingWork":
        """That of a flat `model` with these `groups`; the others as above."""
        inputs = sum(math.prod(map(_length, given.shape[1:])) for given in model.inputs)
        return cls(work_of(model, groups), examples, batch_size, copies, inputs)

    def trace(self, training: Sequence[str], epochs: int) -> float:
        """Seconds to trace a step in which the groups `training` train for some epochs."""
        below, above = self._parts(training)
        forward = below.operations + above.operations  # cached or not, all is traced once
        learnt = sum(self.groups[name].variables for name in training)
        return (
            TRACE["once"] * (2 if self._caches(epochs) and below.operations else 1)
            + TRACE["forward"] * forward
            + TRACE["backward"] * above.operations
            + TRACE["variable"] * learnt
        )

    def epochs(self, training: Sequence[str], epochs: int) -> float:
        """Seconds of so many `epochs` in which the groups `training` train, tracing left out."""
        below, above = self._parts(training)
        # The backward pass takes about twice the forward pass.
        run = above + above + above if self._caches(epochs) else below + above + above + above
        steps = math.ceil(self.examples / self.batch_size)
        of_steps = STEP["operation"] * run.operations
        of_examples = STEP["multiply_add"] * run.multiply_adds + STEP["value"] * run.values
        if not self.copies:
            of_examples += STEP["augmented"] * self.inputs
        return epochs * (steps * of_steps + self.examples * of_examples)

    def _caches(self, epochs):
        return 0 < self.copies < epochs

    def _parts(self, training):
        """`GroupWork` of all below the first group that trains, and of the others."""
        names = list(self.groups)
        first = min(names.index(name) for name in training)
        works = list(self.groups.values())
        return sum(works[:first], GroupWork()), sum(works[first:], GroupWork())


def work_of(model: keras.Model, groups: LayerGroups) -> dict[str, GroupWork]:
    """Dict from each of the `groups` of a flat `model` to its `GroupWork`.

    Example:
        >>> from kerastl import layer_groups
        >>> inputs = keras.Input((8, 8, 3))
        >>> model = keras.Model(inputs, keras.layers.Conv2D(4, 3)(inputs))
        >>> list(work_of(model, layer_groups(model)).values())
        [GroupWork(operations=1, variables=2, multiply_adds=3888, values=144)]
    """
    works = dict.fromkeys(groups.names, GroupWork())
    seen, group = set(), groups.names[0]
    for node in GraphIndex(model).nodes:
        layer = node.operation
        leaves = leaf_layers(layer) if isinstance(layer, keras.Layer) else []
        shapes = [[_length(axis) for axis in output.shape[1:]] for output in node.outputs]
        places = max(math.prod(_places(shape, layer)) for shape in shapes)
        for leaf in leaves:
            group = groups.group_of(leaf)
            fresh = () if id(leaf) in seen else _keras.own_trainable_variables(leaf)
            seen.add(id(leaf))
            works[group] += GroupWork(1, len(fresh), _kernel_size(leaf) * places)
        calls = 0 if leaves else 1
        works[group] += GroupWork(calls, values=sum(math.prod(shape) for shape in shapes))
    return works


def _length(axis):
    return UNKNOWN_LENGTH if axis is None else axis


def _places(shape, layer):
    """The axes along which a kernel is used again."""
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        return shape[1:]
    return shape[:-1]


def _kernel_size(leaf):
    """Numbers in the kernels of `leaf`; the rows of an embedding are looked up."""
    if isinstance(leaf, keras.layers.Embedding):
        return 0
    weights = _keras.own_trainable_variables(leaf)
    return sum(math.prod(weight.shape) for weight in weights if len(weight.shape) > 1)
