"""Adapters of a run: added before it trains, merged when it has, with a file of their own.

Those that no weights of their layers can do the work of stay in the model.
"""

import pathlib
from typing import Any

import keras

from kerastl import peft
from kerastl.graph.flags import count_trainable, count_weights
from kerastl.plans import AdapterPlan, TransferPlan, strategies
from kerastl.tasks.settings import ADAPTED, StrategySettings
from kerastl.training import FineTuner

FILE = "adapters.adapter"  # in a run folder, beside the model that they are merged into


def add_for(model: FineTuner, plan: TransferPlan, seed: int) -> None:
    """Give `model` the adapters that `plan` trains, if any, drawn from `seed`.

    What such a plan draws at random afterwards is drawn from it, too.

    Raises:
        ValueError: If `model` has no layer that they could act on.
    """
    needed = plan.adapters
    if needed is not None:
        keras.utils.set_random_seed(seed)
        peft.add(model, method_of(needed), needed.where, also_train=needed.also_train)


def method_of(needed: AdapterPlan) -> peft.Method:
    """The method of `kerastl.peft` that an `AdapterPlan` names."""
    return getattr(peft, needed.method)(**needed.settings)


def check(model: FineTuner, settings: StrategySettings) -> None:
    """Refuse settings by which no adapter could be added to `model`; it stays as it is.

    Raises:
        ValueError: With what `where` means there, and the closest names.
    """
    strategy = getattr(settings, "strategy", None)
    if strategy not in ADAPTED:
        return
    names = model.groups.names
    plan = strategies.by_name(strategy, names, epochs=1, learning_rate=1.0, **settings.of_adapters)
    add_for(model, plan, settings.seed)
    drop(model)


def drop(model: FineTuner) -> None:
    """Take the adapters of `model` away, if it has any."""
    if model.adapter_bank is not None:
        peft.unload(model)


def told_of(model: FineTuner) -> dict[str, Any] | None:
    """What `metrics.json` says of the adapters that `model` was trained with, or None.

    Returns:
        Dict with `method` and its `settings`; `layers` and `weights` of the adapters; `trainable`,
        weights that train, those of the head among them; `share`, of all weights; `merged`, whether
        the model of the run has them in the weights of its layers; and `file`, None.
    """
    bank = model.adapter_bank
    if bank is None:
        return None
    (named,) = bank.named.values()
    trainable, total = count_trainable(model), count_weights(model)
    return {
        "method": type(named.method).__name__,
        "settings": named.method.get_config(),
        "layers": len(named.members),
        "weights": sum(int(keras.ops.size(weight)) for weight in bank.weights),
        "trainable": trainable,
        "share": trainable / total,
        "merged": all(type(one).merged is not peft.Adapter.merged for one in named.members),
        "file": None,
    }


def finish(model: FineTuner, told: dict[str, Any], path: pathlib.Path) -> None:
    """Write the adapters of `model` to `path`, and merge them for good if they can be.

    The state of the optimizer is left out: the schedule of the run has come to its end.

    Args:
        model: `FineTuner` with adapters.
        told: What `told_of` said of them, which gets the name of the `file`.
        path: `pathlib.Path`.
    """
    peft.save(model, path, optimizer=False)
    if told["merged"]:
        peft.unload(model, merge=True)
    told["file"] = path.name
