"""From a trained Keras 3 model to one that trains with the errors of int8."""

import keras

from kerastl.compression.quantize.calibrate import calibrate
from kerastl.compression.quantize.fake_quantize import fake_quantize
from kerastl.compression.quantize.fold import fold
from kerastl.compression.quantize.ranges import ranges_of
from kerastl.compression.quantize.report import (
    has_int8_kernels,
    is_quantized,
    nothing_quantized,
    report_of,
)
from kerastl.groups import flat_layers, select_layers


def quantize_aware(model, data=None, *, keep_float=()):
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
    fixes. Composite layers, recurrent layers, attention and layer normalizations stay float.

    Names and `trainable` flags of layers stay. A rounding is called as the layer before it and
    `_range`. Frozen layers have ranges that stand still, and are so seen in `data`.

    Args:
        model: Functional or built Sequential `keras.Model`, channels last, best a trained one.
            Nested models are inlined. It stays as it is.
        data: A few hundred inputs as in training, to see ranges in before the first step: an
            array, arrays nested as the inputs are, a tuple `(inputs, targets)` of such, or a
            `tf.data.Dataset` of batches of either. None to begin with the ranges of the first
            training batch.
        keep_float: Layers that are to compute in float32, as in `kerastl.select_layers`. What
            reads such a layer does so, too.

    Returns:
        Functional `keras.Model` (a `FineTuner` if `model` is one) with weights of its own, not
        compiled. It saves to `.keras` and comes back.

    Raises:
        TypeError: If `model` is not a Keras 3 model.
        ValueError: If it has no graph, is quantized already, or has nothing that can compute in
            int8; if `data` does not fit; or if `keep_float` matches no layer.

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
    if data is not None:
        calibrate(quantized, data)
    else:
        for layer in ranges_of(quantized):
            layer.trainable = True  # of a frozen layer, too: nothing else would show it data
    return quantized


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
