"""What `Resume` restores: plans, rates, metrics, states of callbacks, the place in the data."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl import callbacks, schedules
from kerastl.callbacks import resume
from kerastl.plans import EarlyStop, Phase, TransferPlan
from tests.callbacks.resume_cases import (
    Kill,
    Killed,
    Sum,
    Thaw,
    assert_same_end,
    make_tuner,
    pictures,
    run,
)


@pytest.fixture(scope="module")
def thawed_alone(tmp_path_factory):
    own = Sum()
    return *run(tmp_path_factory.mktemp("alone"), Thaw(), own), own.total


@pytest.mark.slow_but("1-kill1-None")
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
    return {} if hasattr(callback, "csv_file") else resume.state_of(callback)


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


@pytest.mark.slow
def test_of_short_epochs_only_some_are_saved_and_the_end_is_the_same(tmp_path, monkeypatch):
    """Of 7 epochs the start, the 3rd, the 6th and the last; stopped in the 5th, it begins at 3."""

    def stop(epoch, logs):
        if epoch == 4:
            raise KeyboardInterrupt

    def trained(folder, *more):
        model, saved = make_tuner(), []
        own = callbacks.Resume(folder, epochs=3)
        save = own._save
        monkeypatch.setattr(own, "_save", lambda *at: saved.append(at) or save(*at))
        others = {"epochs": 7, "shuffle": False, "verbose": 0}
        history = model.fit(pictures(), callbacks=[own, *more], **others)
        return (model, history), own.began_at, saved

    whole, _, saved = trained(tmp_path / "whole")
    assert saved == [(None, 0), (3, 0), (6, 0), (7, 0)]
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "stopped", keras.callbacks.LambdaCallback(on_epoch_begin=stop))
    again, began_at, saved = trained(tmp_path / "stopped")
    assert began_at == (3, 0) and saved == [(6, 0), (7, 0)]
    assert_same_end(again, whole)
