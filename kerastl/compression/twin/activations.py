"""Activation functions: which Keras 3 and tf_keras define alike, and Keras 3's own for the rest."""

import functools

import keras

from kerastl.compression import island

# The same formula under the same name, read in Keras 3.15.1 and tf_keras 2.21.
_ALIKE = (
    "linear", "relu", "relu6", "elu", "selu", "softplus", "softsign", "tanh", "sigmoid",
    "exponential", "softmax", "gelu",
)  # fmt: skip
# tf_keras has hard_sigmoid as clip(0.2 x + 0.5), Keras 3 as relu6(x + 3) / 6; some it lacks.
_OWN = (
    "celu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu",
    "log_sigmoid", "log_softmax", "mish", "soft_shrink", "sparse_plus", "sparse_sigmoid",
    "sparsemax", "squareplus", "tanh_shrink",
)  # fmt: skip


def spelled(function):
    """The tf_keras activation that computes what a Keras 3 activation computes.

    Args:
        function: Callable, the `activation` of a Keras 3 layer, or None.

    Returns:
        A name that tf_keras knows; or a function of the same name, registered there as
        `kerastl>NAME`, that calls Keras 3's; or None for a function that Keras 3 does not name.

    Example:
        >>> spelled(keras.activations.silu), spelled(keras.activations.hard_silu).__name__
        ('swish', 'hard_silu')
        >>> spelled(lambda x: 2 * x) is None
        True
    """
    if function is None:
        return "linear"
    if function is keras.activations.silu:
        return "swish"
    for name in _ALIKE:
        if function is keras.activations.get(name):
            return name
    for name in _OWN:
        if function is keras.activations.get(name):
            return registered(name)
    return None


@functools.cache
def registered(name, **arguments):
    """Keras 3's activation `name` as a function that tf_keras can save and load.

    Args:
        name: String, as `keras.activations.get` takes it.
        **arguments: Constants for its further arguments; they become part of its name.

    Example:
        >>> registered("gelu", approximate=True).__name__
        'gelu_approximate_True'
    """
    function = keras.activations.get(name)

    def activation(x):
        return function(x, **arguments)

    constants = [f"_{key}_{value}" for key, value in arguments.items()]
    activation.__name__ = activation.__qualname__ = "".join([name, *constants])
    tf_keras = island.tf_keras()
    return tf_keras.utils.register_keras_serializable("kerastl")(activation)
