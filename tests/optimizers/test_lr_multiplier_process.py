"""LRMultiplier across processes: saved and continued, and spread over two devices."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
from keras import optimizers

from kerastl.optimizers import LRMultiplier
from tests.optimizers.lr_multiplier_cases import Groups

ROOT = Path(__file__).parents[2]


def run_script(script, *arguments):
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def data():
    rng = np.random.default_rng(2)
    return rng.normal(size=(16, 6)).astype("float32"), rng.normal(size=(16, 2)).astype("float32")


CONTINUE = """
import sys
import keras, numpy as np
import kerastl.optimizers
from tests.optimizers.test_lr_multiplier_process import data

folder, *names = sys.argv[1:]
for name in names:
    model = keras.models.load_model(f"{folder}/{name}.keras")
    model.fit(*data(), batch_size=8, epochs=2, shuffle=False, verbose=0)
    np.savez(f"{folder}/{name}.npz", *model.get_weights(), *(
        v.numpy() for v in model.optimizer.variables))
"""


def saved_model(inner, path):
    """Train a Sequential model (whose paths change when loaded), save it, train on."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(4, activation="tanh") for _ in range(2)] + [keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((6,)), *layers])
    groups = Groups({"body": layers[0].weights + layers[1].weights, "head": layers[2].weights})
    biases = [layer.bias.path for layer in layers]
    optimizer = LRMultiplier(inner, {"body": 0.1}, groups=groups, no_decay=biases)
    model.compile(optimizer, "mse")
    fit = {"batch_size": 8, "shuffle": False, "verbose": 0}
    model.fit(*data(), epochs=2, **fit)
    optimizer.set_multipliers({"body": 0.3})
    model.save(path)
    model.fit(*data(), epochs=2, **fit)
    return [*model.get_weights(), *(v.numpy() for v in optimizer.variables)]


def test_a_fresh_process_continues_bit_for_bit(tmp_path):
    inners = {
        "adam": optimizers.Adam(0.01),
        "adamw": optimizers.AdamW(optimizers.schedules.CosineDecay(0.01, 8), weight_decay=0.3),
        "momentum": optimizers.SGD(0.01, momentum=0.9, global_clipnorm=0.5),
    }
    wanted = {
        name: saved_model(inner, tmp_path / f"{name}.keras") for name, inner in inners.items()
    }
    run_script(CONTINUE, tmp_path, *inners)
    for name, want in wanted.items():
        with np.load(tmp_path / f"{name}.npz") as got:
            assert len(got.files) == len(want)
            for array, expected in zip(got.values(), want, strict=True):
                np.testing.assert_array_equal(array, expected, err_msg=name)


MIRRORED = """
import contextlib
import keras, numpy as np, tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from kerastl.optimizers import LRMultiplier
from tests import tolerances
from tests.optimizers.test_lr_multiplier_distributed import trained

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2

# No clipping: Keras clips on each device before it sums.
make = lambda: LRMultiplier(
    keras.optimizers.AdamW(0.01, weight_decay=0.3),
    {"ice": 0, "body": 0.1},
    no_decay=["head/bias"],
)
start, two = trained(strategy.scope(), make)
_, one = trained(contextlib.nullcontext(), make)
got = two.get_weights()
for a, b in zip(got, one.get_weights(), strict=True):
    np.testing.assert_allclose(a, b, **tolerances.REDUCTION)
np.testing.assert_array_equal(got[0], start[0])
assert np.abs(got[2] - start[2]).max() > 1e-4
print("equal")
"""


def test_two_mirrored_devices_equal_one():
    assert run_script(MIRRORED).endswith("equal\n")
