"""From a model to named lists of units, by its family's rules or the generic one."""

import re
from collections.abc import Sequence

import keras

from kerastl.graph.families import APPLICATIONS, CV, HUB_IMAGE, HUB_TEXT
from kerastl.graph.group_rules import assign, match_path
from kerastl.graph.leaves import Unit, units_and_walk, units_of_adapters

FAMILIES = (*APPLICATIONS, *HUB_IMAGE, *HUB_TEXT, *CV)


def assignment(model: keras.Model) -> tuple[str, dict[str, list[Unit]]]:
    """`(family name, {group: [Unit]})` in order from input to head, every group with variables.

    A model with the layers of no family, or of several, goes to the generic rule. An adapter is
    in the group of what it goes with.
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
    label_of = {id(unit): label for unit, label in zip(units, labels, strict=True)}
    for unit, beside in units_of_adapters(model, units):
        groups[label_of[id(beside)]].append(unit)
    return name, _without_empty(groups)


def note_of(family: str) -> str:
    """A sentence on what the groups of a family cannot be, to end a message; mostly empty."""
    for known in FAMILIES:
        if known.name == family and known.note:
            return f" {known.note}."
    return ""


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


MAX_BLOCKS = 8


_ENDS_BACKBONE = re.compile(r"Global(?:Average|Max)Pooling[123]D|Flatten")


def assign_generic(units: Sequence[Unit]) -> list[str]:
    """A group name for each unit: `block_1` to at most `block_8`, and `head`.

    1. `head` is every layer after the last global pooling or `Flatten` layer that has layers
       with weights both before and after it; without one, the last flat layer with weights and
       what follows it.
    2. The other flat layers with weights are joined to runs. A layer opens a new run unless it
       is a normalization or its name has the same block prefix as the layer before: the name up
       to its first number that is followed by more (`enc_2_conv`, `enc_2_proj` → `enc_2`). A
       name that Keras made up (`conv2d_3`) has no prefix.
    3. If there are more than 8 runs, neighbours are merged so that run `i` of `n` goes to block
       `8 * i // n`.
    4. A layer without weights joins the layer before it; before the first, the first block.

    A composite layer is one flat layer here and is not cut. A layer of a nested model whose
    result is not used joins the last block.

    Args:
        units: List of `Unit` in flat order.

    Returns:
        List of group names, one for each unit.
    """
    flat = {unit.index: unit for unit in units if unit.index is not None}
    weighty = [i for i, unit in flat.items() if unit.flat_layer.weights]
    start = _head_start(flat, weighty)
    runs = _runs([flat[i] for i in weighty if i < start])
    block = {index: _block(run, len(runs)) for run, indices in enumerate(runs) for index in indices}
    return [_name(unit.index, start, block) for unit in units]


def _head_start(flat, weighty):
    """Index of the first flat layer of the head; one past the last if there is no head."""
    if len(weighty) < 2:
        return len(flat)
    ends = [
        i
        for i, unit in flat.items()
        if _ENDS_BACKBONE.fullmatch(type(unit.flat_layer).__name__) and weighty[0] < i < weighty[-1]
    ]
    return ends[-1] if ends else weighty[-1]


def _runs(layers):
    """Lists of flat indices: neighbours that belong together."""
    runs, previous = [], None
    for unit in layers:
        prefix = _prefix(unit)
        joins = "Normalization" in type(unit.flat_layer).__name__ or (prefix and prefix == previous)
        if runs and joins:
            runs[-1].append(unit.index)
        else:
            runs.append([unit.index])
        previous = prefix or previous
    return runs


def _prefix(unit):
    name = match_path(unit).split("/")[0]
    match = re.match(r"(.*?[A-Za-z_.]\d+[a-z]?)[_.]\D", name)
    return match.group(1) if match else None


def _block(run, count):
    return 1 + (run if count <= MAX_BLOCKS else MAX_BLOCKS * run // count)


def _name(index, start, block):
    if index is not None and index >= start:
        return "head"
    before = [i for i in block if index is None or i <= index]
    return f"block_{block[max(before)] if before else 1}"
