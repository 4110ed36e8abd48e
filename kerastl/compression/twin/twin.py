"""A Keras 3 model and its tf_keras twin, side by side."""

import dataclasses
from typing import Any

from kerastl._checks import closest
from kerastl.compression.twin import weights


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
    pairs: list | None
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

    def __init__(self, source, model, entries):
        self.source = source
        self.model = model
        self.entries = list(entries)
        self.wrapped = {e.operation.name: e.why for e in self.entries if e.pairs is None}

    def __repr__(self):
        wrapped = f", {len(self.wrapped)} of them wrapped" if self.wrapped else ""
        return f"<Twin of {self.source.name!r}: {len(self.entries)} layers{wrapped}>"

    def layer_of(self, layer):
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

    def source_of(self, layer):
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

    def push(self):
        """Bring the weights of the Keras 3 model into the twin, statistics included."""
        for entry in self._copied():
            weights.copy(entry.pairs)
            _finalize(entry.layer)

    def pull(self):
        """Bring the weights of the twin into the Keras 3 model, statistics included."""
        for entry in self._copied():
            weights.copy_back(entry.pairs)
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
