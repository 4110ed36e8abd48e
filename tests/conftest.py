"""What every test shares: doctest names, quiet TensorFlow, the folder of local data."""

import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest

DATA = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same seeds, whatever ran before it."""
    keras.utils.set_random_seed(0)


@pytest.fixture
def digits():
    """A few small pictures and labels: float32 `(12, 32, 32, 3)` in [0, 255], three classes."""
    rng = np.random.default_rng(0)
    return rng.uniform(0, 255, (12, 32, 32, 3)).astype("float32"), np.arange(12) % 3


def local_data(name):
    """The folder or file `name` of the local data, or a skip where it is absent."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"needs the local data {name}")
    return path
