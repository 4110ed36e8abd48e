"""Measure a model by the averages of its weights while its weights train on."""

from collections.abc import Mapping
from typing import Any

import keras

from kerastl import _keras


class EvaluateAverages(keras.callbacks.Callback):
    """Evaluates validation data, in `fit`, on the moving averages of the weights.

    An optimizer with `use_ema=True` puts them into the model only when `fit` ends, so that
    metrics of validation data tell of another model than the one that is kept. This puts them in
    for the time of each evaluation. `keras.callbacks.SwapEMAWeights` does so by adding and
    subtracting, which leaves other weights than there were; here they come back bit for bit, so
    that a training is the same with and without validation data. Without averages it does nothing.

    Example:
        >>> import keras, numpy as np
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9), "mse")
        >>> data = np.ones((4, 2)), np.ones((4, 1))
        >>> history = model.fit(*data, epochs=3, validation_data=data, verbose=0,
        ...                     callbacks=[EvaluateAverages()]).history
        >>> history["val_loss"][-1] == model.evaluate(*data, verbose=0)
        True
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept = []

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        averages = _keras.moving_averages(self.model.optimizer)
        for variable in self.model.trainable_variables:
            if averages.get(id(variable)) is not None:
                self._kept.append((variable, keras.ops.convert_to_numpy(variable)))
                variable.assign(averages[id(variable)])

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        for variable, value in self._kept:
            variable.assign(value)
        self._kept = []

    def get_state(self) -> dict[str, Any]:
        """Nothing: no evaluation lasts beyond an epoch."""
        return {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Nothing."""
