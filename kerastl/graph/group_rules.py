"""How a family's declared rules turn the units of a model into named groups."""

import dataclasses
import functools
import re
from collections.abc import Iterable, Sequence
from typing import Any

import keras

from kerastl.graph.flatten import Walk
from kerastl.graph.leaves import Unit


@dataclasses.dataclass(frozen=True)
class Family:
    """The declared layer groups of one family of networks.

    Patterns are regular expressions that must match a whole unit path, such as
    `conv2_block1_1_conv` or, inside a composite layer, `transformer_layer_0/feedforward_dropout`.
    Names of models are never looked at, since users choose them.

    Attributes:
        name: Name of the family, shown to users.
        anchors: Patterns; a model belongs to the family if each matches some unit.
        rules: Pairs `(group, pattern)`, tried in order. `group` may hold `{0}`, `{1}`, filled
            with what the pattern's parentheses matched. The order of groups is not declared: it
            is that of their first units in the graph.
        unless: Patterns; a model does not belong if any matches some unit.
        tail: One `(group, pattern)` for unnamed layers right after the last matched one: they
            join `group` while they match, up to and including the first with weights.
        closing: If true, the matched layers end their group (a concatenation after unnamed
            branches), so an unmatched layer joins the next matched one, not the previous.
        stem_end: With `closing`, the class name of the layer that ends the stem: the last such
            before the first matched layer.
        note: What to tell whoever asks for a group that such networks do not have.
    """

    name: str
    anchors: tuple[str, ...]
    rules: tuple[tuple[str, str], ...]
    unless: tuple[str, ...] = ()
    tail: tuple[str, ...] = ()
    closing: bool = False
    stem_end: str = ""
    note: str = ""

    def fits(self, paths: Iterable[str]) -> bool:
        """Whether a model with these unit paths belongs to the family."""

        def found(pattern):
            return any(_compiled(pattern).fullmatch(path) for path in paths)

        return all(map(found, self.anchors)) and not any(map(found, self.unless))

    def group_of(self, path: str) -> str | None:
        """The group whose rule matches `path`, or None."""
        for group, pattern in self.rules:
            match = _compiled(pattern).fullmatch(path)
            if match:
                return group.format(*match.groups())
        return None


@functools.cache
def _compiled(pattern):
    return re.compile(pattern)


def match_path(unit: Unit) -> str:
    """The path that patterns see: without the prefix that `flatten` gives a clashing name."""
    first, *rest = unit.names
    return "/".join((first.rsplit(".", 1)[-1], *rest))


def assign(family: Family, units: Sequence[Unit], walk: Walk) -> list[str]:
    """A group name for each unit.

    A unit that no rule matches, but that leads to a matched one, joins the group of its nearest
    matched predecessor in flat order (its successor, if the family is `closing`); before the
    first matched unit, and if it is an input layer, the first group. A unit that leads to no
    matched one is new: `head`. An unused unit of a nested model is never new.

    Args:
        family: `Family`.
        units: List of `Unit` in flat order.
        walk: The `Walk` of the model.

    Returns:
        List of group names, one for each unit.
    """
    names = [family.group_of(match_path(unit)) for unit in units]
    matched = {id(unit.flat_layer) for unit, name in zip(units, names, strict=True) if name}
    outside = _outside(family, units, _leading_to(matched, walk), walk)
    if family.stem_end:
        _mark_stem_end(family, units, names)
    first = next(name for name in names if name)
    for i, unit in enumerate(units):
        if id(unit.flat_layer) in outside:
            names[i] = outside[id(unit.flat_layer)]
        elif isinstance(unit.layer, keras.layers.InputLayer):
            names[i] = first
    return _filled(names, backwards=family.closing)


def _leading_to(targets, walk):
    """Ids of the operations from which some operation of `targets` can be reached."""
    inside, waiting = set(targets), list(targets)
    while waiting:
        for source in walk.sources[waiting.pop()]:
            if id(source) not in inside:
                inside.add(id(source))
                waiting.append(id(source))
    return inside


def _mark_stem_end(family, units, names):
    first = next(i for i, name in enumerate(names) if name)
    ends = [i for i in range(first) if type(units[i].layer).__name__ == family.stem_end]
    if ends:
        names[ends[-1]] = "stem"


def _outside(family, units, inside, walk):
    """`head` or the family's tail group for each flat layer after the backbone, by id."""
    group, pattern = family.tail or ("", r"(?!)")
    paths = {id(unit.flat_layer): match_path(unit) for unit in units}
    outside, reached = {}, set(inside)
    for operation in walk.operations:
        key = id(operation)
        if key in inside:
            continue
        follows = any(id(source) in reached for source in walk.sources[key])
        if not isinstance(operation, keras.Layer):
            reached |= {key} if follows else set()
            continue
        in_tail = follows and bool(_compiled(pattern).fullmatch(paths.get(key, "")))
        outside[key] = group if in_tail else "head"
        if in_tail:
            reached = set() if operation.weights else reached | {key}
    return outside


def _filled(names, backwards) -> list[Any]:
    """`names` with each None replaced by its neighbour; `head` is nobody's neighbour."""
    order = range(len(names) - 1, -1, -1) if backwards else range(len(names))
    filled = list(names)
    for pass_order in (order, reversed(order)):
        last = None
        for i in pass_order:
            if filled[i] is None:
                filled[i] = last
            elif names[i] not in (None, "head"):
                last = filled[i]
    return filled
