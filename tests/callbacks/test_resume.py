"""A run that was killed ends as the run that was left alone, bit for bit."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from tests.callbacks.resume_zygote import EPOCHS, THAWS

ROOT = pathlib.Path(__file__).parents[2]


class Zygote:
    """The process that forks a child for each attempt at the training."""

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.callbacks.resume_zygote"],
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


@pytest.mark.slow
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


@pytest.mark.slow_but("fsync-counts0")
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
