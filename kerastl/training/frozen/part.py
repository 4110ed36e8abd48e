"""Some nodes of a network's graph as a layer: from the values of some tensors to others."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import tensorflow as tf

from kerastl import _keras
from kerastl.graph.run import inert_inside, infer, training_operations, with_folding

if TYPE_CHECKING:
    from kerastl.training.fine_tuner import FineTuner


class Features(NamedTuple):
    """Values at a frontier, in place of a model's inputs.

    Attributes:
        tensors: Tuple of tensors, one for each tensor of the frontier.
        masks: Tuple of the same length: the boolean Keras mask of each, or `()` for none.
        row_values: Dict from the name of a term of the loss to what it said of these examples, or
            `()` for none.
    """

    tensors: tuple[Any, ...]
    masks: tuple[Any, ...]
    row_values: dict[str, Any] | tuple[()] = ()


def with_masks(tensors: Sequence[Any]) -> "Features":
    """`Features` of `tensors` and the Keras masks that they carry."""
    masks = [_keras.get_keras_mask(tensor) for tensor in tensors]
    bare = [_masked(tensor, None) for tensor in tensors]
    return Features(tuple(bare), tuple(() if mask is None else mask for mask in masks))


def packed(flat: Sequence[Any], specs: "Features") -> "Features":
    """`Features` of stored values, in the types in which the network computes them.

    Args:
        flat: List of arrays or tensors, as `tf.nest.flatten` lists those of `Features`.
        specs: `Features` of `tf.TensorSpec`.
    """
    computed = [
        tf.cast(tf.ensure_shape(part, spec.shape), spec.dtype)
        for part, spec in zip(flat, tf.nest.flatten(specs), strict=True)
    ]
    return Features(*tf.nest.pack_sequence_as(specs, computed))


class Subgraph(keras.Layer):
    """Runs `nodes` of the graph of `model` on `Features` of the tensors `known`.

    Called with `training=True`, inert layers infer and all others train, as in a `FineTuner`.

    Args:
        model: `FineTuner`. It is not held as a sublayer, and its weights stay its own.
        nodes: Some of its nodes, in their order.
        known: Symbolic tensors whose values come as `Features`.
        finish: Function from a dict of values by the ids of their tensors to the result.
        name: String.
    """

    def __init__(
        self,
        model: "FineTuner",
        nodes: Sequence[Any],
        *,
        known: Sequence[Any],
        finish: Callable[..., Any],
        name: str,
    ) -> None:
        super().__init__(name=name, autocast=False, trainable=False)
        layers = [node.operation for node in nodes if isinstance(node.operation, keras.Layer)]

        def forward(features, training):
            # A call of the model would do so, and a regularizer's loss must not stay for long.
            _keras.forget_losses(model)
            values = _values(known, features)
            if not training:
                _keras.run_nodes(nodes, values, with_folding(model, infer))
            else:
                with _keras.inference_mode(inert_inside(layers)):
                    _keras.run_nodes(nodes, values, training_operations(model))
            return finish(values)

        self._forward = forward
        self.built = True

    def call(self, features: "Features", training: bool | None = None) -> Any:
        return self._forward(features, training)


def _values(known, features):
    values = {}
    for reference, tensor, mask in zip(known, features.tensors, features.masks, strict=True):
        values[id(reference)] = _masked(tensor, mask) if tf.is_tensor(mask) else tensor
    return values


def _masked(tensor, mask):
    """`tensor` with the Keras mask `mask` or None; a copy, for a mask changes what it is put on."""
    copy = tf.identity(tensor)
    _keras.set_keras_mask(copy, mask)
    return copy
