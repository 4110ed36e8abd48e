"""Which variables of a tf_keras layer train, when not all of one layer do.

Keras 3 keeps that flag at each variable. tf_keras 2.21 keeps two lists in each layer, under the
private names `_trainable_weights` and `_non_trainable_weights`.
"""

from kerastl import _keras


def carry(layer, twin, pairs, training):
    """Give the weights of a tf_keras layer the flags of its Keras 3 original.

    Args:
        layer: Keras 3 layer.
        twin: tf_keras layer, built.
        pairs: Their variables, `(Keras 3, tf_keras)`.
        training: Set of ids of the Keras 3 variables that the model trains.
    """
    twin.trainable = layer.trainable
    could = {id(variable) for variable in _keras.own_trainable_variables(layer)}
    held = {id(b) for a, b in pairs if id(a) in could and id(a) not in training}
    if layer.trainable and held:
        rest = [v for v in twin.trainable_weights if id(v) not in held]
        set_training(twin, twin.weights, rest)


def carry_wrapped(operation, twin, training):
    """The same for a wrapped operation, whose variables are those of the Keras 3 layer."""
    twin.trainable = getattr(operation, "trainable", True)
    variables = getattr(operation, "weights", ())
    chosen = [v.value for v in variables if id(v) in training]
    set_training(twin, [v.value for v in variables], chosen)


def set_training(twin, weights, training):
    """Have of the `weights` of a tf_keras layer those train that are in `training`."""
    chosen = {id(variable) for variable in training}
    twin._trainable_weights[:] = [v for v in weights if id(v) in chosen]
    twin._non_trainable_weights[:] = [v for v in weights if id(v) not in chosen]
