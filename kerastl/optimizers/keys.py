"""From the keys of `multipliers` to one number per variable."""

import collections
import math
import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from kerastl._base import checks
from kerastl._keras import optimizer_internals as internals
from kerastl._keras.optimizer_internals import path_of
from kerastl.graph.layer_groups import LayerGroups

# A key of a more exact kind wins over one of a less exact kind.
KINDS = ("group", "regex", "layer", "path")


def check_multipliers(multipliers: Any) -> Any:
    """Return `multipliers` as a dict, or as the rows that a saved config holds (see `rows`)."""
    if multipliers is None:
        return {}
    if isinstance(multipliers, Mapping):
        return {key: _check_value(key, value) for key, value in multipliers.items()}
    if isinstance(multipliers, (list, tuple)) and all(
        isinstance(row, (list, tuple)) and len(row) == 3 for row in multipliers
    ):
        return [
            [path, _check_value(path, value), bool(spared)] for path, value, spared in multipliers
        ]
    raise TypeError(
        "`multipliers` must be a dict from group name, path or regex to a number >= 0. "
        f"Received: multipliers={multipliers!r}"
    )


def check_paths(paths: Any) -> tuple[str, ...]:
    """Return `paths`, those of `no_decay`, as a tuple of strings."""
    if isinstance(paths, str) or not all(isinstance(path, str) for path in paths):
        raise TypeError(
            "`no_decay` must be a sequence of variable paths, such as `no_decay(model)` gives. "
            f"Received: no_decay={paths!r}"
        )
    return tuple(paths)


def _check_value(key, value):
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (real and math.isfinite(value) and float(value) >= 0):
        raise ValueError(
            "A multiplier must be a finite number >= 0 (0 freezes, 1 is the full rate). "
            f"Received: multipliers={{{key!r}: {value!r}}}"
        )
    return float(value)


def resolve(
    multipliers: Any, variables: Sequence[keras.Variable], groups: LayerGroups | None = None
) -> list[float]:
    """One multiplier for each of `variables`, 1.0 where no key matches.

    Args:
        multipliers: Dict from key to number, or rows as `rows` makes them.
        variables: `keras.Variable`s, the slots of the optimizer.
        groups: `LayerGroups`, or None. Its variables count as matched where they have no slot: a
            group that does not train may be named.

    Returns:
        List of floats in the order of `variables`.

    Raises:
        ValueError: If a key matches nothing, or two keys of the same kind differ on a variable.
    """
    if not isinstance(multipliers, dict):
        return [value for _, value, _ in _match_rows(multipliers, variables)]
    universe = _universe(variables, groups)
    won = {}
    for key, value in multipliers.items():
        kind, matched = _match(key, universe, groups)
        for identity in matched:
            won[identity] = _stronger(won.get(identity), (kind, key, value), universe[identity])
    return [won[id(v)][2] if id(v) in won else 1.0 for v in variables]


def spared_slots(
    multipliers: Any, variables: Sequence[keras.Variable], no_decay: Sequence[str]
) -> set[int]:
    """The slots without weight decay: those that `no_decay` or a saved row names."""
    found = {slot for slot, variable in enumerate(variables) if path_of(variable) in no_decay}
    if not isinstance(multipliers, dict):
        rows_ = _match_rows(multipliers, variables)
        found |= {slot for slot, (_, _, spared) in enumerate(rows_) if spared}
    return found


def rows(
    multipliers: Any,
    variables: Sequence[keras.Variable],
    groups: LayerGroups | None,
    spared: Callable[..., bool],
) -> list[list[Any]]:
    """`multipliers` resolved to `[path, number, spared from decay]`, the slots first.

    For a saved config, which can know no groups, and no paths either: Keras drops the name of a
    Sequential model from them when it loads one. The order is what holds.
    """
    universe = list(_universe(variables, groups).values())
    values = resolve(multipliers, universe, groups)
    return [[path_of(v), value, spared(v)] for v, value in zip(universe, values, strict=True)]


def _universe(variables, groups):
    found = {id(variable): variable for variable in variables}
    if groups is None:
        return found
    for name, _ in groups.items():
        found.update((id(v), v) for v in groups.variables(name) if id(v) not in found)
    return found


def _match(key, universe, groups):
    """The kind of `key` and the ids of the variables it means."""
    if groups is not None and key in groups:
        return "group", [id(variable) for variable in groups.variables(key)]
    if exact := [i for i, v in universe.items() if path_of(v) == key]:
        return "path", exact
    if below := [i for i, v in universe.items() if path_of(v).startswith(key + "/")]:
        return "layer", below
    try:
        matched = [i for i, v in universe.items() if re.fullmatch(key, path_of(v))]
    except re.error:
        matched = []
    if matched:
        return "regex", matched
    raise ValueError(
        "Each key of `multipliers` must be a group name, the path of a variable or layer, or a "
        f"regex that matches a whole variable path. Received: {key!r}, which matches nothing. "
        f"Closest: {checks.closest(key, _names(universe, groups))}."
    )


def _names(universe, groups):
    """All that a key may say: group names, variable paths and the layer paths above them."""
    paths = [path_of(variable) for variable in universe.values()]
    layers = [path.rpartition("/")[0] for path in paths]
    names = [name for name, _ in groups.items()] if groups is not None else []
    return list(dict.fromkeys([*names, *layers, *paths]))


def _stronger(before, new, variable):
    if before is None or KINDS.index(new[0]) > KINDS.index(before[0]):
        return new
    if new[0] == before[0] and new[2] != before[2]:
        raise ValueError(
            f"{path_of(variable)!r} must have one multiplier. Received: {before[1]!r}: {before[2]} "
            f"and {new[1]!r}: {new[2]}, which both match it. Narrow one of them, or add "
            f"{path_of(variable)!r} itself, which wins over both."
        )
    return before


def _match_rows(rows_, variables):
    """The row of each variable: in order if the names agree, else by path.

    Paths need not be unique in a model: the n-th variable of a path gets its n-th row.
    """
    head = rows_[: len(variables)]
    if len(head) == len(variables) and all(
        _same_but_for_prefix(row[0], path_of(variable))
        for row, variable in zip(head, variables, strict=True)
    ):
        return head
    waiting = collections.defaultdict(collections.deque)
    for row in rows_:
        waiting[row[0]].append(row)
    unknown = [path_of(v) for v in variables if not waiting[path_of(v)]]
    if unknown:
        raise ValueError(
            "The saved multipliers must cover all variables. Received, not among them: "
            f"{checks.listed(unknown, 5)}. Give new ones with `set_multipliers`."
        )
    return [waiting[path_of(v)].popleft() for v in variables]


def _same_but_for_prefix(a, b):
    return f"/{a}".endswith(f"/{b}") or f"/{b}".endswith(f"/{a}")


REFUSED = {
    keras.optimizers.Ftrl: (
        "its step is not proportional to the rate (the weights are solved anew from all past "
        "gradients)",
        "Use Adagrad, which adapts in the same way and is linear in the rate.",
    ),
    keras.optimizers.ScheduleFreeAdamW: (
        "it averages the weights with weights that depend on the squared rate, and trains on an "
        "interpolation of them",
        "Use AdamW with a schedule.",
    ),
    keras.optimizers.MultiOptimizer: (
        "it has no `learning_rate` that could be multiplied",
        "Wrap the one optimizer that you want at several rates.",
    ),
    keras.optimizers.LossScaleOptimizer: (
        "it skips steps, so it must stand outside",
        "Wrap the other way round: LossScaleOptimizer(LRMultiplier(...)). Under mixed_float16 "
        "`compile` does that by itself.",
    ),
}


def check_optimizer(optimizer: Any) -> keras.optimizers.Optimizer:
    """Return `optimizer` if its steps can be scaled exactly, else raise with what to use."""
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            "`optimizer` must be a keras.optimizers.Optimizer instance. Received: "
            f"optimizer={optimizer!r}. For a name use keras.optimizers.get(name)."
        )
    name = type(optimizer).__name__
    for kind, (reason, remedy) in REFUSED.items():
        if isinstance(optimizer, kind):
            raise ValueError(f"LRMultiplier cannot wrap {name}: {reason}. {remedy}")
    if methods := internals.overridden_methods(optimizer):
        raise ValueError(
            f"LRMultiplier cannot wrap {name}: it replaces {', '.join(methods)}, where the rate "
            "could be used unseen. Override `update_step` alone, or use an optimizer of "
            "keras.optimizers."
        )
    if optimizer.built or internals.is_hooked(optimizer):
        raise ValueError(
            f"LRMultiplier needs a fresh optimizer. Received: {name} that is already "
            f"{'wrapped' if internals.is_hooked(optimizer) else 'built'}. Make a new one with "
            f"{name}.from_config(optimizer.get_config())."
        )
    return optimizer
