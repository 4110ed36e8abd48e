"""A run that was killed ends as the run that was left alone, bit for bit."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl import FineTuner, callbacks, freeze_to, schedules, unfreeze
from kerastl.callbacks import _callback_states
from kerastl.checkpoints import CheckpointError
from kerastl.data import make_dataset
from kerastl.plan import EarlyStop, Phase, TransferPlan
from tests.resume_zygote import EPOCHS, THAWS

ROOT = pathlib.Path(__file__).parents[1]


class Zygote:
    """The process that forks a child for each attempt at the training."""

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.resume_zygote"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}, text=True, bufsize=1,
        )  # fmt: skip
        return self

    def __exit__(self, *error):
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def attempt(self, folder, *, kill_after=None, delay=0.0, **order):
        """One child; kill it `delay` seconds after its step number `kill_after` begins.

        Returns:
            Exit code of the child, -9 if it was killed, and the batches that it began.
        """
        self._process.stdin.write(json.dumps({"folder": str(folder), **order}) + "\n")
        steps, child = [], None
        for line in self._process.stdout:
            kind, value = line.split()
            if kind == "exit":
                return int(value), steps
            if kind == "pid":
                child = int(value)
            else:
                steps.append(int(value))
            if child is not None and kill_after == len(steps):
                time.sleep(delay)
                os.kill(child, signal.SIGKILL)
                kill_after = None
        raise RuntimeError(f"The process that forks ended: {self._process.poll()}")


def left_behind(folder):
    """All that a finished run has written besides its checkpoints."""
    with np.load(folder / "end.npz") as arrays:
        values = {name: arrays[name].tobytes() for name in arrays.files}
    with h5py.File(folder / "best.weights.h5") as file:
        file.visititems(lambda name, item: values.update({name: leaf_bytes(item)}))
    values["history"] = json.loads((folder / "history.json").read_text())
    values["log"] = (folder / "log.csv").read_text()
    return values


def leaf_bytes(item):
    return item[()].tobytes() if isinstance(item, h5py.Dataset) else None


@pytest.fixture(scope="module")
def zygote():
    with Zygote() as started:
        yield started


@pytest.fixture(scope="module")
def alone(zygote, tmp_path_factory):
    """What a run leaves behind that nobody killed."""
    folder = tmp_path_factory.mktemp("alone")
    code, steps = zygote.attempt(folder)
    assert code == 0 and steps == EPOCHS * list(range(8))
    return left_behind(folder)


def test_killed_at_random_instants(zygote, alone, tmp_path):
    """At 14 of them, before, between and after the thaws, while it starts and while it saves."""
    rng, kills, begun = np.random.default_rng(5), 0, []
    while True:
        # Up to 8 steps on; the delay reaches over a step, its checkpoint and into the next ones.
        after = int(rng.integers(0, 8))
        delay = float(rng.uniform(0, 0.5 if after == 0 else 0.01))
        if kills == 14:
            after = None
        code, steps = zygote.attempt(tmp_path, kill_after=after, delay=delay)
        begun.append(steps)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
    assert kills >= 12
    assert sum(len(steps) for steps in begun) < EPOCHS * 8 + 4 * kills  # it went on, not anew
    assert left_behind(tmp_path) == alone
    assert len(alone["history"][0]) == EPOCHS > max(THAWS)


@pytest.mark.parametrize("call, counts", [("fsync", (1, 7)), ("replace", (1, 2, 2, 7))])
def test_killed_while_a_checkpoint_is_written(zygote, alone, tmp_path, call, counts):
    """Before its bytes are on the disk, before the first renaming, and between the two."""
    for count in counts:
        assert zygote.attempt(tmp_path, call=call, count=count)[0] == -signal.SIGKILL
    assert zygote.attempt(tmp_path)[0] == 0
    assert left_behind(tmp_path) == alone


def test_a_finished_run_does_no_more_steps(zygote, alone, tmp_path):
    for steps in (EPOCHS * list(range(8)), []):
        assert zygote.attempt(tmp_path) == (0, steps)
        assert left_behind(tmp_path) == alone


class Killed(Exception):
    pass


class Kill(keras.callbacks.Callback):
    """Ends a `fit` from within, as far as it can be done in one process."""

    def __init__(self, epoch, batch):
        super().__init__()
        self._at = epoch, batch

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self._epoch, batch) == self._at:
            raise Killed


class Thaw(keras.callbacks.Callback):
    """A thaw that nobody announced, and a rate that is what it was times a half."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            unfreeze(self.model, "conv", batch_norm="train")
            unfreeze(self.model, slice(None), batch_norm="train")
            self.model.set_multipliers({"conv": 0.5})
        self.model.optimizer.learning_rate = 0.5 * float(self.model.optimizer.learning_rate)


class Sum(keras.callbacks.Callback):
    """Keeps its state by itself."""

    total = 0.0

    def on_train_batch_end(self, batch, logs=None):
        self.total += logs["loss"]

    def get_state(self):
        return {"total": self.total}

    def set_state(self, state):
        self.total = state["total"]


def make_tuner(units=4, rate=0.01, scale_loss=True, **compile_args):
    """Of layers without names, which Keras calls otherwise each time."""
    keras.utils.set_random_seed(1)
    x = inputs = keras.Input((6, 6, 3))
    x = keras.layers.Rescaling(1 / 255)(x)
    x = keras.layers.Conv2D(4, 3, name="conv")(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(keras.layers.Dense(units)(keras.layers.Flatten()(x)))
    model = FineTuner(inputs, keras.layers.Dense(3, activation="softmax", name="out")(x))
    freeze_to(model, -1)
    inner = keras.optimizers.AdamW(rate, use_ema=True, ema_momentum=0.5)
    scaled = keras.optimizers.LossScaleOptimizer(inner, dynamic_growth_steps=3)
    loss = keras.losses.SparseCategoricalCrossentropy()
    optimizer = scaled if scale_loss else inner
    model.compile(optimizer, loss, metrics=["accuracy"], norms=True, **compile_args)
    return model


def pictures(augment="light", seed=3, shift=0):
    pixels = np.random.default_rng(0).integers(0, 200, (22, 6, 6, 3)) + shift
    options = {"batch_size": 4, "seed": seed, "augment": augment}
    return make_dataset(pixels.astype("uint8"), np.arange(22) % 3, **options)


def run(folder, *more, model=None, data=None, every="epoch", extra=None, epochs=3, **others):
    model = model or make_tuner()
    resume = callbacks.Resume(folder, every=every, extra=extra)
    others = {"epochs": epochs, "shuffle": False, "verbose": 0, **others}
    history = model.fit(data or pictures(), callbacks=[resume, *more], **others)
    return model, history, resume


def assert_same_end(one, two):
    assert one[1].epoch == two[1].epoch and one[1].history == two[1].history
    for kind in ("variables", "optimizer.variables"):
        a, b = ([v.numpy() for v in eval(f"m.{kind}", {"m": m})] for m in (one[0], two[0]))
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.fixture(scope="module")
def thawed_alone(tmp_path_factory):
    own = Sum()
    return *run(tmp_path_factory.mktemp("alone"), Thaw(), own), own.total


@pytest.mark.parametrize(
    "every, kill, begins",
    [("epoch", (1, 2), (1, 0)), (1, (0, 0), None), (2, (2, 4), (2, 4))],
)
def test_goes_on_at_the_step(thawed_alone, tmp_path, every, kill, begins):
    """Across an unannounced thaw, with loss scale, averages, norms, augmentation, own states."""
    own = Sum()
    with pytest.raises(Killed):
        run(tmp_path, Kill(*kill), Thaw(), Sum(), every=every)
    resumed = run(tmp_path, Thaw(), own, every=every)
    assert resumed[2].began_at == begins
    assert_same_end(thawed_alone, resumed)
    assert own.total == thawed_alone[3] > 0


def test_several_steps_at_once(tmp_path):
    def model():
        return make_tuner(steps_per_execution=2)

    alone = run(tmp_path / "a", model=model(), epochs=2)
    with pytest.raises(Killed):
        run(tmp_path / "b", Kill(1, 3), model=model(), epochs=2, every=1)
    resumed = run(tmp_path / "b", model=model(), epochs=2, every=1)
    assert resumed[2].began_at == (1, 2)
    assert_same_end(alone, resumed)


def test_follows_its_plan(tmp_path):
    """Shapes with momentum, a rate and a decay for each phase, and a phase that ends early."""
    cycle, never = schedules.OneCycle(), EarlyStop("loss", patience=1, min_delta=9.0)
    rate = {"learning_rate": 0.02}
    plan = TransferPlan(
        [
            Phase(1, "head", weight_decay=0.1, schedule=cycle, **rate),
            Phase(5, "all", weight_decay=0.2, early_stop=never, **rate),
            Phase(1, "all", weight_decay=0.3, schedule=cycle, multipliers={"head": 0.5}, **rate),
        ]
    )

    def follow(name, *more, every="epoch"):
        model = make_tuner(scale_loss=False)
        log = callbacks.FollowPlan(plan, log=tmp_path / f"{name}.csv")
        return run(tmp_path / name, *more, log, model=model, epochs=7, every=every)

    alone = follow("a")
    assert alone[1].epoch == [0, 1, 2, 3]
    for epoch, batch in [(0, 3), (2, 4)]:  # in the first phase, and in the second
        with pytest.raises(Killed):
            follow("b", Kill(epoch, batch), every=2)
    resumed = follow("b", every=2)
    assert resumed[2].began_at == (2, 4)
    assert_same_end(alone, resumed)
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()


def test_other_callbacks_of_keras(tmp_path):
    """A log that is appended to, counts of TensorBoard and ModelCheckpoint, averages swapped in."""

    def others(name):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        if not (folder / "log.csv").exists():
            (folder / "log.csv").write_text("epoch,of,an,earlier,run\n")
        return [
            keras.callbacks.CSVLogger(folder / "log.csv", append=True),
            keras.callbacks.TensorBoard(folder / "board", write_graph=False, update_freq=2),
            keras.callbacks.ModelCheckpoint(
                folder / "{epoch}-{batch}.weights.h5", save_freq=4, save_weights_only=True
            ),
            keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
        ]

    def model():
        return make_tuner(scale_loss=False)

    watched = others("a")
    alone = run(tmp_path / "a", *watched, model=model(), epochs=2)
    killed = others("b")
    with pytest.raises(Killed):
        run(tmp_path / "b", Kill(1, 1), *killed, model=model(), epochs=2, every=1)
    killed[0].csv_file.close()
    restored = others("b")
    resumed = run(tmp_path / "b", *restored, model=model(), epochs=2, every=1)
    assert resumed[2].began_at == (1, 1)
    assert_same_end(alone, resumed)
    a, b = ((tmp_path / name / "log.csv").read_text() for name in "ab")
    assert a == b and a.startswith("epoch,of,an,earlier,run")
    names = [sorted(p.name for p in (tmp_path / name).glob("*.h5")) for name in "ab"]
    assert names[0] == names[1] == ["1-4.weights.h5", "2-2.weights.h5", "2-6.weights.h5"]
    for one, two in zip(watched, restored, strict=True):
        assert plain_state(one) == plain_state(two)


def plain_state(callback):
    return {} if hasattr(callback, "csv_file") else _callback_states.state_of(callback)


def test_features_in_half_precision(tmp_path):
    """An epoch reads the cached features that it would have read, be it the last one."""

    def half(name, *more):
        model = make_tuner(units=5)
        return run(tmp_path / name, *more, model=model, data=pictures(None), cache_dtype="float16")

    alone = half("a")
    assert [said["cached"] for said in alone[1].frozen_features] == [True] * 3
    with pytest.raises(Killed):
        half("b", Kill(2, 1))
    assert_same_end(alone, half("b"))


def test_a_training_that_stopped_early_stays_so(tmp_path):
    def stop():
        return keras.callbacks.EarlyStopping("loss", patience=0, mode="max", min_delta=9)

    first = run(tmp_path, stop(), epochs=9)
    again = run(tmp_path, stop(), epochs=9)
    assert first[1].epoch == [0, 1] and again[0].stop_training
    assert_same_end(first, again)


def test_a_dataset_that_only_keras_reads(tmp_path):
    """By epochs, if it gives the same batches each time; never by steps."""
    x = np.random.default_rng(0).integers(0, 200, (8, 6, 6, 3)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((x, np.arange(8) % 3)).batch(4)
    alone = run(tmp_path / "a", data=data)
    with pytest.raises(Killed):
        run(tmp_path / "b", Kill(1, 1), data=data)
    resumed = run(tmp_path / "b", data=data)
    assert resumed[2].began_at == (1, 0)
    assert_same_end(alone, resumed)
    assert resumed[0].fit(data, shuffle=False, verbose=0).epoch == [
        0
    ]  # the next fit begins at its beginning
    with pytest.raises(ValueError, match=r"arrays, or a dataset of `kerastl.*every=2"):
        run(tmp_path / "c", data=data, every=2)


OTHERS = {
    "model/layers/2/filters|model/variables/": lambda: {"model": wider()},
    "optimizer/inner/inner/learning_rate": lambda: {"model": make_tuner(rate=0.02)},
    "start/rates/0": lambda: {"model": make_tuner(multipliers={"conv": 0.5})},
    "data/contents": lambda: {"data": pictures(shift=1)},
    "data/seed": lambda: {"data": pictures(seed=4)},
    "extra/classes": lambda: {"extra": {"classes": 4}},
}


def wider():
    return make_tuner(units=5)


@pytest.fixture(scope="module")
def one_epoch(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one_epoch")
    run(folder, callbacks.GradualUnfreezing({0: 1, 1: 2}), epochs=1, extra={"classes": 3})
    return folder


@pytest.mark.parametrize("where", OTHERS)
def test_another_training_is_refused(one_epoch, where):
    said = {"extra": {"classes": 3}, **OTHERS[where]()}
    plan = callbacks.GradualUnfreezing({0: 1, 1: 2})
    with pytest.raises(CheckpointError, match=where) as raised:
        run(one_epoch, plan, **said)
    assert "checkpoint.ktl" in str(raised.value) and "another folder" in str(raised.value)


def test_another_plan_is_refused(one_epoch):
    said = {"extra": {"classes": 3}}
    with pytest.raises(CheckpointError, match="plan/GradualUnfreezing/schedule/1"):
        run(one_epoch, callbacks.GradualUnfreezing({0: 1, 2: 2}), **said)
    with pytest.raises(CheckpointError, match=r"callbacks/0.*EarlyStopping"):
        plan = callbacks.GradualUnfreezing({0: 1, 1: 2})
        run(one_epoch, plan, keras.callbacks.EarlyStopping(), **said)
    assert run(one_epoch, callbacks.GradualUnfreezing({0: 1, 1: 2}), epochs=1, **said)


def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_serves(tmp_path):
    alone = run(tmp_path / "a", epochs=2)
    run(tmp_path / "b", epochs=2)
    newest = tmp_path / "b" / "checkpoint.ktl"
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"previous\.ktl, is whole: delete"):
        run(tmp_path / "b", epochs=2)
    newest.unlink()
    resumed = run(tmp_path / "b", epochs=2)
    assert resumed[2].began_at == (1, 0)
    assert_same_end(alone, resumed)


def test_what_it_does_not_take(tmp_path):
    with pytest.raises(ValueError, match="`every`"):
        callbacks.Resume(tmp_path, every=0)
    with pytest.raises(ValueError, match="another BackupAndRestore"):
        run(tmp_path, keras.callbacks.BackupAndRestore(tmp_path / "keras"))
    plain = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    plain.compile("sgd", "mse")
    with pytest.raises(TypeError, match="needs a FineTuner"):
        plain.fit(np.ones((2, 2)), np.ones((2, 1)), callbacks=[callbacks.Resume(tmp_path)])
    model = make_tuner()
    given = keras.callbacks.CallbackList([callbacks.Resume(tmp_path)], model=model)
    with pytest.raises(RuntimeError, match="as a list"):
        model.fit(pictures(), callbacks=given, shuffle=False, verbose=0)
