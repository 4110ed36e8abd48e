"""Which operations of a graph give the same in every epoch while other layers train."""

import keras

from kerastl import _keras
from kerastl.freezing import is_inert


def unsteady(operation):
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
    if operation.trainable_variables:
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
    return type(layer).__module__.startswith("keras.src.layers.") and not layer.variables
