"""A model's layers as named groups, ordered from input to head."""

import math
from collections.abc import ItemsView, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import keras

from kerastl._base.checks import closest, listed
from kerastl._base.text_table import in_columns
from kerastl.graph.assignment import assignment, note_of
from kerastl.graph.leaves import leaf_layers, variables_of_no_sublayer


class LayerGroups:
    """Named groups of leaf layers, ordered from input to head.

    Rates, plans and freezing speak of groups by name. A group holds *units*: leaf layers as
    `leaf_layers` gives them, so that a part of a composite layer can be reached. Each variable
    belongs to the first unit that holds it; tied weights thus have one group.

    The groups are those of the model when they were made: make them anew after adding layers.
    Usually made by `layer_groups(model)`.

    Args:
        groups: Dict from group name to its layers, ordered from input to head.
        family: Name of the rules the groups come from.
        places: Dict from `id(layer)` to `(index, path)`: where each layer is in the flat list
            of the model. Without it layers go by their names.

    Raises:
        ValueError: If a layer is in two groups.

    Example:
        >>> first, last = keras.layers.Dense(2, name="first"), keras.layers.Dense(2, name="last")
        >>> groups = LayerGroups({"stem": [first], "head": [last]})
        >>> groups.names, len(groups), groups[-1][0].name, groups.group_of(first)
        (('stem', 'head'), 2, 'last', 'stem')
    """

    def __init__(
        self,
        groups: Mapping[str, Sequence[keras.Layer]],
        *,
        family: str = "custom",
        places: Mapping[int, tuple[int | None, str]] | None = None,
    ) -> None:
        self._units = {str(name): tuple(layers) for name, layers in groups.items()}
        self.family = family
        self._places = places or {}
        self._group_of_layer = {}
        self._group_of_variable = {}
        self._variables = {name: [] for name in self._units}
        for name, layers in self._units.items():
            for layer in layers:
                self._take(name, layer)

    def _take(self, name, layer):
        other = self._group_of_layer.setdefault(id(layer), name)
        if other != name:
            raise ValueError(
                "A layer must be in exactly one group. Received: "
                f"{layer.name!r} in {other!r} and in {name!r}."
            )
        for variable in variables_of_no_sublayer(layer):
            if id(variable) not in self._group_of_variable:
                self._group_of_variable[id(variable)] = name
                self._variables[name].append(variable)

    @property
    def names(self) -> tuple[str, ...]:
        """Tuple of the group names, from input to head."""
        return tuple(self._units)

    @property
    def note(self) -> str:
        """A sentence on groups that such a network cannot have, after a space; mostly empty."""
        return note_of(self.family)

    def __len__(self) -> int:
        return len(self._units)

    def __iter__(self) -> Iterator[str]:
        return iter(self._units)

    def __contains__(self, name: str) -> bool:
        return name in self._units

    def __getitem__(self, key: str | int) -> tuple[keras.Layer, ...]:
        """The units of a group, by name or by index from input to head."""
        if isinstance(key, int) and not isinstance(key, bool):
            if not -len(self) <= key < len(self):
                raise IndexError(
                    f"The index of a group must be in [{-len(self)}, {len(self) - 1}], because "
                    f"there are {len(self)} groups: {listed(self.names)}. Received: {key}."
                    f"{self.note}"
                )
            key = self.names[key]
        return self._units[self._known(key)]

    def items(self) -> ItemsView[str, tuple[keras.Layer, ...]]:
        """Pairs `(name, units)` from input to head."""
        return self._units.items()

    def variables(self, name: str) -> list[keras.Variable]:
        """List of the variables of a group: weights, statistics and random states."""
        return list(self._variables[self._known(name)])

    def group_of(self, layer_or_variable: keras.Layer | keras.Variable) -> str:
        """Name of the group of a layer or variable.

        A composite layer whose parts lie in several groups has no group of its own.

        Raises:
            ValueError: If it is in no group, or in several.
        """
        if isinstance(layer_or_variable, keras.Layer):
            parts = [layer_or_variable, *leaf_layers(layer_or_variable)]
            found: set[Any] = {
                self._group_of_layer[id(p)] for p in parts if id(p) in self._group_of_layer
            }
        else:
            found = {self._group_of_variable.get(id(layer_or_variable))} - {None}
        if len(found) != 1:
            name = getattr(layer_or_variable, "path", layer_or_variable)
            where = "in none of" if not found else f"spread over {listed(sorted(found))} of"
            raise ValueError(f"{name!r} is {where} the groups {listed(self.names)}.")
        return found.pop()

    def _known(self, name):
        if name not in self._units:
            raise KeyError(
                f"There is no group {name!r}. Groups: {listed(self.names, 40)}. "
                f"Closest: {closest(name, self.names, 1)}.{self.note}"
            )
        return name

    def indices(self, name: str) -> tuple[int, int] | None:
        """`(first, last)` index of a group in `flat_layers(model)`, or None if not known.

        Groups of networks with side branches may overlap in these.
        """
        units = self._units[self._known(name)]
        found = [self._places.get(id(layer), (None,))[0] for layer in units]
        found = [index for index in found if index is not None]
        return (min(found), max(found)) if found else None

    def path_of(self, layer: keras.Layer) -> str:
        """The path of a unit, such as `transformer_layer_3/self_attention_layer/query`."""
        return self._places[id(layer)][1] if id(layer) in self._places else layer.name

    def __repr__(self) -> str:
        rows: list[tuple[str, ...]] = [("group", "indices", "layers", "weights", "from", "to")]
        for name, units in self.items():
            indices = self.indices(name)
            weights = sum(math.prod(v.shape) for v in self._weights(name))
            ends = [self.path_of(layer) for layer in units[:1] + units[-1:]]
            rows.append(
                (name, "–".join(map(str, indices or ())), str(len(units)), f"{weights:,}", *ends)
            )
        return f"LayerGroups ({self.family}), {len(self)} groups\n{in_columns(rows)}"

    def _weights(self, name):
        owned = {id(w) for layer in self._units[name] for w in layer.weights}
        return [v for v in self._variables[name] if id(v) in owned]


# What a plan is made for: the groups of a model, or their names from input to head.
Groups: TypeAlias = LayerGroups | Sequence[str]


def layer_groups(model: keras.Model) -> LayerGroups:
    """The layers of `model` as named groups, ordered from input to head.

    The rules are declared data, one table per family of keras.applications, KerasHub and KerasCV:
    see `families.py`. A family is known by the names of its layers, never by the name of the
    model. Nested and flat models give the same groups.
    What comes before the backbone joins its first group; what comes after it is `head`. A bare
    backbone has no `head`. Any other model gets the generic rule of `generic.assign_generic`.

    Args:
        model: A functional or built Sequential `keras.Model`.

    Returns:
        `LayerGroups` in which each variable of `model`, random states and statistics included,
        is in exactly one group.

    Raises:
        TypeError: If `model` is not a Keras model.
        ValueError: If `model` has no graph, or has variables that belong to no layer of it.

    Example:
        >>> base = keras.applications.MobileNet(
        ...     input_shape=(32, 32, 3), alpha=0.25, include_top=False, weights=None)
        >>> layer_groups(base).names[:3], layer_groups(base).group_of(base.get_layer("conv_pw_2"))
        (('stem', 'block_1', 'block_2'), 'block_2')
    """
    family, members = assignment(model)
    groups = LayerGroups(
        {name: [unit.layer for unit in units] for name, units in members.items()},
        family=family,
        places={id(u.layer): (u.index, u.path) for units in members.values() for u in units},
    )
    _check_coverage(model, groups)
    return groups


def _check_coverage(model, groups):
    grouped = {id(v) for name in groups for v in groups.variables(name)}
    left = [v.path for v in model.variables if id(v) not in grouped]
    if left:
        raise ValueError(
            f"Each variable of {model.name!r} must belong to a layer of its graph. Left over: "
            f"{listed(left)}. Variables of the model itself, or of layers kept beside the graph, "
            f"cannot be grouped: put them into a layer that the graph calls."
        )
