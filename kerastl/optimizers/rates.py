"""Rules that spread learning rates over layer groups."""

from kerastl import _checks


def discriminative_rates(groups, rates):
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


def layer_decay(groups, decay=0.75):
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
    _checks.in_range(decay, 0, 1, "decay", "a float")
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
