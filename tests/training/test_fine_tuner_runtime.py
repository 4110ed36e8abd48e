"""FineTuner under the ways Keras runs a step: XLA, several steps at once, several devices."""

import keras
import numpy as np
import pytest

from kerastl.callbacks import Audit, GradualUnfreezing
from kerastl.training import FineTuner
from tests.tolerances import EXACT, REDUCTION
from tests.training.test_fine_tuner import data, small, weights_equal
from tests.two_devices import two_and_one


def gradually(**settings):
    model = FineTuner.from_model(small())
    model.compile(
        keras.optimizers.Adam(0.01),
        "sparse_categorical_crossentropy",
        multipliers={"low": 0.1},
        **settings,
    )
    audit = Audit(steps=2)
    model.fit(
        *data(64), batch_size=8, epochs=3, shuffle=False, verbose=0,
        callbacks=[GradualUnfreezing(), audit],
    )  # fmt: skip
    assert audit.phases_checked == 3
    return model


@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [
        ({"jit_compile": True}, {"rtol": 1e-3, "atol": 1e-4}),  # Adam magnifies fused rounding
        ({"steps_per_execution": 4}, EXACT),
        ({"run_eagerly": True}, {"rtol": 1e-3, "atol": 1e-4}),
    ],
)
def test_thaws_in_every_mode_of_execution(settings, tolerance):
    weights_equal(gradually(**settings), gradually(jit_compile=False), **tolerance)


def test_two_devices_equal_one(tmp_path):
    """MirroredStrategy over two logical CPUs, a thaw in the midst, SGD with multipliers."""
    program = """
        import keras
        from kerastl import FineTuner
        from kerastl.callbacks import GradualUnfreezing

        def train():
            keras.utils.set_random_seed(0)
            inputs = keras.Input((6,))
            x = keras.layers.Dense(8, activation="tanh", name="low")(inputs)
            x = keras.layers.LayerNormalization(name="norm")(x)
            model = FineTuner(inputs, keras.layers.Dense(3, activation="softmax", name="head")(x))
            model.compile(keras.optimizers.SGD(0.1, momentum=0.9),
                          "sparse_categorical_crossentropy", multipliers={"low": 0.1}, norms=True)
            rng = np.random.default_rng(0)
            model.fit(rng.normal(size=(32, 6)), rng.integers(0, 3, 32), batch_size=8, epochs=3,
                      shuffle=False, verbose=0, callbacks=[GradualUnfreezing()])
            return model.get_weights()
        """
    two, one = two_and_one(program, tmp_path)
    for a, b in zip(two, one, strict=True):
        np.testing.assert_allclose(a, b, **REDUCTION)
