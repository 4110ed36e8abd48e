"""The learning-rate range test, after which the model is as it was."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl._base import checks
from kerastl.callbacks.snapshot import Snapshot
from kerastl.callbacks.suggestions import suggest
from kerastl.data.passes import untuned
from kerastl.graph import is_fine_tuner
from kerastl.schedules import Exponential

SMOOTHING = 0.98
DIVERGED = 4.0  # times the best loss


class LRFinder(keras.callbacks.Callback):
    """Raises the learning rate step by step, records the loss, and puts everything back.

    The shared rate of step `i` is `start * (end / start) ** (i / num_steps)`; multipliers keep the
    ratios between groups, a schedule is taken off meanwhile. Training ends after `num_steps` steps,
    or when the smoothed loss is above four times its best, or no number.

    Then weights, optimizer slots, step counters and clocks, batch-normalization statistics, seeds,
    learning rate, schedule, metrics and, in a `FineTuner`, the pass over the data are as they were,
    bit for bit. An optimizer that was not built yet has the slots of one that has taken no step.
    Use no callbacks beside it that thaw layers or set schedules.

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

    def __init__(self, start: float = 1e-7, end: float = 10.0, num_steps: int = 100) -> None:
        super().__init__()
        self.start = float(checks.in_range(start, 1e-30, 1e30, "start", "a rate"))
        self.end = float(checks.in_range(end, 1e-30, 1e30, "end", "a rate"))
        if self.end <= self.start:
            raise ValueError(
                f"`end` must be above `start`. Received: start={self.start}, end={self.end}"
            )
        self.num_steps = checks.whole(num_steps, 10, 1_000_000, "num_steps")
        self._ramp = Exponential(self.start, self.end)
        self._forget()

    def _forget(self):
        self.result: Any = None  # an `LRFinderResult` at the end, a `Snapshot` at the beginning
        self._before: Any = None
        self._ended = False
        self._rates, self._losses, self._batch_losses = [], [], []
        self._average = 0.0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._forget()
        check_model(self.model)
        self._before = Snapshot(self.model)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if not self._before.is_taken:
            self._check_length(self.params.get("epochs", 1) - epoch, self.params.get("steps"))

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if not self._before.is_taken:
            self._before.take_state()
        if not self._before.is_of_same_state():
            self.restore()
            raise RuntimeError(
                "What trains, or the schedule of the rate, was changed by another callback in the "
                "midst of the ramp. The weights are as they were, the optimizer is not: compile "
                "the model again, and run LRFinder without callbacks that thaw or set schedules."
            )
        rate = float(self._ramp.factor(len(self._rates) / self.num_steps))
        self._rates.append(rate)
        self.model.optimizer.learning_rate = rate
        # Keras logs the mean over the epoch so far; of one batch, that is the loss of the batch.
        _loss_metric(self.model).reset_state()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._ended:
            return
        loss = float((logs or {})["loss"])
        if math.isfinite(loss):
            self._record(loss)
        if not math.isfinite(loss) or self._diverged() or len(self._rates) == self.num_steps:
            self._ended = True
            self.model.stop_training = True
            self.restore()  # before other callbacks end the epoch

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
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

    def restore(self) -> None:
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


def check_model(model: keras.Model) -> None:
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
        f"{checks.listed([metric.name for metric in model.metrics])}"
    )


@dataclasses.dataclass(frozen=True)
class LRFinderResult:
    """A curve of losses over learning rates, and what it suggests.

    Attributes:
        rates: Tuple of the shared learning rate of each step.
        losses: Tuple of the loss after each, an average of the batches' losses (weights 0.98,
            bias-corrected).
        suggestions: Dict from `"valley"`, `"steep"`, `"slide"` and `"minimum"` to a rate or None.
        reason: String that says why nothing is suggested, or None.
        batch_losses: Tuple of the loss of each batch.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestions: dict[str, float | None]
    reason: str | None = None
    batch_losses: tuple[float, ...] = ()

    @classmethod
    def of_curve(
        cls,
        rates: Sequence[float] | np.ndarray,
        losses: Sequence[float] | np.ndarray,
        batch_losses: Sequence[float] | np.ndarray,
        num_steps: int,
    ) -> "LRFinderResult":
        """The result for a curve that would have had `num_steps` points without divergence."""
        suggestions, reason = suggest(rates, losses, batch_losses, num_steps)
        return cls(tuple(rates), tuple(losses), suggestions, reason, tuple(batch_losses))

    @property
    def suggestion(self) -> float | None:
        """The rate to use, that of the longest valley, or None where the curve has none."""
        return self.suggestions["valley"]

    def summary(self) -> str:
        """Text: what each rule suggests, or why none does."""
        if self.reason is not None:
            return f"No suggestion: {self.reason}."
        shown = [
            f"{rule} {'none' if rate is None else format(rate, '.2g')}"
            for rule, rate in self.suggestions.items()
        ]
        return f"Suggested learning rate {self.suggestion:.2g} ({', '.join(shown)})."

    def __repr__(self) -> str:
        return f"<LRFinderResult of {len(self.rates)} steps: {self.summary()}>"


CHOSEN_HERE = ("epochs", "initial_epoch", "validation_data", "validation_split")


def lr_find(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    start: float = 1e-7,
    end: float = 10.0,
    num_steps: int = 100,
    **fit_args: Any,
) -> LRFinderResult:
    """Find a learning rate by the range test; the model and its data stay as they were.

    Args:
        model: Compiled `FineTuner` or other `keras.Model` whose learning rate is a number.
        x: Data as `fit` takes them: arrays, a `keras.utils.PyDataset` or a `tf.data.Dataset`, such
            as `kerastl.data.make_dataset` gives. A dataset is read anew; one that shuffles itself
            by `tf.data` may then have another order than it would have had.
        y: Targets, if `x` does not hold them.
        start: Float > 0, the first rate.
        end: Float > `start`, the rate that the ramp leads to.
        num_steps: Int >= 10, steps of the ramp.
        **fit_args: Further arguments of `fit`, such as `batch_size` or `class_weight`. An epoch is
            nothing here, so that `steps_per_epoch` only says the size of the batches of arrays, as
            in `fit`, where `batch_size` does not.

    Returns:
        `LRFinderResult`; its `suggestion` is a rate or None.

    Raises:
        ValueError: If the model's rate is a schedule, it takes several steps at once, or the data
            cannot be read again, or not as often as it takes.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(64, 4))
        >>> keras.utils.set_random_seed(0)
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> result = lr_find(model, x, x @ rng.normal(size=(4, 1)) + 3.0)
        >>> 1e-4 < result.suggestion < 1.0
        True
    """
    if wrong := [name for name in CHOSEN_HERE if name in fit_args]:
        raise ValueError(
            "`lr_find` looks at training data alone, as often as it needs to: leave out "
            f"{', '.join(wrong)}. Received: {wrong[0]}={fit_args[wrong[0]]!r}"
        )
    finder = LRFinder(start, end, num_steps)
    feed = _feed(model, x, y, num_steps, fit_args)
    callbacks = [*keras.tree.flatten(fit_args.pop("callbacks", None) or []), finder]
    try:
        model.fit(**{"verbose": 0, **fit_args, **feed}, callbacks=callbacks)
    finally:
        finder.restore()
    return finder.result


def _feed(model, x, y, num_steps, fit_args):
    """The arguments of `fit` that say what is read, and how often."""
    _check_limits()
    asked = fit_args.pop("steps_per_epoch", None)  # the batches come in the same order without it
    if isinstance(x, tf.data.Dataset):  # which shuffles itself; Keras warns of the default True
        return {"shuffle": False, "y": y, **_feed_of_dataset(model, x, num_steps)}
    if isinstance(x, keras.utils.PyDataset):
        steps = x.num_batches
        if steps is None:
            return {"x": x, "y": y, "steps_per_epoch": num_steps, "epochs": 1}
        return {"x": x, "y": y, "epochs": math.ceil(num_steps / steps)}
    _check_arrays({"x": x, "y": y, "sample_weight": fit_args.get("sample_weight")})
    rows = next(leaf.shape[0] for leaf in keras.tree.flatten(x) if leaf is not None)
    size = fit_args.get("batch_size") or (math.ceil(rows / asked) if asked else 32)
    epochs = math.ceil(num_steps / max(1, math.ceil(rows / size)))
    return {"x": x, "y": y, "batch_size": size, "epochs": epochs}


def _feed_of_dataset(model, x, num_steps):
    passes = getattr(x, "repeatable", None)
    if passes is not None and not is_fine_tuner(model):
        # Keras would read the dataset itself, which gives another pass each time.
        return {"x": _from_the_first_pass(passes, num_steps), "epochs": 1}
    steps = int(x.cardinality()) if passes is None else passes.num_batches
    if steps < 1:  # it does not say how many, or has no end
        return {"x": x.repeat(), "steps_per_epoch": num_steps, "epochs": 1}
    return {"x": x, "epochs": math.ceil(num_steps / steps)}


def _from_the_first_pass(passes, num_steps):
    count = math.ceil(num_steps / passes.num_batches)
    batches = tf.data.Dataset.range(count).flat_map(passes.elements).take(num_steps)
    return untuned(batches.apply(tf.data.experimental.assert_cardinality(num_steps)))


def _check_limits():
    limits = {
        "max_epochs": keras.config.max_epochs(),
        "max_steps_per_epoch": keras.config.max_steps_per_epoch(),
    }
    for name, limit in limits.items():
        if limit:
            raise ValueError(
                "`lr_find` reads the data as often as the ramp takes. Received: a limit of all of "
                f"the process. Call `keras.config.set_{name}(None)` first; it is {limit}."
            )


def _check_arrays(given):
    for name, part in given.items():
        leaves = [leaf for leaf in keras.tree.flatten(part) if leaf is not None]
        if all(hasattr(leaf, "shape") for leaf in leaves) and (leaves or name != "x"):
            continue
        others = ", a tf.data.Dataset or a keras.utils.PyDataset" if name == "x" else ""
        raise ValueError(
            f"`{name}` must be arrays{others}, so that what was read can be read again. Received: "
            f"{name} of type {type(part).__name__}. Make an array of lists: `np.asarray({name})`."
        )
