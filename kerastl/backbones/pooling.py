"""From what a backbone gives out to one feature vector an example."""

from typing import Any, Literal, TypeAlias, get_args

import keras

from kerastl._base.checks import one_of

Pooling: TypeAlias = Literal["auto", "own", "avg", "max", "token"]
POOLINGS = (*get_args(Pooling), None)


def check_pooling(pooling: Pooling | None) -> Pooling | None:
    """Return `pooling` if it is one of `POOLINGS`, else raise ValueError."""
    return one_of(pooling, POOLINGS, "pooling")


def pooled(
    outputs: keras.KerasTensor | dict[str, keras.KerasTensor],
    pooling: Pooling | None = "auto",
    mask: keras.KerasTensor | None = None,
) -> keras.KerasTensor:
    """Pool feature maps `(B, H, W, C)` or tokens `(B, T, C)` to features `(B, C)`.

    `"auto"` is what the network's authors do: the mean over a feature map; the trained
    `pooled_output` of an encoder that has one; else the mean over the tokens that
    are not padding.

    Args:
        outputs: Keras tensor of rank 2 (returned as it is), 3 or 4, or a dict with
            `sequence_output` and perhaps `pooled_output`, as KerasHub's encoders give.
        pooling: `"auto"`, `"own"` (a trained `pooled_output`, which must be there), `"avg"`,
            `"max"`, `"token"` (the first token, rank 3 only), or None to return feature maps or
            tokens unpooled.
        mask: Keras tensor `(B, T)` or None, nonzero where a token is real.

    Returns:
        Keras tensor `(B, C)`; of the rank of `outputs` if `pooling` is None.

    Raises:
        ValueError: If the outputs cannot be pooled that way.

    Example:
        >>> pooled(keras.Input((7, 7, 16))).shape
        (None, 16)
    """
    if pooling == "own":
        return _own(outputs)
    if isinstance(outputs, dict):
        if pooling == "auto" and "pooled_output" in outputs:
            return outputs["pooled_output"]
        outputs = _sequence(outputs)
    rank = len(outputs.shape)
    if pooling is None or rank == 2:
        return outputs
    if rank == 4 and pooling != "token":
        return _pool_map(outputs, pooling)
    if rank == 3:
        return _pool_tokens(outputs, pooling, mask)
    raise ValueError(
        f"`pooling={pooling!r}` needs outputs of rank {3 if pooling == 'token' else '2 to 4'}. "
        f"Received: outputs of shape {tuple(outputs.shape)}. Pass a backbone that ends in "
        "feature maps, tokens or a vector."
    )


def _own(outputs) -> Any:
    if isinstance(outputs, dict) and "pooled_output" in outputs:
        return outputs["pooled_output"]
    found = ", ".join(outputs) if isinstance(outputs, dict) else f"of shape {tuple(outputs.shape)}"
    raise ValueError(
        "`pooling='own'` (--pooling pooled) needs a network that pools by itself, as BERT and "
        f"ALBERT do. Received: outputs {found}. Take the mean over the tokens, or the first one."
    )


def _sequence(outputs):
    if "sequence_output" in outputs:
        return outputs["sequence_output"]
    raise ValueError(
        "A backbone with several outputs must name one of them 'sequence_output'. "
        f"Received: outputs named {', '.join(map(repr, outputs))}. "
        "Wrap the one you want: `keras.Model(model.input, model.output[NAME])`."
    )


def _pool_map(outputs, pooling) -> Any:
    layer = keras.layers.GlobalMaxPooling2D if pooling == "max" else None
    return (layer or keras.layers.GlobalAveragePooling2D)(name="pooled_features")(outputs)


def _pool_tokens(outputs, pooling, mask) -> Any:
    if pooling == "token":
        return outputs[:, 0, :]
    if pooling == "max":
        if mask is not None:
            # A padded position must never win: push it below every float16 value.
            hidden = 1 - keras.ops.expand_dims(keras.ops.cast(mask, outputs.dtype), -1)
            outputs = outputs - 60000.0 * hidden
        return keras.layers.GlobalMaxPooling1D(name="pooled_features")(outputs)
    layer = keras.layers.GlobalAveragePooling1D(name="pooled_features")
    return layer(outputs) if mask is None else layer(outputs, mask=mask)
