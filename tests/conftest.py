"""What every test shares: quiet TensorFlow and the same seeds."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same seeds, whatever ran before it."""
    keras.utils.set_random_seed(0)
