"""A Keras 3 model and its tf_keras twin, side by side."""

import collections
import contextlib
import dataclasses
import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras

from kerastl._base.checks import closest
from kerastl.compression import island
from kerastl.compression.twin import equality, layers, operations
from kerastl.compression.twin.equality import (
    NoEqualError,
    asking_tf_keras,
    require_masks_taken,
    require_plain_calls,
    require_same_shapes,
)
from kerastl.compression.twin.wrapped import wrap
from kerastl.graph import flatten, is_fine_tuner
from kerastl.graph.flatten import input_layers
from kerastl.graph.index import GraphIndex
from kerastl.graph.run import is_inert


@dataclasses.dataclass(frozen=True)
class Entry:
    """One operation of the Keras 3 graph and the tf_keras layer that does its work.

    Attributes:
        operation: Keras 3 layer or operation.
        layer: tf_keras layer.
        pairs: List of `(Keras 3 variable, tf_keras variable)`; None if the operation is wrapped,
            which shares its variables.
        why: String, for a wrapped operation, what has no equal in tf_keras.
    """

    operation: Any
    layer: Any
    pairs: list[tuple[keras.Variable, Any]] | None
    why: str | None = None


class Twin:
    """A Keras 3 model and the tf_keras model that computes the same. Made by `twin(model)`.

    The two have weights of their own, apart from wrapped layers, which are the Keras 3 layers
    themselves.

    Attributes:
        source: The flat Keras 3 model; it shares its layers with the model given to `twin`.
        model: The tf_keras model.
        wrapped: Dict from the name of each Keras 3 layer or operation that has no equal in
            tf_keras, and runs there as it is, to what has none. TFMOT sees one foreign layer.
    """

    def __init__(self, source: keras.Model, model: Any, entries: Sequence[Entry]) -> None:
        self.source = source
        self.model = model
        self.entries = list(entries)
        self.wrapped = {e.operation.name: e.why for e in self.entries if e.pairs is None}

    def __repr__(self) -> str:
        wrapped = f", {len(self.wrapped)} of them wrapped" if self.wrapped else ""
        return f"<Twin of {self.source.name!r}: {len(self.entries)} layers{wrapped}>"

    def layer_of(self, layer: keras.Operation | str) -> Any:
        """The tf_keras layer that does the work of a Keras 3 layer.

        Args:
            layer: Keras 3 layer or operation of `source`, or its name.

        Raises:
            ValueError: If `source` has no such layer.
        """
        for entry in self.entries:
            if entry.operation is layer or entry.operation.name == layer:
                return entry.layer
        raise _unknown(layer, [e.operation.name for e in self.entries], self.source)

    def source_of(self, layer: Any) -> keras.Operation:
        """The Keras 3 layer or operation whose work a tf_keras layer does.

        Args:
            layer: tf_keras layer of `model`, or its name; a clone of one goes by its name.

        Raises:
            ValueError: If `model` has no such layer.
        """
        name = layer if isinstance(layer, str) else layer.name
        for entry in self.entries:
            if entry.layer.name == name:
                return entry.operation
        raise _unknown(layer, [e.layer.name for e in self.entries], self.model)

    def push(self) -> None:
        """Bring the weights of the Keras 3 model into the twin, statistics included."""
        for entry in self._copied():
            equality.copy(entry.pairs or ())
            _finalize(entry.layer)

    def pull(self) -> None:
        """Bring the weights of the twin into the Keras 3 model, statistics included."""
        for entry in self._copied():
            equality.copy_back(entry.pairs or ())
            _finalize(entry.operation)

    def _copied(self):
        return [entry for entry in self.entries if entry.pairs]


def _finalize(layer):
    """A Normalization computes with constants it derives from its weights."""
    if type(layer).__name__ == "Normalization":
        layer.finalize_state()


def _unknown(layer, names, model):
    name = layer.name if hasattr(layer, "name") else layer
    return ValueError(
        f"`layer` must be a layer of {model.name!r}. Received: layer={name!r}. "
        f"Closest: {closest(name, names)}."
    )


def twin(model: keras.Model) -> Twin:
    """The tf_keras model that computes what a Keras 3 model computes, for TFMOT to work on.

    Each layer becomes the tf_keras layer of the same arithmetic with the same weights, `trainable`
    flags, regularizers and constraints; a shared layer stays shared; `keras.ops` nodes become
    layers where tf_keras has one. What has no equal there runs as it is inside one wrapper layer
    and is listed in `Twin.wrapped`: custom layers, recurrent layers, attention, augmentation, LoRA
    and quantized kernels. Outputs are equal to float32 rounding.

    The flags are those of now: make the twin anew after `freeze` or `unfreeze`. In the twin of a
    `FineTuner` frozen layers run in inference mode and fixed statistics stand still, as there.

    Args:
        model: Functional or built Sequential `keras.Model`, also nested.

    Returns:
        `Twin`.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: If it has no graph, or something in it that tf_keras cannot run at all: inputs
            that are optional or sparse, a weight constraint on a wrapped layer, a layer that
            fails inside a tf_keras model. The message names it.

    Example:
        >>> made = twin(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")]))
        >>> type(made.model).__module__.split(".")[0], made.layer_of("head").units, made.wrapped
        ('tf_keras', 2, {})
    """
    source = flatten(model)
    making = _Making(model, source)
    inputs = making.inputs()
    outputs = making.run(inputs)
    structure = keras.tree.pack_sequence_as(source.input, inputs)
    made = island.tf_keras().Model(structure, outputs, name=source.name)
    used = {id(layer) for layer in made.layers}
    result = Twin(source, made, [e for e in making.entries if id(e.layer) in used])
    result.push()
    return result


class _Making:
    """The state of one rebuilding: what has been made so far, and what is known of the source."""

    def __init__(self, model: keras.Model, source: keras.Model) -> None:
        self.source = source
        self.index = GraphIndex(source)
        self._entries = {}
        self._names = {}
        self._inert = is_fine_tuner(model)
        self._training = {id(v) for v in model.trainable_variables}
        self._owners = collections.Counter(id(v) for layer in source.layers for v in layer.weights)

    @property
    def entries(self) -> list[Entry]:
        return list(self._entries.values())

    def inputs(self) -> list[Any]:
        """A tf_keras input for each input of the source."""
        ordered = input_layers(self.source)
        refuse_inputs(ordered)
        return [self._input(layer) for layer in ordered]

    def _input(self, layer):
        x = layer.output
        made = island.tf_keras().Input(x.shape[1:], x.shape[0], self._name(layer), x.dtype)
        self._entries[id(layer)] = Entry(layer, made.node.layer, [])
        return made

    def run(self, inputs: list[Any]) -> Any:
        """The outputs of the rebuilt graph, in the structure of the source's."""
        tensors = {id(ref): x for ref, x in zip(self.source.inputs, inputs, strict=True)}
        for node in self.index.nodes:
            given = [tensors[id(x)] for x in node.input_tensors]
            outputs = keras.tree.flatten(self._place(node, given))
            tensors.update(zip(map(id, node.outputs), outputs, strict=True))
        outputs = [tensors[id(x)] for x in self.source.outputs]
        return keras.tree.pack_sequence_as(self.source.output, outputs)

    def _place(self, node, tensors):
        """The outputs for one node, by the layer of its operation, made at the first node."""
        entry = self._entries.get(id(node.operation))
        if entry is None:
            try:
                return self._place_equal(node, tensors)
            except NoEqualError as error:
                return self._place_wrapped(node, tensors, str(error))
        if entry.pairs is None:
            return self._call_wrapped(entry.layer, node, tensors)
        return self._call_equal(entry.layer, node, tensors)

    def _place_equal(self, node, tensors):
        operation = node.operation
        layer = self._equal(node)
        with asking_tf_keras():
            outputs = self._call_equal(layer, node, tensors)
        require_same_shapes(node, outputs)
        pairs = equality.paired(operation, layer)
        if isinstance(operation, keras.Layer):
            equality.carry(operation, layer, pairs, self._training)
        self._entries[id(operation)] = Entry(operation, layer, pairs)
        return outputs

    def _equal(self, node):
        """The tf_keras layer equal to the operation of a node, not yet called."""
        operation, name = node.operation, self._name(node.operation)
        if not isinstance(operation, keras.Layer):
            layer = operations.translated(node, name)
            require_masks_taken(node, layer)
            return layer
        if any(self._owners[id(v)] > 1 for v in operation.weights):
            raise NoEqualError("weights that another layer holds, too")
        layer = layers.translated(operation, name)
        require_plain_calls(self.index.calls[id(operation)], layer)
        return layer

    def _call_equal(self, layer, node, tensors):
        listed = len(tensors) > 1 or isinstance(node.arguments.args[0], (list, tuple))
        # tf_keras obeys what a call recorded, `fit` or not.
        inert = self._inert and _is_inert(node.operation) and _takes_training(layer)
        return layer(tensors if listed else tensors[0], **({"training": False} if inert else {}))

    def _place_wrapped(self, node, tensors, why):
        operation, name = node.operation, self._name(node.operation)
        refuse_constraints(operation)
        layer = wrap(self.index.calls[id(operation)], self._inert, name=name)
        self._entries[id(operation)] = Entry(operation, layer, None, why)
        outputs = self._call_wrapped(layer, node, tensors)
        equality.carry_wrapped(operation, layer, self._training)
        return outputs

    def _call_wrapped(self, layer, node, tensors):
        which = self.index.calls[id(node.operation)].index(node)
        with running(node.operation):
            return layer(tensors, which=which)

    def _name(self, operation):
        """A name for the layer of an operation that tf_keras takes and that no other has."""
        if id(operation) not in self._names:
            stem = re.sub(r"[^A-Za-z0-9_.\-]", "_", operation.name)
            stem = stem if re.match(r"[A-Za-z0-9.]", stem) else f"x{stem}"
            name, number = stem, 0
            while name in self._names.values():
                number += 1
                name = f"{stem}_{number}"
            self._names[id(operation)] = name
        return self._names[id(operation)]


def _is_inert(operation):
    return isinstance(operation, keras.Layer) and is_inert(operation)


def _takes_training(layer):
    return "training" in inspect.signature(layer.call).parameters


def refuse_inputs(layers: Iterable[keras.Layer]) -> None:
    """Raise if one of the input layers is optional, sparse or ragged."""
    for layer in layers:
        what = [kind for kind in ("optional", "sparse", "ragged") if getattr(layer, kind, False)]
        if what:
            raise ValueError(
                f"The inputs of a twin must be dense and always given. Received: input "
                f"{layer.name!r}, which is {' and '.join(what)}. Build the model on another "
                f"keras.Input."
            )


def refuse_constraints(operation: keras.Operation) -> None:
    """Raise if a layer that will be wrapped has a weight with a constraint.

    A tf_keras optimizer looks for it at the tf.Variable, where Keras 3 does not put it.
    """
    for variable in getattr(operation, "weights", ()):
        if variable.constraint is not None:
            raise ValueError(
                f"Layer {operation.name!r} ({_kind(operation)}) has no equal in tf_keras, and its "
                f"weight {variable.name!r} has the constraint {variable.constraint!r}, which a "
                f"tf_keras optimizer would not keep. Remove the constraint."
            )


@contextlib.contextmanager
def running(operation: keras.Operation) -> Iterator[None]:
    """Say which layer it was if `operation` fails inside a tf_keras model."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"Layer {operation.name!r} ({_kind(operation)}) has no equal in tf_keras and fails "
            f"when it runs as it is inside a tf_keras model, by the {type(error).__name__} above. "
            f"Replace it, or move it out of the model."
        ) from error


def _kind(operation):
    return f"{type(operation).__module__}.{type(operation).__qualname__}"
