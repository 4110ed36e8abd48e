"""The vectors with one entry per slot that `LRMultiplier` keeps, and what is saved of them."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kerastl._base import checks
from kerastl._keras import optimizer_internals as internals
from kerastl.optimizers.steps import PerVariableSteps


def fit(wrapper: Any, steps: PerVariableSteps, values: Sequence[float]) -> None:
    """Make the vectors of `steps` for the slots there are now, with the clocks known so far."""
    inner, n = steps.inner, len(values)
    internals.adopt_slots(wrapper, inner)
    with internals.strategy_scope(inner):
        steps.clocks = _grown(wrapper, steps.clocks, n, ("steps", "int", 0))
        if (product := internals.product_of(inner)) is not None:
            entry = ("u_products", product.dtype, 1)
            steps.products = _grown(wrapper, steps.products, n, entry)
        if steps.weighs_cycles and inner.gradient_accumulation_steps:
            entry = ("cycle_weight", "float32", 0)
            steps.cycle_weight = _grown(wrapper, steps.cycle_weight, 1, entry)
        # Not tracked as state: the config holds the multipliers.
        steps.multipliers = keras.Variable(
            np.array(values, keras.config.floatx()),
            trainable=False,
            aggregation="only_first_replica",
            name="multipliers",
        )


def _grown(wrapper, old, n, entry):
    """A state vector of `wrapper` with `n` entries that begins with `old`."""
    name, dtype, fill = entry
    initializer = keras.initializers.Constant(fill)
    new = wrapper.add_variable(
        (n,), initializer, dtype=dtype, aggregation="only_first_replica", name=name
    )
    if old is not None:
        new.assign(np.concatenate([old.numpy(), new.numpy()[old.shape[0] :]]))
        internals.untrack(wrapper, old)
    return new


def check_same_frozen(
    paths: Sequence[str], values: Sequence[float], frozen: Sequence[bool]
) -> None:
    """Raise if 0 came or went among `values`: it is part of the traced step."""
    changed = [
        path
        for slot, (path, value) in enumerate(zip(paths, values, strict=True))
        if (value == 0) != (slot in frozen)
    ]
    if changed:
        raise RuntimeError(
            "A multiplier that becomes 0, or was 0, needs the step to be traced anew. "
            f"Received: such a change for {checks.listed(changed, 5)}. Pass `retraced=True` "
            "and call `model.make_train_function(force=True)`."
        )


def save(steps: PerVariableSteps, paths: Sequence[str], store: Any) -> None:
    """Write the vectors of `steps` and the order of the slots into Keras's `store`."""
    for name, vector in _state(steps).items():
        store[name] = vector.numpy()
    store["paths"] = np.frombuffer("\n".join(paths).encode(), dtype="uint8")
    # A third entry, so that a plain optimizer (a KerasHub task compiles itself with one) does not
    # take these for its own: it counts them, and without slots it has a counter and a rate.
    store["kind"] = np.frombuffer(b"kerastl.LRMultiplier", dtype="uint8")


def load(steps: PerVariableSteps, paths: Sequence[str], store: Any) -> None:
    """Read what `save` wrote, if it belongs to the same slots in the same order."""
    text = np.asarray(store["paths"], dtype="uint8").tobytes().decode()
    _check_same_slots(tuple(text.split("\n")) if text else (), paths)
    for name, vector in _state(steps).items():
        vector.assign(store[name])


def _state(steps):
    if steps is None:  # not built yet
        return {}
    vectors = {
        "steps": steps.clocks,
        "u_products": steps.products,
        "cycle_weight": steps.cycle_weight,
    }
    return {name: vector for name, vector in vectors.items() if vector is not None}


def _check_same_slots(saved, mine):
    if len(saved) != len(mine):
        raise ValueError(
            "The optimizer must have the slots of the saved one. Received: "
            f"{len(mine)} slots for {len(saved)} saved ones. Build it on the same variables "
            "(the same layers trainable), or load with `compile=False`."
        )
    # Automatic names may differ from one model to the next, an order of the same names may not.
    if saved != mine and sorted(saved) == sorted(mine):
        raise ValueError(
            "The optimizer must be built on its variables in the order in which they were saved. "
            f"Received: {checks.listed(mine, 5)}; saved: {checks.listed(saved, 5)}. Build it in "
            "the order of `variables_paths`."
        )
