"""One `fit` as a row of one-epoch fits of Keras, so that an epoch's data is chosen as it begins."""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from kerastl import _keras
from kerastl.data.passes import ArrayPasses, Passes
from kerastl.graph.flags import is_frozen
from kerastl.training.checkpoints.state import capture_metrics, restore_metrics
from kerastl.training.feeding import Feed, Settings, passes_of, refuse_empty
from kerastl.training.fit_state import StaleFeatures

if TYPE_CHECKING:
    from kerastl.training.fine_tuner import FineTuner


def plan_fit(model: "FineTuner", x: Any, y: Any, settings: Settings) -> Passes | None:
    """The `Passes` that `fit_by_epochs` is to train on, or None to leave `fit` to Keras.

    Keras alone reads datasets that nobody can repeat, and `steps_per_epoch`, `validation_split` or
    `keras.config.max_steps_per_epoch()` of them. Arrays are left to it too, unless a pass must be
    repeatable or frozen layers may be computed once.

    Raises:
        ValueError: If there are no data, or `cache_frozen=True` and they cannot be repeated.
    """
    refuse_empty(x, "x")
    passes = None if _only_keras_can(settings) else _repeatable(x, y, settings)
    if passes is None and settings.cache_frozen is True:
        raise ValueError(
            "`cache_frozen=True` needs data that can be read again row by row: arrays, none of "
            "them ragged, sparse or None, or a dataset of `kerastl.data.make_dataset`, without "
            "`steps_per_epoch`, `validation_split`, keras.config.set_max_steps_per_epoch and a "
            "CallbackList. "
            f"Received: x={type(x).__module__}.{type(x).__qualname__}"
        )
    is_used = not isinstance(passes, ArrayPasses) or _must_repeat(model, settings)
    return passes if is_used else None


def _only_keras_can(settings):
    is_list = isinstance(settings.callbacks, keras.callbacks.CallbackList)  # made by the user
    split = settings.others.get("validation_split")
    return bool(is_list or split or _steps_asked(settings))


def _steps_asked(settings):
    """The steps of an epoch that were asked for, be it for all of the process, or None."""
    asked = settings.others.get("steps_per_epoch"), keras.config.max_steps_per_epoch()
    return min(filter(None, asked), default=None)


def allowed_epochs(epochs: int) -> int:
    """`epochs`, or what `keras.config.set_max_epochs` allows of them, with Keras's warning."""
    limit = keras.config.max_epochs()
    if not limit or limit >= epochs:
        return epochs
    warnings.warn(f"Limiting epochs to {limit}", stacklevel=3)
    return limit


def _repeatable(x, y, settings):
    given = settings.others
    return passes_of(
        x,
        y,
        given.get("sample_weight"),
        batch_size=settings.batch_size,
        shuffle=given.get("shuffle", True),
        class_weight=given.get("class_weight"),
    )


def _must_repeat(model, settings):
    callbacks = keras.tree.flatten(settings.callbacks)
    if any(getattr(c, "resumes", False) or getattr(c, "reads_passes", False) for c in callbacks):
        return True
    freezes = any(hasattr(callback, "next_change") for callback in callbacks)
    several = settings.epochs - settings.initial_epoch > 1
    if model.terms.riding(None, keeps=several and settings.cache_frozen is not False):
        return True
    may_gain = several and (freezes or _has_frozen(model))
    return settings.cache_frozen is True or (settings.cache_frozen == "auto" and may_gain)


def _has_frozen(model):
    return any(layer.weights and is_frozen(layer) for layer in model.layers)


def fit_by_epochs(
    model: "FineTuner", fit: Callable[..., Any], settings: Settings
) -> keras.callbacks.History:
    """Train `model` on the passes of its `fit_state`, and have its callbacks see one training.

    What callbacks do when an epoch begins (thaw, resume) decides what that epoch is fed: which
    pass, from which batch on, and whether from cached features.

    Args:
        model: `FineTuner`.
        fit: `keras.Model.fit` of `model`, for one epoch.
        settings: `Settings`.

    Returns:
        The `History` callback.
    """
    state = model.fit_state
    passes: Any = state.passes
    callbacks = one_training(model, settings, steps=passes.num_batches)
    model.stop_training = False
    state.begin(settings.initial_epoch)
    feed = Feed(model, settings, callbacks)
    model.make_train_function()
    callbacks.begin()
    with _keras.without_finalizing(model.optimizer):
        for epoch in range(_first_epoch(model, settings), settings.epochs):
            if model.stop_training:
                break
            callbacks.begin_epoch(epoch)
            if model.stop_training:
                break
            while not _trained(model, fit, settings, feed, epoch):
                callbacks.interrupted(epoch)
    state.resume_at = None
    model.history.frozen_features = feed.report
    if settings.epochs > 0:
        model.optimizer.finalize_variable_values(model.trainable_weights)
    callbacks.end()
    return model.history


def _trained(model, fit, settings, feed, epoch):
    """Train for the rest of `epoch`; return False where a thaw amid it asks for other data."""
    state, callbacks = model.fit_state, feed.callbacks
    data, validation = feed.for_epoch(epoch)
    callbacks.batches_before = callbacks.batches_done = feed.batches_before
    state.passes_done = epoch + state.pass_offset + 1
    try:
        with state.in_epoch():
            fit(
                data,
                initial_epoch=epoch,
                epochs=epoch + 1,
                callbacks=callbacks,
                validation_data=validation,
                shuffle=False,
                verbose=settings.verbose,
                **_for_keras(settings, state.passes),
            )
    except StaleFeatures:
        return False
    return True


def for_keras(model: "FineTuner", x: Any, settings: Settings) -> Any:
    """The callbacks for a `fit` left to Keras: in order, where one of them saves the training."""
    callbacks = settings.callbacks
    resumes = any(getattr(c, "resumes", False) for c in keras.tree.flatten(callbacks))
    if not resumes or isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    steps = _steps_asked(settings) or _known_batches(x)
    return one_training(model, settings, steps, SavesLast)


def _known_batches(x):
    number = int(x.cardinality()) if isinstance(x, tf.data.Dataset) else None
    return number if number is None or number >= 0 else None


def _for_keras(settings, passes):
    """The arguments of `fit` that stay as they are when its data come from `passes`."""
    ours = ["shuffle", "sample_weight", "initial_epoch", "validation_data"]
    if isinstance(passes, ArrayPasses):
        ours.append("class_weight")  # is among the weights of the examples
    kept = {name: value for name, value in settings.others.items() if name not in ours}
    return {"validation_batch_size": settings.batch_size, **kept}


def _first_epoch(model, settings):
    """Where to begin: said by a callback that restores a run, by `initial_epoch` otherwise."""
    restored = _keras.take_initial_epoch(model)
    return settings.initial_epoch if restored is None else restored


def one_training(
    model: "FineTuner", settings: Settings, steps: int | None, kind: Any = None
) -> "OneTraining":
    """An `OneTraining`, or a list of another `kind`, of the callbacks in `settings`."""
    return (kind or OneTraining)(
        settings.callbacks,
        add_history=True,
        add_progbar=settings.verbose != 0,
        verbose=settings.verbose,
        epochs=settings.epochs,
        steps=steps,
        model=model,
    )


class SavesLast(keras.callbacks.CallbackList):
    """Keras's list, with a callback that saves the training after all others.

    So it sees what they have done.
    """

    def __init__(self, callbacks: Any, **params: Any) -> None:
        super().__init__(callbacks, **params)
        self.callbacks.sort(key=lambda callback: getattr(callback, "resumes", False))
        for callback in self.with_method("set_callbacks"):
            callback.set_callbacks(self.callbacks)

    def with_method(self, name: str) -> list[Any]:
        """The callbacks that have a method `name`."""
        return [callback for callback in self.callbacks if hasattr(callback, name)]


class OneTraining(SavesLast):
    """A list of callbacks that sees one training where Keras runs several.

    `begin`, `begin_epoch` and `end` are what the driver calls; Keras's own calls of
    `on_train_begin`, `on_epoch_begin` and `on_train_end` in each one-epoch fit go nowhere.

    Attributes:
        batches_before: Int, batches of the present epoch that were trained on before what it reads
            now: in an earlier process, or before a thaw.
        batches_done: Int, all batches of the present epoch that were trained on.
    """

    batches_before = batches_done = 0
    _logs = _bar = _metrics = None

    def begin(self) -> None:
        super().on_train_begin()

    def begin_epoch(self, epoch: int) -> None:
        super().on_epoch_begin(epoch)

    def end(self) -> None:
        super().on_train_end(self._logs)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        pass

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Metrics have been reset by now: an epoch that goes on puts theirs back."""
        for callback in self.with_method("on_metrics_reset"):
            callback.on_metrics_reset(epoch)
        if self._metrics is not None:
            restore_metrics(self._model, self._metrics)
            self._metrics = None

    def interrupted(self, epoch: int) -> None:
        """What `epoch` is fed has become stale: it goes on behind the batches that are done."""
        self._model.fit_state.resume_at = epoch, self.batches_done
        self._metrics = capture_metrics(self._model)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_train_batch_begin(batch + self.batches_before, logs)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.batches_done = batch + self.batches_before + 1
        super().on_train_batch_end(batch + self.batches_before, logs)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._logs = logs

    def on_frozen_features(self, done: int, total: int) -> None:
        """Features of `done` of `total` examples are computed: a bar where epochs have one."""
        for callback in self.with_method("on_frozen_features"):
            callback.on_frozen_features(done, total)
        if self._progbar is None or self.params.get("verbose") == 2:
            return
        if self._bar is None:
            print("Computing the frozen layers' features once")
            self._bar = keras.utils.Progbar(total, unit_name="example")
        self._bar.update(done, finalize=done == total)
        if done == total:
            self._bar = None
