"""What every test shares: quiet TensorFlow, the same seeds, no garbage of other modules."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Of a table of cases those that `slow_but` does not name are slow."""
    tables = {}
    for item in items:
        for mark in item.iter_markers("slow_but"):
            tables.setdefault(item.nodeid.partition("[")[0], (mark.args, []))[1].append(item)
    for name, (kept, cases) in tables.items():
        unknown = {*kept} - {case.callspec.id for case in cases}
        if unknown and not any("::" in asked for asked in config.args):
            raise pytest.UsageError(f"slow_but of {name} names no case: {sorted(unknown)}")
        for case in cases:
            if case.callspec.id not in kept:
                case.add_marker(pytest.mark.slow)


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
