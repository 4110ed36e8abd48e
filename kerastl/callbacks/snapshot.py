"""A compiled model as it was before some steps, to be put back bit for bit."""

import random
from typing import Any

import keras
import numpy as np

from kerastl import _keras
from kerastl.graph import is_fine_tuner
from kerastl.optimizers.lr_multiplier import LRMultiplier


class Snapshot:
    """All that training changes in a model and in its process.

    Weights, statistics, seeds, what terms of the loss keep, the optimizer's slots, clocks and
    counters, its learning rate and schedule, metrics, the pass that the next `fit` of a `FineTuner`
    begins with, and the states of Python's and NumPy's random numbers.

    Made when `fit` begins; `take_state` follows before the first step, since callbacks may thaw
    layers in between.

    Args:
        model: Compiled `keras.Model`.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self._values: Any = None
        self._multiplier = self._schedule = None
        self._metrics = [(variable, variable.numpy()) for variable in model.metrics_variables]
        self._fit_state = model.fit_state if is_fine_tuner(model) else None
        self._passes_done = self._fit_state and self._fit_state.passes_done
        self._random = random.getstate(), np.random.get_state()

    @property
    def is_taken(self) -> bool:
        """Whether `take_state` was called."""
        return self._values is not None

    def take_state(self) -> None:
        """Copy all variables, and take the schedule off until `restore`."""
        model = self.model
        if not model.optimizer.built:
            with model.distribute_strategy.scope():
                model.optimizer.build(model.trainable_variables)
        self._values = [(variable, variable.numpy()) for variable in _state(model)]
        self._training = [id(variable) for variable in model.trainable_variables]
        self._multiplier = with_schedule(model.optimizer)
        self._schedule = self._multiplier and self._multiplier.schedule
        self._set_schedule(None)

    def is_of_same_state(self) -> bool:
        """Whether the model still trains the same weights with the same slots and no schedule."""
        same = [id(variable) for variable in _state(self.model)]
        return (
            same == [id(variable) for variable, _ in self._values]
            and self._training == [id(v) for v in self.model.trainable_variables]
            and not (self._multiplier and self._multiplier.schedule)
        )

    def restore(self) -> None:
        """Put everything back; may be called again."""
        if not self.is_taken:
            return
        self.model.reset_metrics()  # those that came into being meanwhile
        for variable, value in (*self._metrics, *self._values):
            variable.assign(value)
        self._set_schedule(self._schedule)
        if self._fit_state is not None:
            self._fit_state.passes_done = self._passes_done
        random.setstate(self._random[0])
        np.random.set_state(self._random[1])

    def _set_schedule(self, placed):
        """Set the schedule to what it was, or take it off, and have the step traced anew."""
        if self._multiplier is None or self._multiplier.schedule == placed:
            return
        arguments = {} if placed is None else {"start": placed.start, "num_steps": placed.num_steps}
        self._multiplier.set_schedule(placed and placed.schedule, retraced=True, **arguments)
        _keras.remake_train_function(self.model)


def with_schedule(optimizer: Any) -> LRMultiplier | None:
    """The `LRMultiplier` that is or stands in `optimizer`, or None."""
    while optimizer is not None and not hasattr(optimizer, "set_schedule"):
        optimizer = getattr(optimizer, "inner_optimizer", None)
    return optimizer


def _state(model):
    of_terms = model.terms.variables if is_fine_tuner(model) else ()
    found = {id(v): v for v in (*model.variables, *model.optimizer.variables, *of_terms)}
    return list(found.values())
