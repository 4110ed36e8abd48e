"""From a trained Keras 3 model to one that trains with the errors of int8."""

from typing import Any

import keras

from kerastl._base import checks
from kerastl._base.types import Where
from kerastl.compression.kernels import all_kernels
from kerastl.compression.masks import hold
from kerastl.compression.quantize.fake_quantize import calibrate, fake_quantize
from kerastl.compression.quantize.fold import fold
from kerastl.compression.quantize.ranges import ranges_of
from kerastl.compression.quantize.report import (
    has_int8_kernels,
    is_quantized,
    nothing_quantized,
    report_of,
)
from kerastl.data.ranges import check_ranges
from kerastl.graph import flat_layers, select_layers


def quantize_aware(model: keras.Model, data: Any = None, *, keep_float: Where = ()) -> keras.Model:
    """A model that computes with the rounding of int8, to be trained until it has learned to.

    Train it as any Keras 3 model for a few epochs, at about a tenth of the rate before, then
    `export.to_litert(quantized, path, quantization="int8")`, which needs no further data: the file
    computes what the model does in inference. `quantization_report` says what is in int8,
    `restore` brings what was learned back into the original model.

    The network is rewritten first (`fold`): batch normalizations go into the layer before them, so
    that their statistics no longer move. Then kernels are rounded to 8 bits, symmetric, one scale
    for each output channel of a convolution and one for a dense layer or transposed convolution;
    what layers give is rounded to 8 bits over a range that starts from data and follows it. A ReLU
    is one step with the layer before it, and one range serves both sides of what has one scale in
    int8: pooling, padding, concatenation. Sigmoid, tanh and softmax have the range that LiteRT
    fixes. Composite layers, recurrent layers, attention and layer normalizations stay float. Of
    convolutions of sequences and `EinsumDense` the file rounds the kernels, training does not.

    Weights that are exactly zero, as pruning leaves them, stay zero in its training and in the
    file, until `compression.strip(quantized)`. A kernel of zeros alone is free to learn. A `.keras`
    file keeps the zeros and not that they are held: call `compression.hold_zeros` after loading.

    Names and `trainable` flags of layers stay. A rounding is called as the layer before it and
    `_range`. Frozen layers have ranges that stand still, and are so seen in `data`.

    Args:
        model: Functional or built Sequential `keras.Model`, channels last, best a trained one.
            Nested models are inlined. It stays as it is.
        data: A few hundred inputs as in training, to see ranges in before the first step: an
            array, for several inputs a dict by name or a list in order, a tuple `(inputs,
            targets)` of such, or a `tf.data.Dataset`, `PyDataset` or generator of batches of
            either. None to begin with the ranges of the first training batch.
        keep_float: Layers that are to compute in float32, as in `kerastl.select_layers`. What
            reads such a layer does so, too.

    Returns:
        Functional `keras.Model` (a `FineTuner` if `model` is one) with weights of its own, not
        compiled. It saves to `.keras` and comes back.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: If it has no graph, is quantized already, or has nothing that can compute in
            int8; if `data` does not fit, or lies in another range than the model takes; or if
            `keep_float` matches no layer.

    Example:
        >>> import numpy as np
        >>> inputs = keras.Input((8, 8, 3))
        >>> x = keras.layers.Conv2D(4, 3, use_bias=False, name="conv")(inputs)
        >>> x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
        >>> x = keras.layers.GlobalAveragePooling2D()(x)
        >>> model = keras.Model(inputs, keras.layers.Dense(2, name="head")(x))
        >>> quantized = quantize_aware(model, np.ones((4, 8, 8, 3)))
        >>> type(quantized.get_layer("conv")).__name__, len(quantized.get_layer("conv").weights)
        ('QuantizedConv2D', 2)
        >>> quantized.compile("adam", "mse")
        >>> history = quantized.fit(np.ones((4, 8, 8, 3)), np.ones((4, 2)), verbose=0)

    References:
        Jacob et al., 2018, section 3, https://arxiv.org/abs/1712.05877
        Krishnamoorthi, 2018, https://arxiv.org/abs/1806.08342
    """
    _refuse_quantized(model)
    names = _kept_names(model, keep_float)
    folded = fold(model)
    quantized, policy = fake_quantize(folded.model, _kept(model, folded, names, keep_float))
    if not has_int8_kernels(policy):
        raise ValueError(nothing_quantized(model, report_of(policy)))
    _hold_zeros(quantized, folded.origins)
    if data is not None:
        shown = calibrate(quantized, data)
        names = [tensor.name for tensor in model.inputs]
        check_ranges(model, dict(zip(names, shown, strict=True)), "`data`")
    else:
        for layer in ranges_of(quantized):
            layer.trainable = True  # of a frozen layer, too: nothing else would show it data
    return quantized


def _hold_zeros(quantized, origins):
    """Hold the zeros that a pruning left, whether its masks were stripped, or lost in a file.

    Those of the weights themselves: a filter that a normalization multiplies by zero may grow.
    """
    kernels = {id(kernel.variable): kernel for kernel in all_kernels(quantized)}
    for name, origin in origins.items():
        for old, new in origin.pairs(quantized.get_layer(name)):
            keep = keras.ops.convert_to_numpy(old) != 0
            if id(new) in kernels and keep.any() and not keep.all():
                hold(kernels[id(new)], keep.reshape(new.shape))


def _refuse_quantized(model):
    if isinstance(model, keras.Model) and is_quantized(model):
        raise ValueError(
            "`model` must be one with float kernels. Received: "
            f"{model.name!r}, which is quantized already. Quantize the model it was made of."
        )


def _kept_names(model, keep_float):
    """Names of the layers of the flat graph that `keep_float` means."""
    if isinstance(keep_float, (list, tuple)) and not keep_float:
        return set()
    chosen = {id(layer) for layer in select_layers(model, keep_float)}
    return {layer.name for layer in flat_layers(model) if id(layer) in chosen}


def _kept(model, folded, names, keep_float):
    """Ids of the operations of the folded graph that came from layers of these names."""
    names = names | {f"{name}_depthwise" for name in names}
    for name, origin in folded.origins.items():
        if getattr(getattr(origin, "norm", None), "name", None) in names:
            names.add(name)
    kept = {id(op) for op in folded.model.operations if op.name in names}
    if names and not kept:
        raise ValueError(
            f"`keep_float` must name layers that compute in inference. Received: "
            f"keep_float={keep_float!r}, which is of {model.name!r} only what was folded away."
        )
    return kept


def restore(quantized: keras.Model, model: keras.Model) -> keras.Model:
    """Bring the weights of a quantized model back into the Keras 3 model it was made from.

    The inverse of the folding in `quantize_aware`: kernels are divided by the scale of the batch
    normalization that went into them, whose offset takes up the bias. `model` then computes in
    float32 what `quantized` computes but for the rounding. The statistics and scales of its batch
    normalizations stay as they were, but for channels that were multiplied by zero: their scale
    becomes one, since the filter may have grown.

    Args:
        quantized: `keras.Model` from `quantize_aware(model)`.
        model: That `keras.Model`, or another of the same layers.

    Returns:
        `model`.

    Raises:
        ValueError: If `quantized` was not made from a model of these layers. Nothing is changed.

    Example:
        >>> import keras
        >>> from kerastl.compression import quantize_aware
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")])
        >>> quantized = quantize_aware(model)
        >>> _ = quantized.get_layer("head").bias.assign([1.0, 2.0])
        >>> restore(quantized, model).layers[0].bias.numpy()
        array([1., 2.], dtype=float32)

    References:
        Jacob et al., 2018, equation 14, https://arxiv.org/abs/1712.05877
    """
    folded = fold(model)
    pairs = [(origin, _partner(quantized, folded, name)) for name, origin in folded.origins.items()]
    for origin, layer in pairs:
        origin.take(layer)
    return model


def _partner(quantized, folded, name):
    expected = [tuple(w.shape) for w in folded.model.get_layer(name).weights]
    names = [layer.name for layer in quantized.layers]
    if name not in names:
        raise ValueError(
            f"`quantized` must be made from `model` by `quantize_aware`. Received: "
            f"{quantized.name!r}, which has no layer {name!r}. "
            f"Closest: {checks.closest(name, names)}."
        )
    layer = quantized.get_layer(name)
    received = [tuple(w.shape) for w in layer.weights]
    if received != expected:
        raise ValueError(
            f"`quantized` must be made from `model` by `quantize_aware`. Received: layer {name!r} "
            f"with weights of shapes {received}, where {expected} are needed."
        )
    return layer
