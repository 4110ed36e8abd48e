"""Rules that spread learning rates over layer groups."""

import re

import keras

from kerastl import _keras
from kerastl._base import checks
from kerastl.graph.layer_groups import Groups


def discriminative_rates(groups: Groups, rates: slice | float) -> dict[str, float]:
    """Multipliers for rates that grow geometrically from input to head.

    The first group learns at `lo`, the last at `hi`, each one between by the same factor faster
    than the one before: `rate[i] = lo * (hi / lo) ** (i / (n - 1))`, and `hi` alone if there is
    one group. The result is relative to `hi`: give the optimizer `learning_rate=hi`.

    Args:
        groups: `LayerGroups`, or names of groups, ordered from input to head.
        rates: `slice(lo, hi)`, learning rates > 0. `slice(hi)` trains the last group at `hi`
            and all others at `hi / 10`, as fastai does. A number is one rate for all.

    Returns:
        Dict from group name to `rate / hi`, in the order of `groups`.

    Raises:
        ValueError: If a rate is not > 0, or `rates` has a step or no end.
        TypeError: If a rate is no number.

    Example:
        >>> discriminative_rates(["stem", "block_1", "head"], slice(1e-5, 1e-3))
        {'stem': 0.01, 'block_1': 0.1, 'head': 1.0}
        >>> discriminative_rates(["stem", "block_1", "head"], slice(1e-3))
        {'stem': 0.1, 'block_1': 0.1, 'head': 1.0}

    References:
        Howard & Ruder, 2018, section 3.2, https://arxiv.org/abs/1801.06146
    """
    names = _names(groups)
    if not isinstance(rates, slice):
        _check_rate(rates, rates)
        return dict.fromkeys(names, 1.0)
    if rates.step is not None:
        raise ValueError(
            f"`rates` must be slice(lo, hi) or slice(hi), without a step. Received: rates={rates}"
        )
    _check_rate(rates.stop, rates)
    if rates.start is None:
        return {name: 1.0 if name == names[-1] else 0.1 for name in names}
    _check_rate(rates.start, rates)
    # Relative to `hi`, the formula is `(lo / hi) ** (1 - i / (n - 1))`.
    last = max(len(names) - 1, 1)
    ratio = rates.start / rates.stop if len(names) > 1 else 1.0
    return {name: _tidy(ratio ** (1 - i / last)) for i, name in enumerate(names)}


def layer_decay(groups: Groups, decay: float = 0.75) -> dict[str, float]:
    """Learning-rate multipliers that shrink geometrically from head to input.

    The last group keeps the full rate; each group below learns `decay` times
    as fast as the one above: `multiplier[i] = decay ** (n - 1 - i)`. Early
    layers hold general features, so they should move least.

    Args:
        groups: `LayerGroups` of `n` groups, or names of groups, ordered from input to head.
        decay: Float in (0, 1], dimensionless. 1 trains every group alike.

    Returns:
        Dict from group name to multiplier, in the order of `groups`.

    Raises:
        ValueError: If `decay` is outside (0, 1].

    Example:
        >>> layer_decay(["stem", "block_1", "head"], decay=0.5)
        {'stem': 0.25, 'block_1': 0.5, 'head': 1.0}

    References:
        Howard & Ruder, 2018, section 3.2 (there `decay` is 1 / 2.6),
        https://arxiv.org/abs/1801.06146
    """
    names = _names(groups)
    checks.in_range(decay, 0, 1, "decay", "a float")
    if decay == 0:
        raise ValueError(
            "`decay` must be above 0. Received: decay=0. "
            "To train the head alone, freeze the groups below it."
        )
    last = len(names) - 1
    return {name: float(decay) ** (last - i) for i, name in enumerate(names)}


def _names(groups):
    names = list(getattr(groups, "names", groups))
    if not names or len(set(names)) != len(names) or isinstance(groups, str):
        raise ValueError(
            "`groups` must be LayerGroups or a sequence of distinct group names, from input to "
            f"head. Received: groups={groups!r}"
        )
    return names


def _check_rate(rate, rates):
    if isinstance(rate, bool) or not isinstance(rate, (int, float)):
        raise TypeError(
            "`rates` must be slice(lo, hi), slice(hi) or a number. "
            f"Received: rates={rates!r} with {rate!r} (of type {type(rate).__qualname__})"
        )
    if not 0 < rate < float("inf"):
        raise ValueError(
            f"`rates` must hold finite learning rates > 0. Received: rates={rates!r}. "
            "To keep a group from training, freeze it."
        )


def _tidy(multiplier):
    """Drop the last digits, where binary rounding stands (0.010000000000000002)."""
    return float(f"{multiplier:.12g}")


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


def no_decay(model: keras.Layer) -> tuple[str, ...]:
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


def is_normalization(layer: keras.Layer) -> bool:
    """Whether `layer` normalizes its inputs, by its type."""
    named = NORMALIZATION_CLASS.fullmatch(type(layer).__name__)
    return isinstance(layer, NORMALIZATIONS) or bool(named)
