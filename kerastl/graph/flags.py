"""The `trainable` flags of a model's leaves: read as Keras acts on them, written at any depth."""

from collections.abc import Iterable
from typing import Any

import keras

from kerastl import _keras
from kerastl._base import checks
from kerastl.graph.adapters import adapted
from kerastl.graph.fine_tuner import is_fine_tuner
from kerastl.graph.flatten import flat_layers
from kerastl.graph.leaves import leaf_layers


def trains(layer: Any) -> bool:
    """Whether a weight of `layer`, at any depth, or of an adapter on it, trains with its model.

    Keras asks each weight. The flag of a layer says what its weights were set to when it was set:
    below a block whose flag is off, a query that was thawed later trains.
    """
    if _own_weights_train(layer):
        return True
    return any(map(_own_weights_train, _keras.owners_within(layer)))


def _own_weights_train(layer):
    return any(variable.trainable for variable in layer.variables)


def is_frozen(layer: Any) -> bool:
    """Whether nothing in `layer` acts as in training.

    No weight in it trains, and its own flag is off or that of every leaf in it. An adapter on it
    may train: it knows by itself when it is to act as in training.

    Example:
        >>> import keras
        >>> layer = keras.layers.Dropout(0.5)
        >>> layer.trainable = False
        >>> is_frozen(layer)
        True
    """
    if _own_weights_train(layer):
        return False
    inner = _keras.sublayers(layer)
    return not layer.trainable or (bool(inner) and all(map(is_frozen, inner)))


def count_weights(model: keras.Model) -> int:
    """Number of scalars in the weights of `model`."""
    return sum(int(keras.ops.size(weight)) for weight in model.weights)


def count_trainable(model: keras.Model) -> int:
    """Number of scalars in the weights of `model` that train."""
    return sum(int(keras.ops.size(weight)) for weight in model.trainable_weights)


def all_leaves(model: keras.Model) -> list[keras.Layer]:
    """The leaves of `model`, those of its adapters last."""
    return with_leaves([*flat_layers(model), *(adapter for adapter, _ in adapted(model))])


def with_leaves(layers: Iterable[keras.Layer]) -> list[keras.Layer]:
    seen = {}
    for layer in layers:
        for leaf in leaf_layers(layer):
            seen.setdefault(id(leaf), leaf)
    return list(seen.values())


def set_frozen(model: keras.Model, leaves: Iterable[keras.Layer], frozen: bool) -> None:
    """Freeze or thaw `leaves` of `model` and nothing else; have the next step traced anew."""
    if not frozen:
        _require_slots(model, leaves)
    _write(model, training_ids(model), {id(leaf): not frozen for leaf in leaves}, set())
    _keras.remake_train_function(model)


def training_ids(model: keras.Model) -> set[int]:
    """Ids of the layers under `model` that are not frozen, nor inside a layer that is."""
    found = set()

    def walk(layer):
        if is_frozen(layer):
            return
        found.add(id(layer))
        for sublayer in _keras.sublayers(layer):
            walk(sublayer)

    if model.trainable:  # Keras asks this one flag before it asks the weights
        walk(model)
    return found


class Flags:
    """What the layers and weights of a model are told to do, as a trace of its step has it.

    Made when the step is traced; `changed` is cheap enough to be asked before every step.
    """

    def __init__(self, model: keras.Model) -> None:
        layers = list(_keras.with_sublayers(model))
        weights = [weight for layer in layers for weight in _keras.own_trainable_variables(layer)]
        self._holders = [*layers, *weights]
        self._now = self._read()

    def changed(self) -> bool:
        """Whether a `trainable` has been set otherwise since."""
        return self._now != self._read()

    def _read(self):
        return [holder.trainable for holder in self._holders]


def _write(layer, visible, target, done):
    """Set the flags below `layer`; return whether anything in it is to train.

    A flag that a frozen parent had hidden is written out as False before the parent is revealed,
    so that thawing one layer never thaws its neighbours.
    """
    on = target.get(id(layer), id(layer) in visible)
    inner = _keras.sublayers(layer)
    if id(layer) not in done:
        done.add(id(layer))
        own = inner and not _keras.own_trainable_variables(layer)
        if not own and (id(layer) in target or id(layer) not in visible):
            _set_leaf(layer, on, bool(inner))
    inside = [_write(sublayer, visible, target, done) for sublayer in inner]
    on = any(inside) if inner and not _keras.own_trainable_variables(layer) else on or any(inside)
    if inner and on:
        _keras.reveal(layer)
    return on


def _set_leaf(layer, trainable, composite):
    if composite:
        for variable in _keras.own_trainable_variables(layer):
            variable.trainable = trainable
    else:
        _keras.set_own_trainable(layer, trainable)


def _require_slots(model, leaves):
    """Refuse a thaw that the model's optimizer, already built, could not carry out."""
    if is_fine_tuner(model):
        return
    variables = [v for leaf in leaves for v in _keras.own_trainable_variables(leaf)]
    unknown = _keras.unknown_to_optimizer(model, variables)
    if unknown:
        raise RuntimeError(
            f"The optimizer of {model.name!r} was built without {len(unknown)} of the weights to "
            f"thaw ({checks.listed([v.path for v in unknown], 3)}) and would refuse them at the "
            "next step. Compile the model again (its moments start anew), or use "
            "`FineTuner.from_model(model)`, which keeps them."
        )


def fix_statistics(norm: keras.Layer, fixed: bool) -> None:
    """Mark a batch normalization to run in inference mode inside a `FineTuner`, trained or not."""
    norm._kerastl_fixed_statistics = bool(fixed)


def has_fixed_statistics(layer: keras.Operation) -> bool:
    """Whether `layer` is a batch normalization marked by `fix_statistics`."""
    return getattr(layer, "_kerastl_fixed_statistics", False)


def is_batch_norm(layer: keras.Operation) -> bool:
    return isinstance(layer, _keras.NORMALIZERS_WITH_STATISTICS)
