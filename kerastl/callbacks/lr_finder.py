"""The learning-rate range test, after which the model is as it was."""

import math

import keras

from kerastl import _checks
from kerastl.callbacks._snapshot import Snapshot
from kerastl.callbacks.lr_result import LRFinderResult
from kerastl.schedules import Exponential

SMOOTHING = 0.98
DIVERGED = 4.0  # times the best loss


class LRFinder(keras.callbacks.Callback):
    """Raises the learning rate step by step, records the loss, and puts everything back.

    The shared rate of step `i` is `start * (end / start) ** (i / num_steps)`; multipliers keep the
    ratios between groups, a shape is taken off meanwhile. Training ends after `num_steps` steps,
    or when the smoothed loss is above four times its best, or no number.

    Then weights, optimizer slots, step counters and clocks, batch-normalization statistics, seeds,
    learning rate, shape, metrics and, in a `FineTuner`, the pass over the data are as they were,
    bit for bit. An optimizer that was not built yet has the slots of one that has taken no step.
    Use no callbacks beside it that thaw layers or set shapes.

    `lr_find` calls `fit` with the right number of epochs, puts the model back even when `fit` is
    interrupted, and reaches what a callback cannot: the position of a dataset that a plain
    `keras.Model` reads. With gradient accumulation the rate rises with every batch, and an update
    takes the rate of the last batch in it.

    Args:
        start: Float > 0, the first learning rate.
        end: Float > `start`, the rate that the ramp leads to.
        num_steps: Int >= 10.

    Attributes:
        result: `LRFinderResult` after `fit`.

    Raises:
        ValueError: In `fit`, before the first step, if the model's rate is a schedule, it takes
            several steps at once, or `fit` is too short for the ramp.
        RuntimeError: If other callbacks stop the training or change what trains meanwhile.

    Example:
        >>> import numpy as np
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> finder = LRFinder(num_steps=20)
        >>> _ = model.fit(np.ones((40, 2)), np.ones((40, 1)), batch_size=4, epochs=2, verbose=0,
        ...               callbacks=[finder])
        >>> len(finder.result.rates), round(float(model.optimizer.learning_rate), 3)
        (20, 0.01)

    References:
        Smith, 2017, section 3.3, https://arxiv.org/abs/1506.01186; ramp, smoothing and end as in
        fastai's `LRFinder`.
    """

    def __init__(self, start=1e-7, end=10.0, num_steps=100):
        super().__init__()
        self.start = float(_checks.in_range(start, 1e-30, 1e30, "start", "a rate"))
        self.end = float(_checks.in_range(end, 1e-30, 1e30, "end", "a rate"))
        if self.end <= self.start:
            raise ValueError(
                f"`end` must be above `start`. Received: start={self.start}, end={self.end}"
            )
        self.num_steps = _checks.whole(num_steps, 10, 1_000_000, "num_steps")
        self._ramp = Exponential(self.start, self.end)
        self._forget()

    def _forget(self):
        self.result = None
        self._before = None
        self._ended = False
        self._rates, self._losses, self._batch_losses = [], [], []
        self._average = 0.0

    def on_train_begin(self, logs=None):
        self._forget()
        check_model(self.model)
        self._before = Snapshot(self.model)

    def on_epoch_begin(self, epoch, logs=None):
        if not self._before.is_taken:
            self._check_length(self.params.get("epochs", 1) - epoch, self.params.get("steps"))

    def on_train_batch_begin(self, batch, logs=None):
        if not self._before.is_taken:
            self._before.take_state()
        if not self._before.is_of_same_state():
            self.restore()
            raise RuntimeError(
                "What trains, or the shape of the rate, was changed by another callback in the "
                "midst of the ramp. The weights are as they were, the optimizer is not: compile "
                "the model again, and run LRFinder without callbacks that thaw or set shapes."
            )
        rate = float(self._ramp.factor(len(self._rates) / self.num_steps))
        self._rates.append(rate)
        self.model.optimizer.learning_rate = rate
        # Keras logs the mean over the epoch so far; of one batch, that is the loss of the batch.
        _loss_metric(self.model).reset_state()

    def on_train_batch_end(self, batch, logs=None):
        if self._ended:
            return
        loss = float(logs["loss"])
        if math.isfinite(loss):
            self._record(loss)
        if not math.isfinite(loss) or self._diverged() or len(self._rates) == self.num_steps:
            self._ended = True
            self.model.stop_training = True
            self.restore()  # before other callbacks end the epoch

    def on_train_end(self, logs=None):
        steps = len(self._rates)
        self.restore()  # Keras has put moving averages into the weights, if it keeps any
        self._before = None
        if not self._ended:
            raise RuntimeError(
                f"The ramp needs {self.num_steps} steps, and `fit` ended after {steps}: the data "
                "ran out, or another callback stopped it. Use lr_find(model, data)."
            )
        count = len(self._losses)
        self.result = LRFinderResult.of_curve(
            self._rates[:count], self._losses, self._batch_losses, self.num_steps
        )

    def restore(self):
        """Put the model back as it was before the first step; harmless when it is."""
        if self._before is not None:
            self._before.restore()

    def _record(self, loss):
        count = len(self._losses) + 1
        self._average = SMOOTHING * self._average + (1 - SMOOTHING) * loss
        self._batch_losses.append(loss)
        self._losses.append(self._average / (1 - SMOOTHING**count))

    def _diverged(self):
        best = min(self._losses)
        return best > 0 and self._losses[-1] > DIVERGED * best

    def _check_length(self, epochs, steps):
        if steps is None or epochs * steps >= self.num_steps:
            return
        raise ValueError(
            f"The ramp needs {self.num_steps} steps, and `fit` takes {epochs * steps}: "
            f"{epochs} epochs of {steps}. Pass epochs={math.ceil(self.num_steps / steps)}, or use "
            "lr_find(model, data)."
        )


def check_model(model):
    """Raise if a ramp on `model` could not be led step by step or not be taken back."""
    if not model.built:
        raise ValueError(
            "LRFinder needs a model whose weights exist, to put them back. Call the model on a "
            "batch first, or give it a keras.Input."
        )
    if not isinstance(model.optimizer.learning_rate, keras.Variable):
        raise ValueError(
            "LRFinder sets the learning rate, so it must be a number and not a schedule. Compile "
            "with learning_rate=1e-3, say, for the finder. "
            f"Received: an optimizer {type(model.optimizer).__name__} with a schedule."
        )
    if model.steps_per_execution != 1:
        raise ValueError(
            "LRFinder sets the rate and reads the loss at each step. Compile with "
            f"steps_per_execution=1. Received: steps_per_execution={model.steps_per_execution}"
        )
    _loss_metric(model)


def _loss_metric(model):
    for metric in model.metrics:
        if metric.name == "loss":
            return metric
    raise ValueError(
        "LRFinder reads the loss of each batch from the metric 'loss', which the train step of "
        f"{type(model).__name__!r} does not keep. Received: metrics "
        f"{_checks.listed([metric.name for metric in model.metrics])}"
    )
