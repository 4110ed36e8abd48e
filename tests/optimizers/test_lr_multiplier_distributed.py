"""LRMultiplier on two devices takes the steps that it takes on one, whatever it is wrapped around.

Logical devices must be declared before TensorFlow starts, so one other process runs every case.
"""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import optimizers

from kerastl.optimizers import LRMultiplier
from tests.optimizers.test_lr_multiplier_process import data, run_script
from tests.tolerances import EXACT, REDUCTION

RATES = {"ice": 0, "body": 0.1}


def multiplied(optimizer):
    return LRMultiplier(optimizer, RATES, no_decay=["head/bias"])


def nadam():
    return multiplied(optimizers.Nadam(0.01, weight_decay=0.3))


def muon():
    # Kernels step by Muon, biases by its AdamW, each with a decay of its own.
    return multiplied(optimizers.Muon(0.01, weight_decay=0.3, adam_weight_decay=0.1))


def accumulating():
    return multiplied(optimizers.AdamW(0.01, weight_decay=0.3, gradient_accumulation_steps=4))


def averaging():
    inner = optimizers.Adam(0.01, use_ema=True, ema_momentum=0.7, ema_overwrite_frequency=2)
    return multiplied(inner)


def fused():
    return LRMultiplier(
        optimizers.AdamW(0.01, weight_decay=0.3), RATES, no_decay=["head/bias"], fused=True
    )


def all_of_it():
    inner = optimizers.SGD(
        0.01, momentum=0.9, use_ema=True, ema_momentum=0.7, ema_overwrite_frequency=1,
        gradient_accumulation_steps=2,
    )  # fmt: skip
    return optimizers.LossScaleOptimizer(multiplied(inner), dynamic_growth_steps=2)


# Case -> updates in six batches.
CASES = {nadam: 6, muon: 6, accumulating: 1, averaging: 6, fused: 6, all_of_it: 3}

STOCK = {
    "accumulating": lambda: optimizers.SGD(0.01, gradient_accumulation_steps=2),
    "averaging": lambda: optimizers.SGD(0.01, use_ema=True, ema_overwrite_frequency=2),
}


def trained(scope, make):
    """A model after six batches: a cycle of 4 has ended, and the next is half done."""
    keras.utils.set_random_seed(0)
    with scope:
        x = inputs = keras.Input((6,))
        for name, units in (("ice", 4), ("body", 4), ("head", 2)):
            x = keras.layers.Dense(units, activation="tanh", name=name)(x)
        model = keras.Model(inputs, x)
        model.compile(make(), "mse")
    start = model.get_weights()
    model.fit(*data(), batch_size=8, epochs=3, shuffle=False, verbose=0)
    return start, model


def facts(start, model):
    """What a case leaves behind: the state on the first device, and on the second if there is one.

    Bit-equality of the copies matters when a run is saved: only one of them is written.
    """
    wrapper = model.optimizer
    while not isinstance(wrapper, LRMultiplier):
        wrapper = wrapper.inner_optimizer
    variables = [*model.variables, *model.optimizer.variables]
    strategy = model.distribute_strategy
    copies = [strategy.experimental_local_results(variable.value) for variable in variables]
    return {
        "first": np.concatenate([own[0].numpy().ravel() for own in copies]),
        "last": np.concatenate([own[-1].numpy().ravel() for own in copies]),
        "moved": [not same for same in map(np.array_equal, start, model.get_weights())],
        "clocks": wrapper._steps.clocks.numpy(),
        "multipliers": list(wrapper.multipliers.values()),
    }


def run_all(folder):
    """What the process with two devices does."""
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    for make in CASES:
        np.savez(f"{folder}/{make.__name__}.two.npz", **facts(*trained(strategy.scope(), make)))
        alone = contextlib.nullcontext()
        np.savez(f"{folder}/{make.__name__}.one.npz", **facts(*trained(alone, make)))
    for name, make in STOCK.items():
        try:
            trained(strategy.scope(), make)
        except (RuntimeError, ValueError) as error:
            print(f"Keras refuses {name}: {type(error).__name__}")


PROGRAM = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tests.optimizers.test_lr_multiplier_distributed import run_all
run_all(sys.argv[1])
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("devices")
    return folder, run_script(PROGRAM, folder)


@pytest.mark.slow
@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_two_devices_equal_one(ran, make):
    folder, _ = ran
    two, one = (np.load(folder / f"{make.__name__}.{devices}.npz") for devices in ("two", "one"))
    with two, one:
        np.testing.assert_allclose(two["first"], one["first"], **REDUCTION)
        np.testing.assert_allclose(two["last"], two["first"], **EXACT)
        for found in (two, one):
            updates = CASES[make]
            assert found["clocks"].tolist() == [0, 0] + [updates] * 4
            np.testing.assert_allclose(found["multipliers"], [0, 0, 0.1, 0.1, 1, 1], **EXACT)
            assert found["moved"].tolist() == [False, False] + [True] * 4


@pytest.mark.slow
@pytest.mark.parametrize("name", STOCK)
def test_keras_alone_cannot(ran, name):
    """The trap: if this fails, Keras has mended it, and `_keras/replicas.py` can go."""
    _, printed = ran
    assert f"Keras refuses {name}" in printed
