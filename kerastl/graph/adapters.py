"""Adapters of a model's layers: layers beside the graph that act through a hook on those in it."""

from collections.abc import Iterable
from typing import Any, Protocol

import keras

from kerastl import _keras


class AdapterBank(Protocol):
    """What a `FineTuner` may have as `adapter_bank`: `kerastl.peft` makes it, floors above."""

    @property
    def adapted(self) -> list[tuple[keras.Layer, keras.Layer]]:
        """Pairs of an adapter and the layer of the graph, or in one, that it goes with."""
        ...

    @property
    def acting(self) -> list[tuple[Any, list[keras.Layer]]]:
        """Pairs of the method of each adapter that acts and the layers that it goes with."""
        ...

    def identity(self) -> dict[str, Any]:
        """What a training that goes on must have in common with the one before."""
        ...

    def holds(self, layer: keras.Layer) -> bool:
        """Whether `layer` belongs to the base, which stands still while adapters train."""
        ...

    def before_training(self) -> None:
        """Raise if the adapters cannot be trained as they are now."""
        ...

    def compiled(self) -> None:
        """What is done when the model has been compiled."""
        ...


def bank_of(model: Any) -> AdapterBank | None:
    """The `AdapterBank` of `model`, or None."""
    return getattr(model, "adapter_bank", None)


def adapted(model: Any) -> list[tuple[keras.Layer, keras.Layer]]:
    """Pairs of each adapter of `model` and the layer that it goes with; mostly none."""
    bank = bank_of(model)
    return bank.adapted if bank is not None else []


def acting(model: Any) -> list[tuple[Any, list[keras.Layer]]]:
    """Pairs of each method whose adapters act on `model` and their layers; mostly none."""
    bank = bank_of(model)
    return bank.acting if bank is not None else []


def without_held(model: Any, layers: Iterable[keras.Layer]) -> list[keras.Layer]:
    """`layers` without those that stand still because adapters train in their place."""
    bank = bank_of(model)
    return [layer for layer in layers if bank is None or not bank.holds(layer)]


def refuse_adapters(model: Any, what: str) -> None:
    """Raise if a layer of `model` computes with an adapter that `what` would not see.

    Raises:
        ValueError: With what to do.
    """
    found = [layer for layer in _keras.with_sublayers(model) if _keras.owners_on(layer)]
    if found:
        raise ValueError(
            f"{what} reads layers and their weights, and {len(found)} layers of {model.name!r} "
            f"compute with an adapter, {found[0].name!r} first. Merge it for good before: "
            "`kerastl.peft.unload(model, merge=True)`."
        )
