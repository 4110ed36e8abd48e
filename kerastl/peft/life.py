"""The life of an adapter: activated, disabled, merged, restored, deleted, unloaded."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from keras import ops

from kerastl import _keras
from kerastl.freezing import restore_freezing
from kerastl.peft.bank import bank_of, known
from kerastl.training import FineTuner


def activate(model: FineTuner, name: str | Sequence[str]) -> None:
    """Have the adapter `name` act, or several at once, and no others.

    Those that act also train, as far as they are not frozen.

    Args:
        model: `FineTuner` with adapters.
        name: String, or list of them.

    Raises:
        ValueError: If no adapter is called so or one is named twice, if some are merged, or if two
            that cannot act together are to act on one layer.
    """
    bank = bank_of(model, who="`peft.activate`")
    names = [name] if isinstance(name, str) else name
    if not isinstance(names, (list, tuple)) or len({*map(str, names)}) < len(names):
        raise ValueError(
            "`name` must be the name of an adapter, or a list of names, each once. Received: "
            f"name={name!r}"
        )
    for one in names:
        known(bank, one, "`peft.activate`")
    bank.refuse_merged("`peft.activate`")
    _check_together(bank, names)
    bank.activate(names)


def active(model: FineTuner) -> tuple[str, ...]:
    """Names of the adapters of `model` that act; empty where it has none."""
    return model.adapter_bank.active if model.adapter_bank is not None else ()


@contextlib.contextmanager
def disabled(model: FineTuner) -> Iterator[None]:
    """Have `model` be its base meanwhile: `with peft.disabled(model): ...`.

    Adapters are neither added, taken away nor activated meanwhile.

    Raises:
        ValueError: If it has no adapters, or they are merged.
    """
    bank = bank_of(model, who="`peft.disabled`")
    bank.refuse_merged("`peft.disabled`")
    with bank.none_active():
        yield


def delete(model: FineTuner, name: str) -> None:
    """Drop the adapter `name` with its weights. With the last one the base is given back.

    Raises:
        ValueError: If no adapter is called so, if it acts, or if one is merged now.
    """
    bank = bank_of(model, who="`peft.delete`")
    known(bank, name, "`peft.delete`")
    bank.refuse_merged("`peft.delete`")
    if name in bank.active:
        raise ValueError(
            f"{name!r} is active. Activate another first, or `peft.unload(model)` to drop all."
        )
    bank.drop(name)
    if not bank.named:
        _forget(bank)


def merge(model: FineTuner, *, safe: bool = True) -> None:
    """Put the adapters that act into the weights of their layers; `restore` takes them out again.

    The weights as they were are kept in memory, so that they come back bit for bit. A merged
    model answers as before, without the adapters' cost; it is not trained or saved so.

    Args:
        model: `FineTuner` with adapters.
        safe: Boolean, whether weights that are not finite are refused.

    Raises:
        ValueError: If nothing acts, if a method cannot be merged, if a layer is quantized, or, if
            `safe`, a merged weight would not be finite. Nothing is changed then.
    """
    bank = bank_of(model, who="`peft.merge`")
    bank.refuse_merged("`peft.merge`")
    if not bank.active:
        raise ValueError("`peft.merge` needs an adapter that acts. `peft.activate` one first.")
    originals = {}
    try:
        for name in bank.active:
            for adapter in bank.named[name].members:
                _refuse_quantized(adapter)
                for variable, value in adapter.merged():
                    value = ops.cast(value, variable.dtype)
                    if safe and not bool(ops.all(ops.isfinite(value))):
                        raise ValueError(
                            f"Merging {name!r} would give {variable.path} values that are not "
                            "finite. Nothing was merged. `safe=False` merges all the same."
                        )
                    originals.setdefault(id(variable), (variable, variable.numpy()))
                    variable.assign(value)
    except Exception:
        _give_back(originals.values())
        raise
    names = bank.active
    bank.activate(())
    bank.set_merged(names, list(originals.values()))


def restore(model: FineTuner) -> None:
    """Take merged adapters out of the weights again, bit for bit; they act as before.

    Raises:
        ValueError: If none is merged.
    """
    bank = bank_of(model, who="`peft.restore`")
    if not bank.merged:
        raise ValueError("`peft.restore` needs a merged adapter, and none is merged.")
    weights = {id(weight) for weight in model.weights}
    for variable, _ in bank.state.originals:
        if id(variable) not in weights:
            raise ValueError(
                f"{variable.path} is a weight of {model.name!r} no more: its layer was quantized "
                "after the merge, which cannot be undone. Load the base again."
            )
    _give_back(bank.state.originals)
    names = bank.merged
    bank.set_merged((), [])
    bank.activate(names)


def unload(model: FineTuner, *, merge: bool = False) -> None:
    """Take all adapters off `model`: it is its base again, or the base with them merged for good.

    What was frozen for them trains again, what was frozen before stays so. Compile the model
    before the next `fit`.

    Args:
        model: `FineTuner` with adapters.
        merge: Boolean, whether those that act, or are merged now, stay in the weights.
    """
    bank = bank_of(model, who="`peft.unload`")
    if merge and not bank.merged:
        _merge(model)
    elif not merge and bank.merged:
        restore(model)
    _forget(bank)
    _keras.uncompile(model)


_merge = merge  # `unload` has an argument of that name


def _forget(bank):
    """Have the model be its base, frozen as it was before the first adapter came."""
    model = bank.state.model
    bank.set_merged((), [])
    bank.activate(())
    model.set_adapter_bank(None)
    restore_freezing(model, bank.state.before)


def _give_back(originals: Any) -> None:
    for variable, value in originals:
        variable.assign(np.asarray(value))


def _refuse_quantized(adapter):
    layer = adapter.beside.layer
    mode = getattr(layer, "quantization_mode", None)
    if mode is not None:
        raise ValueError(
            f"{layer.name!r} is quantized ({mode}), and rounding the sum would lose what "
            "was learnt. Keep the adapter apart, or load the base unquantized."
        )


def _check_together(bank, names):
    acting = {}
    for name in names:
        for adapter in bank.named[name].members:
            layer, method = adapter.beside.layer, type(adapter.beside.method).__name__
            other = acting.setdefault(id(layer), adapter)
            if other is not adapter and not (other.is_additive and adapter.is_additive):
                raise ValueError(
                    f"{other.name!r} and {adapter.name!r} cannot act on {layer.name!r} "
                    f"together: {type(other.beside.method).__name__} and {method} do not add up. "
                    "Activate one of them."
                )
