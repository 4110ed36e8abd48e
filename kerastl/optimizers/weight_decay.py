"""Which variables weight decay should leave alone."""

import re

import keras

from kerastl import _keras

NORMALIZATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
    keras.layers.UnitNormalization,
)
# KerasHub's and KerasCV's own norm layers, by class name so that neither need be imported:
# LlamaLayerNorm, T5LayerNorm, RMSNormalization, RmsNorm2d, RoformerNorm, Gemma4FrozenNorm, ...
NORMALIZATION_CLASS = re.compile(r".*Norm(alization)?(\d+d|Gated)?")

# What vision transformers hold beside their patches, as attributes of the layer that holds them.
TOKENS = (
    "class_token",
    "cls_token",
    "distillation_token",
    "dist_token",
    "register_token",
    "register_tokens",
    "mask_token",
)
# Learned positions of a layer that holds such a token, and tables of relative ones.
POSITIONS = ("position_embedding", "position_embeddings", "pos_embed")
RELATIVE_POSITIONS = ("relative_position_bias_table",)


def no_decay(model):
    """Paths of the variables that weight decay should leave alone.

    Decay pulls weights to 0. Biases and the parameters of norms set levels and scales, where 0 is
    nothing special; class, register, distillation and position tokens of a vision transformer are
    single vectors. All are chosen by the type of the layer, the rank of the variable and the part
    it plays in its layer, not by name: a norm may be called `gate`.

    * every variable of rank 0 or 1 (biases, scales, layer scale),
    * every layer's `bias`, of any rank (attention has biases of rank 2),
    * everything a normalization layer holds,
    * tokens, and positions in a layer that holds a token.

    Position embeddings of text models and all other embeddings are decayed.

    Args:
        model: `keras.Model` or layer, built; nested ones are searched at any depth.

    Returns:
        Tuple of paths of trainable variables, each once, for
        `LRMultiplier(..., no_decay=no_decay(model))`.

    Example:
        >>> model = keras.Sequential([
        ...     keras.Input((4,)), keras.layers.Dense(8, name="body"),
        ...     keras.layers.LayerNormalization(name="gate")], name="net")
        >>> no_decay(model)
        ('net/body/bias', 'net/gate/gamma', 'net/gate/beta')

    References:
        Touvron et al., 2021 (DeiT), https://arxiv.org/abs/2012.12877, whose code leaves these
        same variables out.
    """
    if not isinstance(model, keras.layers.Layer):
        raise TypeError(f"`model` must be a keras.Model or layer. Received: model={model!r}")
    spared = {}
    for layer in _all_layers(model, {}).values():
        spared.update((id(variable), variable) for variable in _spared_of(layer))
    ordered = [variable for variable in model.variables if id(variable) in spared]
    return tuple(dict.fromkeys(variable.path for variable in ordered))


def _all_layers(layer, found):
    if id(layer) not in found:
        found[id(layer)] = layer
        for child in _keras.sublayers(layer):
            _all_layers(child, found)
    return found


def _spared_of(layer):
    own = _keras.own_trainable_variables(layer)
    if is_normalization(layer):
        return own
    parts = [getattr(layer, name, None) for name in ("bias", *TOKENS, *RELATIVE_POSITIONS)]
    if any(isinstance(getattr(layer, name, None), keras.Variable) for name in TOKENS):
        parts += [_position(layer, name) for name in POSITIONS]
    low = [variable for variable in own if len(variable.shape) < 2]
    return low + [part for part in parts if isinstance(part, keras.Variable)]


def _position(layer, name):
    position = getattr(layer, name, None)
    return position.embeddings if isinstance(position, keras.layers.Embedding) else position


def is_normalization(layer):
    """Whether `layer` normalizes its inputs, by its type."""
    named = NORMALIZATION_CLASS.fullmatch(type(layer).__name__)
    return isinstance(layer, NORMALIZATIONS) or bool(named)
