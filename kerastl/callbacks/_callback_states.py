"""What callbacks remember from one epoch to the next, and how it is given back to them."""

import json
import os

import keras
import numpy as np

from kerastl import _keras
from kerastl.callbacks.follow_plan import FollowPlan
from kerastl.callbacks.gradual_unfreezing import GradualUnfreezing

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


def is_known(callback):
    """Whether `state_of` can tell the state of `callback`."""
    return _kept_by_itself(callback) or isinstance(
        callback, (keras.callbacks.CSVLogger, *ATTRIBUTES)
    )


def state_of(callback):
    """The state of a known `callback`, as JSON-able values and arrays."""
    if _kept_by_itself(callback):
        return callback.get_state()
    if isinstance(callback, keras.callbacks.CSVLogger):
        return _rows_of(callback)
    return {name: getattr(callback, name) for name in _attributes(callback)}


def restore(callback, state):
    """Give a known `callback` back what `state_of` told; after its `on_train_begin`."""
    if _kept_by_itself(callback):
        callback.set_state(state)
    elif isinstance(callback, keras.callbacks.CSVLogger):
        _restore_rows(callback, state)
    else:
        for name in _attributes(callback):
            setattr(callback, name, state[name])


def settings_of(callback):
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
