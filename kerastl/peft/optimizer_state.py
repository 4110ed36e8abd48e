"""The state of an optimizer in an adapter file, and how it comes back with the next `compile`."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kerastl import _keras
from kerastl._base.checks import listed
from kerastl._base.types import PathLike
from kerastl.schedules import from_config as schedule_from_config
from kerastl.training import FineTuner


def capture(
    model: FineTuner, names: Mapping[int, str]
) -> tuple[dict[str, Any] | None, list[np.ndarray]]:
    """What there is of the optimizer of `model`, as plain data, and the values of its variables.

    Args:
        model: `FineTuner`.
        names: Dict from the id of each weight that may have slots to its name.

    Returns:
        `(None, [])` if there is no optimizer, or it has taken no step yet.

    Raises:
        ValueError: If it has slots for weights of another adapter.
    """
    if not model.compiled or model.optimizer is None or not model.optimizer.built:
        return None, []
    rates = model.lr_multiplier
    others = [one.path for one in rates.slot_variables if id(one) not in names]
    if others:
        raise ValueError(
            "The optimizer has slots for weights that do not go with this adapter, and its state "
            f"would not fit without them: {listed(others, 3)}. Leave it out by "
            "`peft.save(..., optimizer=False)`."
        )
    schedule = None if rates.schedule is None else rates.schedule.to_config()
    said = {
        "settings": _settings(model),
        "slots": [names[id(one)] for one in rates.slot_variables],
        "rates": rates.rates_of(rates.slot_variables),
        "schedule": schedule,
        "passes_done": model.fit_state.passes_done,
    }
    return said, [keras.ops.convert_to_numpy(one) for one in model.optimizer.variables]


def _settings(model):
    """The optimizer with its settings, as JSON values; not its name, which says nothing."""
    inner = model.lr_multiplier.inner_optimizer
    settings = {key: value for key, value in inner.get_config().items() if key != "name"}
    said = {"optimizer": type(inner).__name__, **settings, "fused": model.lr_multiplier.fused}
    if model.optimizer is not model.lr_multiplier:
        said["around"] = type(model.optimizer).__name__
    return json.loads(json.dumps(said, default=str))


@dataclasses.dataclass(frozen=True, eq=False)
class WaitingState:
    """What `capture` gave, read from a file, until the model is compiled.

    Attributes:
        path: Path of the file.
        said: Dict, what `capture` gave.
        values: Its arrays.
        weights: Dict from name to the weight of the model that has it.
    """

    path: PathLike
    said: Mapping[str, Any]
    values: list[np.ndarray]
    weights: Mapping[str, keras.Variable]

    def give_to(self, model: FineTuner) -> None:
        """Have the optimizer, just compiled, go on where the one of the file stood.

        Raises:
            ValueError: If it is another; the model is not compiled then.
        """
        try:
            self._refuse_other(_settings(model), self.said["settings"])
            slots = [self.weights[name] for name in self.said["slots"]]
            with model.distribute_strategy.scope():
                model.optimizer.build(slots)
            rates = model.lr_multiplier.rates_of(slots)
            self._refuse_other(
                {"multipliers, decay": rates}, {"multipliers, decay": self.said["rates"]}
            )
            variables = model.optimizer.variables
            here = [list(one.shape) for one in variables]
            self._refuse_other(
                {"its variables": here}, {"its variables": [list(v.shape) for v in self.values]}
            )
        except ValueError:
            _keras.uncompile(model)
            raise
        for variable, value in zip(variables, self.values, strict=True):
            variable.assign(value)
        if self.said["schedule"] is not None:
            placed = dict(self.said["schedule"])
            model.set_schedule(schedule_from_config(placed.pop("schedule")), **placed)
        model.fit_state.passes_done = self.said["passes_done"]

    def _refuse_other(self, here, saved):
        differing = [
            f"{key} ({_short(saved.get(key))} in the file, {_short(here.get(key))} here)"
            for key in dict.fromkeys([*saved, *here])
            if saved.get(key) != here.get(key)
        ]
        if differing:
            raise ValueError(
                f"The optimizer whose state is in {self.path} is another: "
                f"{listed(differing, 3)}. Compile as it was and change it afterwards, or begin "
                "anew by `peft.load(..., optimizer=False)`."
            )


def _short(value):
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
