"""What every test shares: quiet TensorFlow, the same seeds, no garbage of other modules."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same seeds, whatever ran before it."""
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True, scope="module")
def collected():
    """Garbage goes when its module is done, and what outlives it is not searched for any again.

    Otherwise each full collection walks all graphs that TensorFlow ever kept, seconds at a time.
    """
    yield
    gc.collect()
    gc.freeze()
