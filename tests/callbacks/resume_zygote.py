"""Runs one small training as often as it is told, each time in a process of its own.

TensorFlow takes seconds to import. So this process imports it, starts nothing of it, and forks one
child for each line of JSON on its standard input; what a child does is said on standard output.
Run it as `python -m tests.callbacks.resume_zygote` from the root of the project.
"""

import json
import os
import signal
import sys

import keras
import numpy as np

from kerastl import callbacks
from kerastl.training import FineTuner

EPOCHS, STEPS, THAWS = 6, 10, {0: 1, 2: 2, 3: 3}


def make_tuner():
    keras.utils.set_random_seed(3)
    x = inputs = keras.Input((6,))
    for name in ("stem", "middle"):
        x = keras.layers.Dense(8, activation="relu", name=name)(x)
        x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
        x = keras.layers.Dropout(0.2)(x)
    model = FineTuner(inputs, keras.layers.Dense(3, activation="softmax", name="head")(x))
    adam = keras.optimizers.AdamW(0.005, use_ema=True, ema_momentum=0.9)
    model.compile(adam, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def make_data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4 * STEPS, 6)).astype("float32")
    return x, (x[:, 0] > 0.3).astype("int64") + (x[:, 1] + rng.normal(size=len(x)) > 0.5)


def train(folder, on_step):
    """The whole run; what it leaves behind is in `folder`."""
    model, (x, y) = make_tuner(), make_data()
    history = model.fit(
        x[:-8],
        y[:-8],
        batch_size=4,
        epochs=EPOCHS,
        validation_data=(x[-8:], y[-8:]),
        class_weight={0: 1.0, 1: 2.0, 2: 0.5},
        verbose=0,
        callbacks=[
            callbacks.Resume(f"{folder}/checkpoints", every=3),
            callbacks.GradualUnfreezing(THAWS, batch_norm="train"),
            keras.callbacks.EarlyStopping(patience=9, restore_best_weights=True),
            keras.callbacks.ReduceLROnPlateau(patience=1, factor=0.5),
            keras.callbacks.ModelCheckpoint(f"{folder}/best.weights.h5", save_best_only=True,
                                            save_weights_only=True),
            keras.callbacks.CSVLogger(f"{folder}/log.csv"),
            keras.callbacks.LambdaCallback(on_train_batch_begin=on_step),
        ],
    )  # fmt: skip
    values = [v.numpy() for v in [*model.variables, *model.optimizer.variables]]
    np.savez(f"{folder}/end.npz", *values)
    with open(f"{folder}/history.json", "w") as file:
        json.dump([history.epoch, history.history], file)


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def kill_before(call, count):
    """Have the process end before the `count`-th call of `os.fsync` or `os.replace`."""
    original, calls = getattr(os, call), []

    def counted(*args, **kwargs):
        calls.append(args)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        original(*args, **kwargs)

    setattr(os, call, counted)


def serve():
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            if "call" in order:
                kill_before(order["call"], order["count"])
            train(order["folder"], lambda batch, logs: say("step", batch))
            os._exit(0)
        say("pid", child)
        say("exit", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    serve()
