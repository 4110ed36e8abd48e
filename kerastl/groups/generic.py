"""Layer groups of a model that no family knows."""

import re

from kerastl.groups._rules import match_path

MAX_BLOCKS = 8
_ENDS_BACKBONE = re.compile(r"Global(?:Average|Max)Pooling[123]D|Flatten")


def assign_generic(units):
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
