"""What was learned in int8, back in the model it came from."""

from kerastl import _checks
from kerastl.compression.quantize.fold import fold


def restore(quantized, model):
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
            f"Closest: {_checks.closest(name, names)}."
        )
    layer = quantized.get_layer(name)
    received = [tuple(w.shape) for w in layer.weights]
    if received != expected:
        raise ValueError(
            f"`quantized` must be made from `model` by `quantize_aware`. Received: layer {name!r} "
            f"with weights of shapes {received}, where {expected} are needed."
        )
    return layer
