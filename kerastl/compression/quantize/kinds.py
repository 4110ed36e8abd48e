"""What an operation of a graph is, in words that layers and `keras.ops` share."""

import keras

CONVOLUTIONS = ("Conv2D", "DepthwiseConv2D", "Conv2DTranspose")
WEIGHTED = (*CONVOLUTIONS, "Dense")
FUSED = ("linear", "relu", "relu6")  # part of the int8 kernel before them

_ACTIVATIONS = (
    "linear", "relu", "relu6", "leaky_relu", "sigmoid", "tanh", "softmax", "silu", "hard_sigmoid",
    "hard_silu", "elu", "gelu",
)  # fmt: skip
_OPERATIONS = {
    "Relu": "relu", "Relu6": "relu6", "Sigmoid": "sigmoid", "Tanh": "tanh", "Silu": "silu",
    "HardSigmoid": "hard_sigmoid", "HardSilu": "hard_silu", "LeakyRelu": "leaky_relu",
}  # fmt: skip


def kind_of(operation):
    """The name of what `operation` does: a class of Keras, or an activation; None for others.

    A subclass of a Keras layer is not that layer. `keras.ops.add` is an `"Add"`, as the layer is.

    Example:
        >>> kind_of(keras.layers.Activation("silu")), kind_of(keras.layers.ReLU(6))
        ('silu', 'relu6')
        >>> kind_of(keras.layers.Dense(2)), kind_of(keras.layers.LSTM(2))
        ('Dense', 'LSTM')
    """
    name = type(operation).__name__
    if not isinstance(operation, keras.Layer):
        known = type(operation).__module__.startswith("keras.src.ops.")
        return _OPERATIONS.get(name, name) if known else None
    if type(operation) is not getattr(keras.layers, name, None):
        return None
    if name in ("Activation", "ReLU", "LeakyReLU", "Softmax"):
        return _activation(operation, name)
    return name


def activation_name(function):
    """The name of a Keras activation function with an equal in int8; None for others."""
    if function is None:
        return "linear"
    return next((n for n in _ACTIVATIONS if function is keras.activations.get(n)), None)


def is_plain(layer):
    """Whether a layer with a kernel computes with that kernel alone, channels last."""
    return (
        getattr(layer, "data_format", "channels_last") == "channels_last"
        and not getattr(layer, "lora_enabled", False)
        and getattr(layer, "quantization_mode", None) is None
    )


def _activation(layer, name):
    if name == "Activation":
        return activation_name(layer.activation)
    if name == "LeakyReLU":
        return "leaky_relu"
    if name == "Softmax":
        return "softmax" if layer.axis == -1 else None
    if layer.threshold != 0:
        return None
    if layer.max_value is None:
        return "leaky_relu" if layer.negative_slope else "relu"
    return "relu6" if layer.max_value == 6 and not layer.negative_slope else None
