"""The bank: every adapter of one model, in a layer that the model owns beside its graph."""

import contextlib
import dataclasses
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kerastl import _keras
from kerastl._base import checks
from kerastl.freezing import freezing_state
from kerastl.graph import check_fine_tuner
from kerastl.graph.flags import set_frozen
from kerastl.graph.flatten import layers_at_any_depth
from kerastl.graph.leaves import leaf_layers, units_of
from kerastl.peft.adapter import Adapter, Method
from kerastl.training import FineTuner


@dataclasses.dataclass(eq=False)
class BankState:
    """What a bank knows beside its weights, where Keras's files look for no layers.

    Attributes:
        saved: Dict, the config of a bank that was loaded.
        model: `FineTuner`.
        active: Tuple of the names of adapters that act.
        merged: Tuple of the names of those in the weights of their layers.
        originals: Pairs of a merged variable and its value before.
        held: Ids of the layers of the base.
        before: What was frozen before the first adapter came, as `freezing_state` tells.
        waiting: `WaitingState` of an optimizer, read from a file, until the next `compile`.
        is_disabled: Boolean, whether `peft.disabled` has none of them act just now.
    """

    saved: Mapping[str, Any]
    model: Any = None
    active: tuple[str, ...] = ()
    merged: tuple[str, ...] = ()
    originals: list[tuple[keras.Variable, np.ndarray]] = dataclasses.field(default_factory=list)
    held: set[int] = dataclasses.field(default_factory=set)
    before: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    waiting: Any = None
    is_disabled: bool = False


class NamedAdapter(keras.Layer):
    """All that one `add` made: an adapter for each layer that it acts on.

    Attributes:
        method: `Method`.
        members: List of `Adapter`.
    """

    def __init__(self, method: Method, members: Sequence[Adapter], *, name: str) -> None:
        super().__init__(name=name)
        self.method = method
        self.members = list(members)
        self.built = True


@keras.saving.register_keras_serializable(package="kerastl")
class AdapterBank(keras.Layer):
    """The adapters of a `FineTuner`, by the names that they were added under.

    The layers of the graph stay as they are: an adapter that is active is put around their calls,
    and taken away when it is not. Made and used by `kerastl.peft.add` and the like.

    Attributes:
        named: Dict from name to `NamedAdapter`, in the order in which they were added.
        state: `BankState`.
    """

    def __init__(self, *, name: str = "adapters", **saved: Any) -> None:
        super().__init__(name=name)
        self.named = {}
        self.state = BankState(saved)
        self.built = True

    @property
    def active(self) -> tuple[str, ...]:
        """Tuple of the names of those that act."""
        return self.state.active

    @property
    def merged(self) -> tuple[str, ...]:
        """Tuple of the names of those that are in the weights of their layers now."""
        return self.state.merged

    def attach(self, model: FineTuner) -> None:
        """Make it the bank of `model`; one that was loaded makes its adapters anew."""
        state = self.state
        layers: Any = layers_at_any_depth(model)
        state.model = model
        state.before = state.saved.get("before") or freezing_state(model)
        self.hold(layers[i] for i in state.saved.get("held", ()))
        model.set_adapter_bank(self)
        for name, (method, positions) in state.saved.get("adapters", {}).items():
            self.put(name, method, [layers[i] for i in positions])
        self.activate(state.saved.get("active", ()))

    def put(self, name: str, method: Method, layers: Iterable[keras.Layer]) -> NamedAdapter:
        """Make an adapter for each of `layers` and keep them under `name`; none of them acts."""
        self._refuse_disabled()
        paths = paths_of(self.state.model)
        with self.state.model.distribute_strategy.scope():
            members = method.adapters([(one, paths[id(one)]) for one in layers], name=name)
        self.named[name] = NamedAdapter(method, members, name=name)
        self.state.waiting = None
        self.state.model.forget_groups()
        return self.named[name]

    def drop(self, name: str) -> None:
        """Forget what is called `name`, which must not be active."""
        self._refuse_disabled()
        self.named.pop(name)  # of Keras 3.15.1's dicts `del` would leave the layer tracked
        self.state.waiting = None
        self.state.model.forget_groups()

    def activate(self, names: Iterable[str]) -> None:
        """Have those of `names` act and train, and no others, in this order.

        What acted before and was frozen stays frozen.
        """
        self._refuse_disabled()
        before, model = self.active, self.state.model
        names = tuple(names)
        members = [one for name in names for one in self.named[name].members]
        self.check_alone(layer for one in members for layer, *_ in one.hooks())
        self._act(names)
        resting = [self.named[name] for name in self.named if name not in self.active]
        coming = [self.named[name] for name in self.active if name not in before]
        for named, frozen in [*((n, True) for n in resting), *((n, False) for n in coming)]:
            set_frozen(model, [leaf for one in named.members for leaf in leaf_layers(one)], frozen)

    def _act(self, names):
        for adapter, _ in self.adapted:
            for layer, *_ in adapter.hooks():
                _keras.take_away(layer, adapter)
        self.state.active = tuple(names)
        for name in self.active:
            for adapter in self.named[name].members:
                for layer, method, function in adapter.hooks():
                    _keras.put_around(layer, method, function, adapter)
        _keras.remake_functions(self.state.model)

    @contextlib.contextmanager
    def none_active(self) -> Iterator[None]:
        """Have none of them act meanwhile."""
        before, was_disabled = self.active, self.state.is_disabled
        self._act(())
        self.state.is_disabled = True
        try:
            yield
        finally:
            self.state.is_disabled = was_disabled
            self._act(before)

    def _refuse_disabled(self):
        if self.state.is_disabled:
            raise RuntimeError(
                f"The adapters of {self.state.model.name!r} are disabled just now, and act again "
                "as before when `with peft.disabled(model)` ends. Change them behind it."
            )

    def check_alone(self, layers: Iterable[keras.Layer]) -> None:
        """Raise ValueError if adapters of another model act on `layers` or are merged in them."""
        own = {id(adapter) for adapter, _ in self.adapted}
        for layer in layers:
            others = [one for one in _keras.owners_within(layer) if id(one) not in own]
            merged = [_merged_by(leaf) for leaf in (layer, *leaf_layers(layer))]
            if others or any(bank not in (None, self) for bank in merged):
                raise ValueError(
                    f"{layer.name!r} computes with an adapter of another model. Take that away "
                    "first (`peft.unload(model)`), or load the base again for a model of its own."
                )

    def set_merged(self, names: tuple[str, ...], originals: Sequence[Any]) -> None:
        """Know that `names` are in the weights of their layers, whose `originals` are these."""
        for _, layer in self.adapted:
            if _merged_by(layer) is self:
                del _MERGED[layer]
        self.state.merged, self.state.originals = names, list(originals)
        for name in names:
            for adapter in self.named[name].members:
                _MERGED[adapter.beside.layer] = weakref.ref(self)

    def refuse_merged(self, who: str) -> None:
        """Raise ValueError where an adapter is in the weights of the base."""
        if self.merged:
            raise ValueError(
                f"{who} needs the adapters apart from the base, and {self.merged[0]!r} is merged. "
                "`peft.restore(model)` first."
            )

    def save_own_variables(self, store: Any) -> None:
        self.refuse_merged("A file of weights")
        super().save_own_variables(store)

    def load_own_variables(self, store: Any) -> None:
        self.refuse_merged("A file of weights")
        super().load_own_variables(store)

    def hold(self, layers: Iterable[keras.Layer]) -> None:
        """Have `layers` stand still for as long as there are adapters."""
        self.state.held |= {id(layer) for layer in layers}

    def holds(self, layer: keras.Layer) -> bool:
        if id(layer) in self.state.held:
            return True
        resting = [named for name, named in self.named.items() if name not in self.active]
        members = [one for named in resting for one in named.members]
        return any(layer is leaf for one in members for leaf in leaf_layers(one))

    def compiled(self) -> None:
        """Give the optimizer that was just compiled what a file kept of it, if one did."""
        if self.state.waiting is not None:
            self.state.waiting.give_to(self.state.model)
            self.state.waiting = None

    def before_training(self) -> None:
        """Raise ValueError if adapters are merged, so that training would not reach them."""
        self.refuse_merged("Training")

    @property
    def adapted(self) -> list[tuple[keras.Layer, keras.Layer]]:
        """Pairs of each adapter, whether it acts or not, and its layer."""
        members = [one for named in self.named.values() for one in named.members]
        return [(adapter, adapter.beside.layer) for adapter in members]

    @property
    def acting(self) -> list[tuple[Method, list[keras.Layer]]]:
        """Pairs of the method of each adapter that acts and the layers that it goes with."""
        acting = [self.named[name] for name in self.active]
        return [(named.method, [one.beside.layer for one in named.members]) for named in acting]

    def identity(self) -> dict[str, Any]:
        """What a training that goes on must have in common with the one before, as plain data."""
        methods = {name: named.method for name, named in self.named.items()}
        return {
            "active": list(self.active),
            "methods": {
                name: {"method": type(method).__name__, **method.get_config()}
                for name, method in methods.items()
            },
        }

    def get_config(self) -> dict[str, Any]:
        if self.merged:
            raise ValueError(
                f"{checks.listed(map(repr, self.merged))} of {self.state.model.name!r} "
                f"{'is' if len(self.merged) == 1 else 'are'} merged, and a file would hold the "
                "weights of the base no more. `peft.restore(model)` first, or `peft.unload(model, "
                "merge=True)` to have the merged weights and no adapters."
            )
        layers = {id(layer): i for i, layer in enumerate(layers_at_any_depth(self.state.model))}
        adapters = {
            name: (named.method, [layers[id(one.beside.layer)] for one in named.members])
            for name, named in self.named.items()
        }
        return {
            "name": self.name,
            "adapters": {
                name: [keras.saving.serialize_keras_object(method), positions]
                for name, (method, positions) in adapters.items()
            },
            "active": list(self.active),
            "before": self.state.before,
            "held": [i for key, i in layers.items() if key in self.state.held],
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> "AdapterBank":
        adapters = {
            name: (keras.saving.deserialize_keras_object(method, custom_objects), positions)
            for name, (method, positions) in config["adapters"].items()
        }
        return cls(**{**config, "adapters": adapters})


# Of each layer whose weights hold a merged adapter, a weak reference to the bank of that.
_MERGED: Any = weakref.WeakKeyDictionary()


def _merged_by(layer):
    reference = _MERGED.get(layer)
    return reference() if reference is not None else None


def paths_of(model: keras.Model) -> dict[int, str]:
    """Dict from the id of each layer of `model`, at any depth, to its path."""
    paths = {}
    for unit in units_of(model):
        paths.setdefault(id(unit.layer), unit.path)
        paths.setdefault(id(unit.flat_layer), unit.flat_layer.name)
    for layer in layers_at_any_depth(model):
        if id(layer) not in paths:  # a composite inside another: what its leaves have in common
            below = [paths[id(leaf)].split("/") for leaf in leaf_layers(layer) if id(leaf) in paths]
            common = [parts[0] for parts in zip(*below, strict=False) if len(set(parts)) == 1]
            paths[id(layer)] = "/".join(common) or layer.name
    return paths


def bank_of(model: FineTuner, *, who: str) -> AdapterBank:
    """The bank of `model`, refused where it has none."""
    check_fine_tuner(model, who, "which owns the adapters")
    bank = model.adapter_bank
    if bank is None:
        raise ValueError(
            f"{who} needs a model with adapters, and {model.name!r} has none. Add some: "
            "`kerastl.peft.add(model, kerastl.peft.LoRA())`."
        )
    return bank


def known(bank: AdapterBank, name: str, who: str) -> str:
    """`name`, refused if no adapter is called so."""
    if name not in bank.named:
        raise ValueError(
            f"{who} needs the name of an adapter of {bank.state.model.name!r}: "
            f"{checks.listed(map(repr, bank.named), 40)}. Received: name={name!r}"
        )
    return name
