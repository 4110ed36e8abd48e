"""What a model is made of, as plain data: its layers by path, and a hash of what stands still."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kerastl import _keras
from kerastl._base.checks import listed
from kerastl.graph import leaf_layers
from kerastl.graph.flatten import layers_at_any_depth
from kerastl.peft.adding import HEAD
from kerastl.peft.bank import paths_of
from kerastl.training import FineTuner

BASE, TRAINED = "base", "trained"  # and HEAD
_NAMED = 3  # layers in a refusal


@dataclasses.dataclass(frozen=True)
class LayerPrint:
    """One layer of a model, as an adapter file knows it.

    Attributes:
        path: String, told from others of the same by `#2`, `#3`...
        kind: String, the name of its class.
        part: `"base"` for what stands still beside an adapter, `"head"` for a layer of the group
            `head`, `"trained"` for any other that trains with the adapter.
        shapes: Shape of each of its own weights.
        kept: Positions of the weights that the file holds.
        hash: String, SHA-256 of the other weights, or None if there are none.
    """

    path: str
    kind: str
    part: str
    shapes: list[list[int]]
    kept: list[int]
    hash: str | None


def layers_by_path(model: keras.Model) -> dict[str, keras.Layer]:
    """Every layer in the graph of `model`, at any depth, by a path that no other has."""
    paths, found = paths_of(model), {}
    for layer in layers_at_any_depth(model):
        path, count = paths[id(layer)], 1
        while path in found:
            count += 1
            path = f"{paths[id(layer)]}#{count}"
        found[path] = layer
    return found


def prints_of(model: FineTuner) -> list[LayerPrint]:
    """A `LayerPrint` of each layer of `model`, which has adapters, in the model's order."""
    head = {id(leaf) for layer in head_of(model) for leaf in leaf_layers(layer)}
    return [_print(model, path, layer, head) for path, layer in layers_by_path(model).items()]


def head_of(model: FineTuner) -> list[keras.Layer]:
    """The layers of the group `head` of `model`; none where it has no such group."""
    return list(model.groups[HEAD]) if HEAD in model.groups else []


def _print(model, path, layer, head):
    weights = _keras.own_weights(layer)
    # A head that stands still now may have moved beside an adapter before.
    part = HEAD if id(layer) in head else BASE if model.adapter_bank.holds(layer) else TRAINED
    kept = [i for i, weight in enumerate(weights) if part != BASE or weight.trainable]
    still = [weight for i, weight in enumerate(weights) if i not in kept]
    shapes = [list(weight.shape) for weight in weights]
    return LayerPrint(path, type(layer).__name__, part, shapes, kept, hash_of(still))


def hash_of(weights: Sequence[keras.Variable]) -> str | None:
    """SHA-256 over shapes, types and values of `weights`; None of none."""
    if not weights:
        return None
    digest = hashlib.sha256()
    for weight in weights:
        value = np.asarray(keras.ops.convert_to_numpy(weight))
        digest.update(f"{value.shape} {value.dtype.name} ".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def places(
    path: Any, prints: Sequence[LayerPrint], model: FineTuner, *, with_head: bool
) -> dict[str, keras.Layer]:
    """The layers of `model` that the layers of a file are, by their paths in the file.

    By path, or, where Keras made up the names and they differ, by position.

    Args:
        path: Path of the file, for the messages.
        prints: What the file says of its model.
        model: `FineTuner`.
        with_head: Boolean, whether layers of the head are asked for.

    Raises:
        ValueError: If the base of `model` is another, or its head is; with what differs.
    """
    wanted = [one for one in prints if with_head or one.part != HEAD]
    present = layers_by_path(model)
    found = {one.path: present.get(one.path) for one in wanted}
    if any(layer is None for layer in found.values()):
        found = _by_position(prints, wanted, list(present.values())) or found
    _refuse_other_base(path, [one for one in wanted if one.part != HEAD], found, model)
    if with_head:
        _refuse_other_head(path, wanted, found, model)
    return {name: layer for name, layer in found.items() if layer is not None}


def _by_position(prints, wanted, layers) -> Any:
    if [one.kind for one in prints] != [type(layer).__name__ for layer in layers]:
        return None
    at = {one.path: layer for one, layer in zip(prints, layers, strict=True)}
    return {one.path: at[one.path] for one in wanted}


def _refuse_other_base(path, prints, found, model):
    missing = [one.path for one in prints if found[one.path] is None and one.shapes]
    there = [one for one in prints if found[one.path] is not None]
    shapes = [one for one in there if one.shapes != _shapes(found[one.path])]
    values = [
        one for one in there if one not in shapes and one.hash != _still(one, found[one.path])
    ]
    parts = [f"{len(missing)} missing ({listed(missing, _NAMED)})"] if missing else []
    for what, those in (("of other shapes", shapes), ("of other values", values)):
        if those:
            parts.append(f"{len(those)} {what} ({listed((one.path for one in those), _NAMED)})")
    if parts:
        raise ValueError(
            f"{path} holds an adapter of another base than {model.name!r} has. Of its layers, "
            f"{'; '.join(parts)}. Load the base that it was trained beside, as it was then."
        )


def _still(one, layer):
    return hash_of([w for i, w in enumerate(_keras.own_weights(layer)) if i not in one.kept])


def _shapes(layer):
    return [list(weight.shape) for weight in _keras.own_weights(layer)]


def _refuse_other_head(path, prints, found, model):
    parts = []
    for one in prints:
        here = None if found[one.path] is None else _shapes(found[one.path])
        if one.shapes and here != one.shapes:
            said = "no such layer" if here is None else f"weights of {_told(here)}"
            parts.append(f"{one.path} has weights of {_told(one.shapes)} in the file, here {said}")
    known = {id(layer) for layer in found.values()}
    parts += [
        f"{name} is not in the file"
        for name, layer in layers_by_path(model).items()
        if id(layer) not in known and _keras.own_weights(layer)
    ]
    if parts:
        raise ValueError(
            f"The head in {path} does not fit {model.name!r}: {listed(parts, _NAMED)}. For the "
            f"adapter alone: `peft.load(model, {str(path)!r}, head=False)`."
        )


def _told(shapes):
    return " and ".join(str(tuple(shape)) for shape in shapes)


def kept_variables(
    prints: Sequence[LayerPrint], layers: Mapping[str, keras.Layer]
) -> dict[str, keras.Variable]:
    """The weights of the base that a file holds, and the random states, by their names in it."""
    found = {}
    for one in prints:
        if one.path not in layers:
            continue
        layer = layers[one.path]
        weights = _keras.own_weights(layer)
        for i in one.kept:
            found[f"model/{one.path}/{i}"] = weights[i]
        for i, state in enumerate(_keras.own_variables(layer)[len(weights) :]):
            found[f"random/{one.path}/{i}"] = state
    return found


def all_weights(
    prints: Sequence[LayerPrint], layers: Mapping[str, keras.Layer]
) -> dict[str, keras.Variable]:
    """All weights of the base, by the names that they have, or would have, in a file."""
    return {
        f"model/{one.path}/{i}": weight
        for one in prints
        if one.path in layers
        for i, weight in enumerate(_keras.own_weights(layers[one.path]))
    }
