"""A checkpoint is read as it was written, or refused by a message that says what to do."""

import json
import os
import random

import keras
import ml_dtypes
import numpy as np
import pytest

from kerastl import schedules
from kerastl.continual import L2SP
from kerastl.freezing import freeze_to, unfreeze
from kerastl.training import FineTuner, checkpoints
from kerastl.training.checkpoints import CheckpointError, CheckpointFolder
from kerastl.training.fit_state import EpochRead

ARRAYS = {
    "float": np.array([0.1, np.nan, -np.inf], "float32"),
    "half": np.array([[1.5, -2.0]], ml_dtypes.bfloat16),
    "matrix": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "scalar": np.array(7, "int64"),
    "empty": np.zeros((0, 3), bool),
}
STATE = {
    **ARRAYS,
    "nested": [{"best": 0.1 + 0.2, "wait": 3, "none": None, "on": True}, "ä", [], {}],
    "numpy": [np.float32(0.1), np.float64(0.1), np.int64(3)],
    "infinite": [float("inf"), 5e-324],
}


def test_round_trip_is_exact(tmp_path):
    checkpoints.write(tmp_path / "a.ktl", STATE)
    back = checkpoints.read(tmp_path / "a.ktl")
    for name, array in ARRAYS.items():
        assert back[name].dtype == array.dtype and back[name].shape == array.shape
        assert back[name].tobytes() == array.tobytes()
    assert back["nested"] == STATE["nested"] and back["infinite"] == STATE["infinite"]
    assert back["numpy"] == STATE["numpy"] and type(back["numpy"][0]) is np.float32
    assert list(back) == list(STATE)


@pytest.mark.parametrize("wrong", [{3: 1}, {"a": {1, 2}}, [object()], np.array([None])])
def test_nothing_is_pickled(tmp_path, wrong):
    with pytest.raises(TypeError, match="Received"):
        checkpoints.write(tmp_path / "a.ktl", wrong)


def small(path):
    checkpoints.write(path, {"epoch": 1, "weights": np.arange(3)})
    return path.read_bytes()


def test_a_file_cut_short_anywhere_is_refused(tmp_path):
    path = tmp_path / "a.ktl"
    whole = small(path)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"a\.ktl is damaged"):
            checkpoints.read(path)


def test_a_byte_flipped_anywhere_is_refused(tmp_path):
    path = tmp_path / "a.ktl"
    whole = small(path)
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CheckpointError, match=r"a\.ktl is"):
            checkpoints.read(path)
    path.write_bytes(whole + b"x")
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoints.read(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "a.ktl"
    path.write_bytes(b"PK\x03\x04 a model of Keras, say")
    with pytest.raises(CheckpointError, match="not a checkpoint of kerastl"):
        checkpoints.read(path)
    path.write_bytes(small(path).replace(b"checkpoint 3", b"checkpoint 4", 1))
    with pytest.raises(CheckpointError, match="format 4, and this kerastl reads format 3"):
        checkpoints.read(path)


def test_a_damaged_checkpoint_tells_of_the_one_before_it(tmp_path):
    folder = CheckpointFolder(tmp_path / "run")
    for epoch in range(3):
        folder.save({"epoch": epoch})
    folder.newest.write_bytes(folder.newest.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"checkpoint\.previous\.ktl, is whole: delete"):
        folder.load()
    folder.previous.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"is no better\. Delete"):
        folder.load()
    folder.previous.unlink()
    with pytest.raises(CheckpointError, match=r"No other is there\. Delete .*checkpoint\.ktl"):
        folder.load()


@pytest.mark.parametrize("call", ["open", "fsync", "first replace", "second replace"])
def test_one_is_whole_at_any_instant_of_a_save(tmp_path, monkeypatch, call):
    """Whatever the last thing was that the process did."""
    folder = CheckpointFolder(tmp_path)
    folder.save({"epoch": 0})
    folder.save({"epoch": 1})
    calls = []

    def stopping(name, original):
        def stop(*args, **kwargs):
            calls.append(name)
            ordinal = ["first", "second"][calls.count(name) - 1] + " " if name == "replace" else ""
            if ordinal + name == call:
                raise KeyboardInterrupt
            return original(*args, **kwargs)

        return stop

    if call == "open":
        (tmp_path / "checkpoint.partial").write_bytes(b"kerastl check")
    else:
        for name in ("fsync", "replace"):
            monkeypatch.setattr(os, name, stopping(name, getattr(os, name)))
        with pytest.raises(KeyboardInterrupt):
            folder.save({"epoch": 2})
    monkeypatch.undo()
    assert folder.load() == {"epoch": 1}
    folder.save({"epoch": 3})
    assert folder.load() == {"epoch": 3}


def make_tuner(**compile_args):
    inputs = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, 3, name="stem")(inputs)
    x = keras.layers.BatchNormalization(name="stem_bn")(x)
    x = keras.layers.Conv2D(4, 3, name="block_1_conv")(x)
    x = keras.layers.Dropout(0.5)(keras.layers.GlobalAveragePooling2D()(x))
    model = FineTuner(inputs, keras.layers.Dense(3, name="head")(x))
    model.compile(keras.optimizers.AdamW(0.01), "mse", **compile_args)
    return model


def trained(model):
    data = np.random.default_rng(0).normal(size=(8, 6, 6, 3)), np.zeros((8, 3))
    model.fit(*data, batch_size=4, shuffle=False, verbose=0)
    return model


def plain(state):
    """`state` as text in which every bit shows; but not the seconds, which pass."""
    if isinstance(state, dict) and "fit" in state:
        state = {**state, "fit": {**state["fit"], "seconds": None}}
    return json.dumps(state, default=lambda array: [str(array.dtype), array.tolist()])


def test_restoring_brings_back_all_that_may_change():
    keras.random.uniform(())  # Keras's global generator is there from its first use on
    model = make_tuner(multipliers={"stem": 0.5}, terms=[L2SP()])
    freeze_to(model, -1)
    trained(model)
    unfreeze(model, "stem_bn")
    trained(model)
    before = checkpoints.capture(model)
    assert before["slots"] == [8, 9, 2, 3]  # the head's came first

    unfreeze(model, ["stem", "block_1_conv"], batch_norm="train")
    model.set_multipliers({"head": 0.1})
    model.lr_multiplier.inner_optimizer.weight_decay = 0.5
    shape = schedules.WarmupLinear()
    model.lr_multiplier.set_schedule(shape, num_steps=9, retraced=True)
    model.make_train_function(force=True)
    trained(model)
    random.random(), np.random.random(), keras.random.uniform(())
    model.fit_state.passes_done = 5
    model.fit_state.latest_read = EpochRead([0, 1], ["training"], [{"epoch": 0, "cached": True}])
    other = checkpoints.capture(model)
    assert all(plain(before[part]) != plain(other[part]) for part in before)

    fresh = make_tuner(multipliers={"stem": 0.5}, terms=[L2SP()])
    freeze_to(fresh, -1)
    for state in (before, other):  # forwards in the life of one model
        checkpoints.restore(fresh, state)
        assert plain(checkpoints.capture(fresh)) == plain(state)
    assert [v.path for v in fresh.trainable_variables] == [
        v.path for v in model.trainable_variables
    ]
    trained(fresh), trained(model)
    for a, b in zip(fresh.variables, model.variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_restoring_freezes_again_what_has_slots():
    model = make_tuner()
    trained(model)
    freeze_to(model, -2)
    before = checkpoints.capture(model)
    unfreeze(model, slice(None), batch_norm="train")
    checkpoints.restore(model, before)
    assert plain(checkpoints.capture(model)) == plain(before)


def test_slots_in_another_order_are_refused():
    model = make_tuner()
    state = checkpoints.capture(trained(model))
    state["slots"] = state["slots"][::-1]
    with pytest.raises(CheckpointError, match="slots for the same weights in the same order"):
        checkpoints.restore(model, state)


def test_metrics_by_name():
    model = trained(make_tuner(metrics=["mae"], norms=True))
    state = checkpoints.capture_metrics(model)
    model.reset_metrics()
    assert plain(checkpoints.capture_metrics(model)) != plain(state)
    checkpoints.restore_metrics(model, state[::-1])
    assert plain(checkpoints.capture_metrics(model)) == plain(state)
    with pytest.raises(CheckpointError, match="compiled with the metrics of the checkpoint"):
        checkpoints.restore_metrics(trained(make_tuner()), state)
