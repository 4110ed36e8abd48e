"""Go on after a kill exactly as the run would have gone on."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np

from kerastl import _keras
from kerastl._base import checks
from kerastl._base.types import PathLike
from kerastl.callbacks.follow_plan import FollowPlan
from kerastl.callbacks.gradual_unfreezing import GradualUnfreezing
from kerastl.graph import check_fine_tuner
from kerastl.training import checkpoints


class Resume(keras.callbacks.Callback):
    """Saves all that a training is while `fit` runs, and goes on from there in the next process.

    Run the same script again after a kill at any instant: it does the epochs and steps that are
    missing, and ends with the weights, the optimizer and the history of a run that was never
    stopped, bit for bit on the same machine. Run once more when it is done, it returns at once.

    A checkpoint holds weights, statistics and random states; the optimizer with its moving
    averages and loss scale; what is frozen, multipliers and schedules; the position in the data;
    running means of metrics; and the states of the other callbacks: those with `get_state()` and
    `set_state(state)`, and Keras's `EarlyStopping`, `ReduceLROnPlateau`, `ModelCheckpoint`,
    `CSVLogger`, `TensorBoard`, `SwapEMAWeights` and `History`. Any other callback that remembers
    something must have those two methods; nobody else can tell what it remembers. It may stand
    anywhere in the list of callbacks: `FineTuner.fit` calls it after all others.

    Bit for bit takes data whose passes can be repeated: arrays, or
    `kerastl.data.make_dataset`. Another dataset or generator is fine with `every="epoch"` if each
    pass over it gives the same batches, however many passes came before: no `shuffle` that
    reshuffles, no random maps. Layers must draw from Keras's seed generators, as Keras's own do.

    Args:
        folder: Where to keep the newest checkpoint and the one before it. One folder a `fit`.
        every: `"epoch"`, or an int > 0 to save also after that many steps within an epoch.
        epochs: Int > 0, save at the end of every so many epochs, and of the last: of epochs of a
            step or two, saving each would take longer than training it.
        extra: JSON values, such as the settings of the run. A checkpoint with other ones is
            refused.
        verbose: 0 for silence, 1 for a line that says where it goes on.

    Attributes:
        began_at: `(epoch, step)` at which the present `fit` began, both from 0, or None if there
            was no checkpoint.

    Raises:
        CheckpointError: In `fit`, if the checkpoint is damaged, or belongs to another model,
            optimizer, plan or data.
        ValueError: In `fit`, for steps within an epoch of data that cannot be repeated.
        TypeError: If the model is not a `FineTuner`.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from kerastl import FineTuner
        >>> def run(folder, epochs):
        ...     inputs = keras.Input((4,))
        ...     model = FineTuner(inputs, keras.layers.Dense(2, name="head")(inputs))
        ...     model.compile("adam", "mse")
        ...     resume = Resume(folder)
        ...     data = np.ones((8, 4)), np.zeros((8, 2))
        ...     history = model.fit(*data, epochs=epochs, callbacks=[resume], verbose=0)
        ...     return resume.began_at, history.epoch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run(folder, epochs=2)
        ...     run(folder, epochs=3)
        (None, [0, 1])
        ((2, 0), [0, 1, 2])
    """

    resumes = True  # has `fit` give it passes that can be repeated, and call it last

    def __init__(
        self,
        folder: PathLike,
        *,
        every: int | Literal["epoch"] = "epoch",
        epochs: int = 1,
        extra: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__()
        if every != "epoch":
            checks.whole(every, 1, 2**31 - 1, "every")
        self.every: int | Literal["epoch"] = every
        self.epochs = checks.whole(epochs, 1, 2**31 - 1, "epochs")
        self.extra = json.loads(json.dumps(extra))  # as it will come back from the file
        self.verbose = verbose
        self.began_at = None
        self._folder = checkpoints.CheckpointFolder(folder)
        self._others: Any = None  # a list, once `fit` has told

    def set_model(self, model: keras.Model) -> None:
        check_fine_tuner(model, "Resume", "which reads its data pass by pass")
        super().set_model(model)

    def set_callbacks(self, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Told by `FineTuner.fit`: all callbacks of the training."""
        self._others = [c for c in callbacks if c is not self]
        rivals = (Resume, keras.callbacks.BackupAndRestore)
        for callback in self._others:
            if isinstance(callback, rivals):
                raise ValueError(
                    "One callback can restore a training. Received: Resume and another "
                    f"{type(callback).__name__}. Leave one of them out."
                )

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._check()
        self.began_at = self._midway = None
        self._epoch, self._saved_step = 0, 0
        self._identity = self._identify()
        state = self._folder.load()
        if state is None:
            self._save(None, 0)
            return
        path: Any = self._folder.file_to_load()
        checkpoints.check_same(path, state["identity"], self._identity)
        self._restore(state)
        self._go_on(state, path)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch, self._saved_step = epoch, 0

    def on_metrics_reset(self, epoch: int) -> None:
        """Called by `FineTuner.fit` when an epoch has begun for all and metrics are at zero."""
        state, self._midway = self._midway, None
        if state is None or state["epoch"] != epoch:
            return
        # Once more, since callbacks have begun an epoch here that had begun for the model before.
        self._restore(state)
        with self.model.distribute_strategy.scope():
            _keras.build_compiled(self.model, next(iter(self.model.fit_state.passes.epoch(0))))
        checkpoints.restore_metrics(self.model, state["metrics"])
        self._saved_step = state["step"]

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        step = batch + 1
        if self.every == "epoch" or step - self._saved_step < self.every:
            return
        # The end of an epoch is saved when validation and callbacks are through with it.
        if step < self.model.fit_state.passes.num_batches and not self.model.stop_training:
            self._save(self._epoch, step)
            self._saved_step = step

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        is_last = epoch + 1 >= self.params["epochs"] or self.model.stop_training
        if is_last or (epoch + 1) % self.epochs == 0:
            self._save(epoch + 1, 0)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        _keras.take_initial_epoch(self.model)  # Keras keeps it for the next `fit`

    def _check(self):
        if self._others is None:
            raise RuntimeError(
                "Resume must know the other callbacks. Give them to `FineTuner.fit` as a list. "
                "Received: a CallbackList, or a fit of another model"
            )
        if self.every != "epoch" and self.model.fit_state.passes is None:
            raise ValueError(
                "Steps within an epoch can be restored only for data whose passes can be "
                "repeated: arrays, or a dataset of `kerastl.data.make_dataset`, without "
                "`steps_per_epoch` and `validation_split`. "
                f"Received: every={self.every!r}. Use every='epoch'."
            )

    def _identify(self):
        settings = {type(c).__name__: settings_of(c) for c in self._others}
        return {
            **checkpoints.identity_of(self.model),
            "callbacks": [type(callback).__name__ for callback in self._known()],
            "plan": {name: said for name, said in settings.items() if said is not None},
            "extra": self.extra,
        }

    def _save(self, epoch, step):
        self._folder.save(
            {
                "identity": self._identity,
                "epoch": epoch,
                "step": step,
                "stopped": bool(self.model.stop_training),
                "model": checkpoints.capture(self.model),
                "metrics": checkpoints.capture_metrics(self.model) if step else [],
                "callbacks": [state_of(c) for c in self._known()],
            }
        )

    def _known(self):
        return [callback for callback in self._others if is_known(callback)]

    def _restore(self, state):
        checkpoints.restore(self.model, state["model"])
        for callback, said in zip(self._known(), state["callbacks"], strict=True):
            restore(callback, said)

    def _go_on(self, state, path):
        epoch, step = state["epoch"], state["step"]
        if epoch is None:  # killed before the first checkpoint within the training
            return
        self.began_at = epoch, step
        if step:
            self._midway = state
            self.model.fit_state.resume_at = epoch, step
        self.model.stop_training = state["stopped"]
        # A training that a callback ended early has no further epoch.
        _keras.begin_at(self.model, self.params["epochs"] if state["stopped"] else epoch)
        if self.verbose:
            print(f"Going on at epoch {epoch + 1}, step {step + 1}, from {path}")


# Attributes by kind. All of them are set anew by `on_train_begin`, or by a new object.
ATTRIBUTES = {
    keras.callbacks.EarlyStopping: (
        "wait", "stopped_epoch", "best", "best_weights", "best_epoch",
    ),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    keras.callbacks.ModelCheckpoint: _keras.MODEL_CHECKPOINT_STATE,
    keras.callbacks.History: ("history", "epoch"),
    keras.callbacks.SwapEMAWeights: _keras.SWAP_EMA_STATE,
    keras.callbacks.TensorBoard: _keras.TENSORBOARD_STATE,
}  # fmt: skip


def is_known(callback: keras.callbacks.Callback) -> bool:
    """Whether `state_of` can tell the state of `callback`."""
    return _kept_by_itself(callback) or isinstance(
        callback, (keras.callbacks.CSVLogger, *ATTRIBUTES)
    )


def state_of(callback: Any) -> dict[str, Any]:
    """The state of a known `callback`, as JSON-able values and arrays."""
    if _kept_by_itself(callback):
        return callback.get_state()
    if isinstance(callback, keras.callbacks.CSVLogger):
        return _rows_of(callback)
    return {name: getattr(callback, name) for name in _attributes(callback)}


def restore(callback: Any, state: Mapping[str, Any]) -> None:
    """Give a known `callback` back what `state_of` told; after its `on_train_begin`."""
    if _kept_by_itself(callback):
        callback.set_state(state)
    elif isinstance(callback, keras.callbacks.CSVLogger):
        _restore_rows(callback, state)
    else:
        for name in _attributes(callback):
            setattr(callback, name, state[name])


def settings_of(callback: keras.callbacks.Callback) -> Any:
    """What a run must have in common with the run that it goes on with, as JSON-able values."""
    if isinstance(callback, GradualUnfreezing):
        schedule = callback.schedule and {str(e): g for e, g in callback.schedule.items()}
        return {"schedule": schedule, "every": callback.every, "batch_norm": callback.batch_norm}
    return json.loads(callback.plan.to_json()) if isinstance(callback, FollowPlan) else None


def _kept_by_itself(callback):
    return hasattr(callback, "get_state") and hasattr(callback, "set_state")


def _attributes(callback):
    return next(names for kind, names in ATTRIBUTES.items() if isinstance(callback, kind))


def _rows_of(logger):
    """The file of a `CSVLogger` as it is now, and its columns if they are known."""
    logger.csv_file.flush()
    return {
        "content": np.fromfile(logger.filename, "uint8"),
        "keys": logger.keys,
        "append_header": logger.append_header and logger.writer is None,
    }


def _restore_rows(logger, state):
    """Write the rows up to the checkpoint: its `on_train_begin` may have emptied the file."""
    with open(logger.filename, "r+b") as file:
        file.truncate(0)
        file.write(state["content"].tobytes())
    logger.csv_file.seek(0, os.SEEK_END)
    logger.keys, logger.writer = state["keys"], None
    logger.append_header = state["append_header"]
