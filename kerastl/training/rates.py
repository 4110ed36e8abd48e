"""What a FineTuner's user calls layers, in the words of `LRMultiplier`, and by position."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kerastl import _keras
from kerastl._base import checks
from kerastl.graph import leaf_layers, select_layers
from kerastl.optimizers import resolve_multipliers

if TYPE_CHECKING:
    from kerastl.training.fine_tuner import FineTuner


def by_variable_path(
    model: "FineTuner", multipliers: Mapping[str, float] | None
) -> dict[str, float]:
    """`multipliers` with each layer that `select_layers` knows spelled as its variables' paths.

    Keras puts the name of a nested model before the paths of the variables made in it, and
    leaves it out when the flat model is loaded again. Layers of the flat model are named the
    same in both, so users may name those.

    Args:
        model: `FineTuner`.
        multipliers: Dict as in `FineTuner.compile`, or None.

    Returns:
        Dict whose keys are group names, variable paths or regexes over variable paths.
    """
    translated, own_paths, flat_paths = {}, {v.path: v for v in model.weights}, _flat_paths(model)
    for key, value in (multipliers or {}).items():
        named = [] if key in model.groups else _matching(key, flat_paths)
        if key in model.groups or _matching(key, own_paths):
            translated[key] = value
        else:
            named = named or _of_layers(model, key)
            translated.update((variable.path, value) for variable in named)
        _check_told_apart(model, key, named)
    return translated


def _check_told_apart(model, key, named):
    """Raise if another weight has the path of one that `key` names: an optimizer knows paths."""
    ids, paths = {id(variable) for variable in named}, {variable.path for variable in named}
    shared = [v.path for v in model.weights if v.path in paths and id(v) not in ids]
    if shared:
        raise ValueError(
            "Each weight with a multiplier of its own must have a path of its own. Received: "
            f"{key!r}, and another layer has weights of the same paths: {checks.listed(shared, 3)}"
            ". Two nested models have layers of one name; build one of the two inside "
            "`with keras.name_scope('second'):`."
        )


def _flat_paths(model):
    """The weights of `model` by the path of their layer in the flat model and their name."""
    leaves = [leaf for layers in dict(model.groups.items()).values() for leaf in layers]
    return {
        f"{model.groups.path_of(leaf)}/{variable.name}": variable
        for leaf in leaves
        for variable in _keras.own_weights(leaf)
    }


def _of_layers(model, where):
    leaves = [leaf for layer in select_layers(model, where) for leaf in leaf_layers(layer)]
    return [variable for leaf in leaves for variable in _keras.own_weights(leaf)]


def by_position(model: "FineTuner", multipliers: Mapping[str, float] | None) -> list[list[Any]]:
    """Pairs of the position of a weight of `model` and its multiplier, where that is not 1."""
    values = resolve_multipliers(
        by_variable_path(model, multipliers), model.weights, groups=model.groups
    )
    return [[i, value] for i, value in enumerate(values) if value != 1.0]


def _matching(key, paths):
    """The variables whose path is `key`, lies below it, or is matched by it as a regex."""
    try:
        pattern = re.compile(key)
    except re.error:
        pattern = None
    return [
        variable
        for path, variable in paths.items()
        if path == key or path.startswith(f"{key}/") or (pattern and pattern.fullmatch(path))
    ]
