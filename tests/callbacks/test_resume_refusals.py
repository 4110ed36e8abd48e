"""What `Resume` refuses, and what it says."""

import keras
import numpy as np
import pytest

from kerastl import callbacks
from kerastl.training.checkpoints import CheckpointError
from tests.callbacks.resume_cases import assert_same_end, make_tuner, pictures, run

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
