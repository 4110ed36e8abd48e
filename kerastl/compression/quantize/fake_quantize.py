"""A folded model with its kernels and activations rounded to 8 bits."""

import functools
import itertools
from collections.abc import Set as AbstractSet
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl.compression.batches import checked_inputs
from kerastl.compression.quantize import parts
from kerastl.compression.quantize.layers import QUANTIZED
from kerastl.compression.quantize.policy import FIXED, WEIGHTED, Policy
from kerastl.compression.quantize.ranges import FakeQuantize, KeepFloat, ranges_of
from kerastl.graph.index import GraphIndex
from kerastl.graph.inputs import batches, in_order, is_arrays, unpacked
from kerastl.graph.rewrite import copy_of, copy_weights, rebuilt


def fake_quantize(
    folded: keras.Model, kept: AbstractSet[int] = frozenset()
) -> tuple[keras.Model, Policy]:
    """Round kernels and activations of a folded model, where int8 kernels will.

    Args:
        folded: Flat functional `keras.Model`, as `fold` makes it.
        kept: Set of the ids of its operations that are to stay float.

    Returns:
        Model of the same class with weights of its own, and the `Policy` it was made by.
    """
    index = GraphIndex(folded)
    making = _Making(folded, Policy(index, kept))
    made = rebuilt(index, making.place, entrance=making.entrance, cls=type(folded))
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

    def __init__(self, model: keras.Model, policy: Policy) -> None:
        self.policy, self.copies = policy, {}
        self.training = {id(leaf) for leaf in parts.training_leaves(model)}
        self._ranges = {}  # id of a new tensor → the FakeQuantize whose range it has
        self._names = {operation.name for operation in model.operations}

    def entrance(self, old: keras.KerasTensor, new: keras.KerasTensor) -> keras.KerasTensor:
        if not self.policy.wants_range(old):
            return new
        return self._rounded(new, self._new_range(old.name, True))

    def place(self, node: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        step = self.policy.steps[id(node)]
        given = [x for x in keras.tree.flatten([args, kwargs]) if id(x) in self._ranges]
        new = self._copy(step)
        if given and isinstance(new, tuple(QUANTIZED.values())) and new.use_bias:
            kwargs = {**kwargs, "step": self._ranges[id(given[0])](given[0], step_only=True)}
        outputs = new(*args, **kwargs)
        if step.range == "same":
            again = functools.partial(
                self._rounded, layer=self._ranges[id(given[0])], observe=False
            )
            return keras.tree.map_structure(again, outputs)
        if step.range == "fixed":
            low, high = FIXED[str(step.kind)]
            layer = FakeQuantize(low, high, name=self._name(step.name))
            return self._rounded(outputs, layer)
        if step.range == "own":
            operation = node.operation
            trains = not isinstance(operation, keras.Layer) or id(operation) in self.training
            rounded = {id(x) for x in self.policy.rounded(step)}
            made = [
                self._rounded(new, self._new_range(step.name, trains))
                if id(old) in rounded
                else new
                for old, new in zip(node.outputs, keras.tree.flatten(outputs), strict=True)
            ]
            return keras.tree.pack_sequence_as(outputs, made)
        if self.policy.is_kept(step):
            mark = KeepFloat(name=self._name(step.name, "float"))
            return keras.tree.map_structure(mark, outputs)
        if given and step.why_float is None:
            for tensor in keras.tree.flatten(outputs):
                self._ranges[id(tensor)] = self._ranges[id(given[0])]
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


BATCH = 32
SHOWN = 8  # of a batch, whose range is compared with what the model takes
BATCHES = 16  # 512 examples; a range averages over few batches only at its start


def calibrate(model: keras.Model, data: Any) -> list[np.ndarray]:
    """Show a quantized model some data, in inference mode, and keep the ranges of its activations.

    Args:
        model: Quantized `keras.Model`.
        data: Inputs of `model`: an array, or arrays nested as its inputs are, or a tuple of those
            and targets, of which up to 512 examples are taken, evenly spread; or a
            dataset, generator or function of them as in `kerastl.graph.inputs.batches`, of which
            up to 16 batches are read.

    Raises:
        ValueError: If it holds no example, or none that fits the inputs.

    Returns:
        An array an input, of some of the examples of each batch.
    """
    layers, shown = ranges_of(model), []

    @tf.function(autograph=False)
    def observe(batch):
        return model(batch, training=False)

    try:
        for layer in layers:
            layer.observing = True
        for batch in _batches(model, data):
            observe(keras.tree.pack_sequence_as(model.input, batch))
            shown.append([np.asarray(tensor[:SHOWN]) for tensor in batch])
    finally:
        for layer in layers:
            layer.observing = False
    if not shown:
        raise ValueError("`data` must hold at least one example. Received: none")
    return [np.concatenate(arrays) for arrays in zip(*shown, strict=True)]


def _batches(model, data):
    """Lists of tensors, one an input."""
    x, _ = unpacked(model, data)
    if is_arrays(x):
        arrays = checked_inputs(model, in_order(model, x))
        count = min(len(arrays[0]), BATCH * BATCHES)
        rows = np.linspace(0, len(arrays[0]) - 1, count).round().astype(int)
        for start in range(0, count, BATCH):
            yield _tensors(model, arrays, rows[start : start + BATCH])
        return
    for arrays, _ in itertools.islice(batches(model, data), BATCHES):
        arrays = checked_inputs(model, arrays)
        if len(arrays[0]):
            yield _tensors(model, arrays, np.arange(len(arrays[0])))


def _tensors(model, arrays, rows):
    chosen = [tf.gather(x, rows) if tf.is_tensor(x) else np.asarray(x[rows]) for x in arrays]
    for tensor, values in zip(model.inputs, map(np.asarray, chosen), strict=True):
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError(
                f"`data` must be finite. Received: {np.count_nonzero(~np.isfinite(values))} values "
                f"for input {tensor.name!r} that are not."
            )
    return [tf.cast(x, tensor.dtype) for x, tensor in zip(chosen, model.inputs, strict=True)]
