"""From a model to named lists of units, before any check."""

from kerastl.groups._rules import assign, match_path
from kerastl.groups._units import units_and_walk
from kerastl.groups.families import APPLICATIONS
from kerastl.groups.families_cv import CV
from kerastl.groups.families_hub import HUB_IMAGE, HUB_TEXT
from kerastl.groups.generic import assign_generic

FAMILIES = (*APPLICATIONS, *HUB_IMAGE, *HUB_TEXT, *CV)


def assignment(model):
    """`(family name, {group: [Unit]})` in order from input to head, every group with variables.

    A model with the layers of no family, or of several, goes to the generic rule.
    """
    units, walk = units_and_walk(model)
    paths = [match_path(unit) for unit in units]
    fitting = [family for family in FAMILIES if family.fits(paths)]
    if len(fitting) == 1:
        name, labels = fitting[0].name, assign(fitting[0], units, walk)
    else:
        name, labels = "generic", assign_generic(units)
    groups = {label: [] for label in _in_order(labels)}
    for unit, label in zip(units, labels, strict=True):
        groups[label].append(unit)
    return name, _without_empty(groups)


def _in_order(labels):
    ordered = list(dict.fromkeys(label for label in labels if label != "head"))
    return [*ordered, "head"] if "head" in labels else ordered


def _without_empty(groups):
    """Groups without variables joined to the one before them, or after if they are first."""
    kept, waiting = {}, []
    for name, units in groups.items():
        if any(unit.layer.variables for unit in units):
            kept[name] = [*waiting, *units]
            waiting = []
        elif kept:
            kept[next(reversed(kept))].extend(units)
        else:
            waiting.extend(units)
    if waiting and not kept:
        return {next(iter(groups)): waiting}
    return {name: sorted(units, key=_place) for name, units in kept.items()}


def _place(unit):
    return (unit.index is None, unit.index or 0)
