"""The rate at which each weight has just been stepped: for what follows an optimizer's step."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from kerastl import _keras
from kerastl.optimizers import LRMultiplier

if TYPE_CHECKING:
    from kerastl.training.fine_tuner import FineTuner


class StepRates:
    """The rates of one optimizer step, read before it and asked for after it.

    A call of `apply` may take no step: within a cycle of `gradient_accumulation_steps`, or after an
    overflow under a loss scale. And it counts itself, so that a schedule has moved on afterwards.

    Args:
        model: `FineTuner`, compiled, before `apply`; inside the traced step.
    """

    def __init__(self, model: "FineTuner") -> None:
        self._optimizer = model.lr_multiplier
        self._counter = _keras.step_counter(self._optimizer)
        self._before = tf.identity(self._counter.value)
        shared = tf.cast(self._optimizer.learning_rate, "float32")
        if (placed := self._optimizer.schedule) is not None:
            shared *= tf.cast(placed.factor_at(self._before), "float32")
        self._shared = tf.identity(shared)

    def taken(self, variables: Sequence[keras.Variable], gradients: Sequence[Any]) -> list[Any]:
        """Scalar float32 tensor for each variable, after `apply`: its rate, multiplier included.

        0 where it was not stepped.

        Args:
            variables: `keras.Variable`s with slots.
            gradients: As given to `apply`, None where there is none.
        """
        if not variables:
            return []
        after = self._counter.value
        stepped = after > self._before
        if cycle := self._optimizer.gradient_accumulation_steps:
            stepped &= after % cycle == 0
        told = multipliers_of(self._optimizer)
        multipliers = [
            0.0 if gradient is None else told[id(variable)]
            for variable, gradient in zip(variables, gradients, strict=True)
        ]
        rates = tf.where(stepped, self._shared, 0.0) * tf.constant(multipliers, "float32")
        return tf.unstack(rates, num=len(multipliers))


def multipliers_of(optimizer: LRMultiplier) -> dict[int, float]:
    """Dict from the id of each variable with a slot to its multiplier; paths may be shared.

    Args:
        optimizer: `LRMultiplier`, built.
    """
    slots = optimizer.slot_variables
    pairs = zip(slots, optimizer.rates_of(slots), strict=True)
    return {id(variable): 0.0 if rate is None else rate[0] for variable, rate in pairs}
