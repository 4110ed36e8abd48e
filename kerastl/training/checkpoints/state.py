"""All that a `FineTuner` must be given back to go on exactly as it would have."""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from kerastl import _keras
from kerastl._base.checks import listed
from kerastl.freezing import freezing_state, restore_freezing
from kerastl.training.checkpoints.file import CheckpointError

if TYPE_CHECKING:
    from kerastl.training.fine_tuner import FineTuner


def capture(model: "FineTuner") -> dict[str, Any]:
    """The state of `model` in a `fit`, as `encode` takes it.

    Weights, statistics and random states by position; the optimizer's state with the order of its
    slots; which leaves are frozen; multipliers, decay and schedule of the rate; the number of
    passes, and what was read from cached features; what terms of the loss keep; the random states
    of Python, NumPy and Keras.

    Args:
        model: `FineTuner`, compiled.
    """
    lr_multiplier = model.lr_multiplier
    positions = {id(variable): i for i, variable in enumerate(model.weights)}
    return {
        "variables": _values(model.variables),
        "slots": [positions[id(variable)] for variable in lr_multiplier.slot_variables],
        "optimizer": _values(model.optimizer.variables),
        "freezing": freezing_state(model),
        "rates": _rates(model),
        "decay": _decay(lr_multiplier.inner_optimizer),
        "schedule": _schedule(lr_multiplier),
        "fit": model.fit_state.capture(),
        "terms": model.terms.capture(),
        "random": _random_states(),
    }


def restore(model: "FineTuner", state: Any) -> None:
    """Bring `model` into the `state` that `capture` told of it, in another process or in this one.

    Args:
        model: `FineTuner` of the same identity, compiled in the same way, in a `fit`.
        state: What `capture` gave. Changes of what trains have the step traced anew.

    Raises:
        CheckpointError: If the optimizer has slots in another order.
    """
    _restore_slots(model, state["slots"])
    restore_freezing(model, state["freezing"])
    _restore_rates(model, state)
    _assign(model.variables, state["variables"])
    _assign(model.optimizer.variables, state["optimizer"])
    model.fit_state.restore(state["fit"])
    model.restore_terms(state["terms"])
    _restore_random_states(state["random"])


def capture_metrics(model: "FineTuner") -> list[Any]:
    """The state of the metrics of `model` by name: `[name, values]` for each."""
    return [[metric.name, _values(metric.variables)] for metric in model.metrics]


def restore_metrics(model: "FineTuner", state: Sequence[Any]) -> None:
    """Give the metrics of `model` the `state` that `capture_metrics` told of them.

    By name, since the norms of groups are made in the order in which groups came to train.
    """
    metrics = model.metrics
    for name, values in state:
        i = next((i for i, metric in enumerate(metrics) if metric.name == name), None)
        if i is None or len(metrics[i].variables) != len(values):
            raise CheckpointError(
                "The model must be compiled with the metrics of the checkpoint: "
                f"{listed([name for name, _ in state])}. "
                f"Received: {listed([metric.name for metric in model.metrics])}"
            )
        _assign(metrics.pop(i).variables, values)


def _values(variables):
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def _assign(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _restore_slots(model, slots):
    """Build the optimizer on the weights at `slots`, or add those that it lacks, in that order."""
    variables = [model.weights[i] for i in slots]
    present = [id(variable) for variable in model.lr_multiplier.slot_variables]
    if present != [id(variable) for variable in variables[: len(present)]]:
        positions = {id(variable): i for i, variable in enumerate(model.weights)}
        raise CheckpointError(
            "The optimizer must have slots for the same weights in the same order as when the "
            f"training began. Received: weights {listed([positions[i] for i in present])}; in the "
            f"checkpoint: {listed(slots)}. Freeze and compile as before, in a new model."
        )
    with model.distribute_strategy.scope():
        if variables and not model.optimizer.built:
            model.optimizer.build(variables)
        elif len(present) < len(variables):
            model.lr_multiplier.extend(variables[len(present) :])
            _keras.remake_train_function(model)


def _restore_rates(model, state):
    lr_multiplier = model.lr_multiplier
    rates = {w.path: rate for w, rate in zip(model.weights, state["rates"], strict=True)}
    if _rates(model) != state["rates"]:
        model.set_multipliers({path: rate for path, rate in rates.items() if rate is not None})
    if _decay(lr_multiplier.inner_optimizer) != state["decay"]:
        for name, decay in state["decay"].items():
            setattr(lr_multiplier.inner_optimizer, name, decay)
        _keras.remake_train_function(model)
    if _schedule(lr_multiplier) != state["schedule"]:
        lr_multiplier.set_schedule(**(state["schedule"] or {"schedule": None}), retraced=True)
        _keras.remake_train_function(model)


def _rates(model):
    """The multiplier of each weight, or None where nothing is said of one without a slot."""
    return [said and said[0] for said in model.lr_multiplier.rates_of(model.weights)]


def _decay(optimizer):
    """What a plan may change of `optimizer` besides its variables; Muon has two decays."""
    names = ("weight_decay", "adam_weight_decay")
    return {name: getattr(optimizer, name) for name in names if hasattr(optimizer, name)}


def _schedule(lr_multiplier):
    return None if lr_multiplier.schedule is None else lr_multiplier.schedule.to_config()


def _random_states():
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),
        "keras": _keras.global_random_state(),
    }


def _restore_random_states(state):
    _keras.set_global_random_state(state["keras"])
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state(state["numpy"])
