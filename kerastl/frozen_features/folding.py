"""Batch normalizations inside the convolutions before them, where frozen layers only infer."""

import collections

import keras
import tensorflow as tf

from kerastl import _keras

_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


def inferring(nodes, wanted):
    """How to run frozen nodes in inference mode: an `operation_fn` for `_keras.run_nodes`.

    A batch normalization that follows a convolution goes into its kernel and bias: with
    s = gamma / sqrt(variance + epsilon) it is `conv(x, s * kernel) + s * (bias - mean) + beta`.
    That saves two passes over each tensor and differs from the layers one by one as float32 does
    when sums are ordered otherwise. The layers and their weights stay as they are.

    Args:
        nodes: The nodes to be run, of the graph of one model.
        wanted: Symbolic tensors that they are run for.
    """
    norms = {id(conv.operation): norm.operation for conv, norm in pairs(nodes, wanted)}
    absorbed = set(map(id, norms.values()))

    def operation_fn(operation):
        if id(operation) in absorbed:
            return lambda inputs, **_: inputs
        if id(operation) in norms:
            return lambda inputs: _folded(operation, norms[id(operation)], inputs)
        return infer(operation)

    return operation_fn


def infer(operation):
    """`operation` in inference mode, whatever `training` its call recorded."""
    if not _keras.accepts_training(operation):
        return operation
    return lambda *args, **kwargs: operation(*args, **{**kwargs, "training": False})


def pairs(nodes, wanted):
    """The `(node of a convolution, node of the batch normalization)` that become one."""
    users = collections.defaultdict(list)
    for node in nodes:
        for tensor in node.input_tensors:
            users[id(tensor)].append(node)
    calls = collections.Counter(id(node.operation) for node in nodes)
    kept = set(map(id, wanted))
    found = []
    for node in nodes:
        after = users[id(node.outputs[0])]
        if len(after) != 1 or id(node.outputs[0]) in kept or not _folds(node, after[0]):
            continue
        if calls[id(node.operation)] == calls[id(after[0].operation)] == 1:
            found.append((node, after[0]))
    return found


def _folds(node, after):
    conv, norm = node.operation, after.operation
    if type(conv) not in _CONVOLUTIONS or type(norm) is not keras.layers.BatchNormalization:
        return False
    policies = {conv.dtype_policy.name, norm.dtype_policy.name}
    return (
        conv.activation is keras.activations.linear
        and conv.data_format == "channels_last"
        and norm.axis in (-1, 3)
        and policies == {"float32"}
        and conv.activity_regularizer is None
        and norm.activity_regularizer is None
        and after.arguments.kwargs.get("mask") is None
    )


def _folded(conv, norm, inputs):
    scale = keras.ops.rsqrt(norm.moving_variance + norm.epsilon)
    if norm.scale:
        scale = scale * norm.gamma
    offset = -norm.moving_mean * scale
    if norm.center:
        offset = offset + norm.beta
    if conv.use_bias:
        offset = offset + conv.bias * scale
    is_depthwise = isinstance(conv, keras.layers.DepthwiseConv2D)
    kernel = keras.ops.convert_to_tensor(conv.kernel)
    # A depthwise kernel is (height, width, channels, multiplier), channel by channel.
    kernel = kernel * (keras.ops.reshape(scale, kernel.shape[2:]) if is_depthwise else scale)
    convolve = keras.ops.depthwise_conv if is_depthwise else keras.ops.conv
    outputs = convolve(
        keras.ops.cast(inputs, "float32"),
        kernel,
        strides=tuple(conv.strides),
        padding=conv.padding,
        data_format=conv.data_format,
        dilation_rate=tuple(conv.dilation_rate),
    )
    return tf.nn.bias_add(outputs, offset)
