"""`where`: the one way to say which layers are meant."""

import operator
import re

import keras

from kerastl._base.checks import closest, listed
from kerastl._base.types import Where
from kerastl.graph.assignment import assignment
from kerastl.graph.leaves import leaf_layers, units_of


def select_layers(model: keras.Model, where: Where) -> list[keras.Layer]:
    """The leaf layers of `model` that `where` means, in the order asked for, each once.

    A string is tried as an exact path, as a group name, then as a regex that must match a whole
    path. A *path* is the name of a layer of the flat graph (`conv1_bn`), of a part of a
    composite layer (`transformer_layer_3/self_attention_layer/query`), or of a nested model
    (`resnet50`), and either may have the nested models before it (`resnet50/conv1_bn`). A
    composite layer or nested model means all its leaf layers. Where a string is both a path and
    a group name, it is refused unless both hold the same weights; the group is then meant.

    Args:
        model: A functional or built Sequential `keras.Model`.
        where: A layer; an index or slice into `flat_layers(model)`; an exact path; a group
            name of `layer_groups(model)`; a regex; or a list or tuple of these.

    Returns:
        List of leaf layers as `leaf_layers` gives them.

    Raises:
        TypeError: If `where` is none of these. A bool is no index.
        ValueError: If nothing matches, an index is out of range, or a string is ambiguous.

    Example:
        >>> model = keras.Sequential(
        ...     [keras.Input((4,), name="in"), keras.layers.Dense(3, name="body_1"),
        ...      keras.layers.Dense(3, name="body_2"), keras.layers.Dense(2, name="classes")])
        >>> [layer.name for layer in select_layers(model, ["classes", r"body_\\d", 1])]
        ['classes', 'body_1', 'body_2']
    """
    units = units_of(model)
    chosen = [unit.layer for unit in _select(model, units, where)]
    return list({id(layer): layer for layer in chosen}.values())


def _select(model, units, where):
    if isinstance(where, (list, tuple)):
        found = [unit for one in where for unit in _select(model, units, one)]
        if not found:
            raise ValueError(f"`where` must name at least one layer. Received: where={where!r}")
        return found
    if isinstance(where, keras.Layer):
        return _by_layer(model, units, where)
    if isinstance(where, str):
        return _by_string(model, units, where)
    if isinstance(where, slice):
        return _by_slice(units, where)
    if not isinstance(where, bool) and hasattr(where, "__index__"):
        return _by_index(units, operator.index(where))
    raise TypeError(
        "`where` must be a layer, an index or slice into the flat list of layers, a path, a "
        "regex, a group name, or a list of these. Received: "
        f"where={where!r} (of type {type(where).__module__}.{type(where).__qualname__})"
    )


def _by_index(units, index):
    count = _count(units)
    if not -count <= index < count:
        raise ValueError(
            f"`where` must be an int in [{-count}, {count - 1}], because the model has {count} "
            f"flat layers. Received: where={index}"
        )
    return [unit for unit in units if unit.index == index % count]


def _count(units):
    return 1 + max(unit.index for unit in units if unit.index is not None)


def _by_slice(units, where):
    chosen = set(range(_count(units))[where])
    if not chosen:
        raise ValueError(
            f"`where` must hold at least one of the {_count(units)} flat layers. "
            f"Received: where={where!r}"
        )
    return [unit for unit in units if unit.index in chosen]


def _by_layer(model, units, layer):
    if layer is model:
        return units
    within = {id(part) for part in (layer, *leaf_layers(layer))}
    found = [unit for unit in units if id(unit.layer) in within]
    if not found:
        raise ValueError(
            f"`where` must be a layer of {model.name!r}. Received: where={layer.name!r}, which is "
            f"not in its graph. Closest: {closest(layer.name, _names(units))}."
        )
    return found


def _by_string(model, units, where):
    by_path = _by_path(units, where)
    groups = assignment(model)[1]
    if where in groups:
        return _by_group(groups[where], by_path, where)
    return by_path or _by_regex(model, units, groups, where)


def _by_path(units, where):
    """Units at or below the exact path; refuses a name that two nested models have."""
    found = {}
    for unit in units:
        for place, names in _places(unit).items():
            if where in names:
                found.setdefault(place, []).append(unit)
    if len(found) > 1:
        raise ValueError(
            f"`where` must mean one layer or nested model. Received: where={where!r}, which is "
            f"the name of {listed(found)}. Give one of these paths, or a regex such as "
            f"'.*/{where}' for all."
        )
    return next(iter(found.values()), [])


def _by_group(group, by_path, where):
    in_group = {id(w) for unit in group for w in unit.layer.weights}
    on_path = {id(w) for unit in by_path for w in unit.layer.weights}
    if by_path and in_group != on_path:
        raise ValueError(
            f"`where` must mean one thing. Received: where={where!r}, which is a layer and also a "
            f"group of {len(group)} layers that holds other weights. For the layer pass the "
            f"layer itself, for the group `layer_groups(model)[{where!r}]`."
        )
    return group


def _by_regex(model, units, groups, where):
    try:
        pattern = re.compile(where)
    except re.error as error:
        raise ValueError(
            f"`where` must be a path, a group name or a valid regex. Received: where={where!r} "
            f"({error})."
        ) from error
    found = [u for u in units if any(map(pattern.fullmatch, set().union(*_places(u).values())))]
    if not found:
        names = [*groups, *_names(units)]
        example = re.sub(r"_[^_/]*$", "", closest(where, names, 1).strip("'"))
        raise ValueError(
            f"No layer of {model.name!r} matches `where`. Received: where={where!r}. Closest: "
            f"{closest(where, names)}. A string is a whole path; use a regex such as "
            f"'{example}.*' for a family."
        )
    return found


def _names(units):
    return dict.fromkeys(
        name for unit in units for names in _places(unit).values() for name in sorted(names)
    )


def _places(unit):
    """What holds `unit`: full path of the holder → the names it answers to.

    The holders are the nested models, the flat layer, the composites within, and the leaf.
    """
    full = (*unit.trail, *unit.names)
    depth = len(unit.trail)
    places = {}
    for end in range(1, len(full) + 1):
        start = min(depth, end - 1)
        places["/".join(full[:end])] = {"/".join(full[i:end]) for i in range(start + 1)}
    return places
