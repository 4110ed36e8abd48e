"""Stored features: the batches of a pass, dropped and moved in time, used or not and why."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl._base import files
from kerastl.data.passes import ArrayPasses
from kerastl.freezing import freeze, freeze_to, unfreeze
from kerastl.training import FineTuner
from kerastl.training.frozen import Decision, FeatureCache
from kerastl.training.frozen.cache import decide
from tests.tolerances import EXACT, REDUCTION
from tests.training.frozen_features_cases import Counted, Noisy, cached, check, data, deep


@pytest.mark.parametrize("seed", [5, None], ids=["shuffled", "in order"])
def test_a_pass_over_features_is_the_pass_over_the_data(seed):
    model, passes, calls = deep(), data(seed=seed), []
    freeze_to(model, -1)
    cache = FeatureCache(model, "auto", progress=lambda *call: calls.append(call))
    cache.update()
    decision = cache.decide(passes, epochs_left=2)
    assert decision == Decision(True, "3 of 4 layers are computed once, 0 MiB in memory")
    for number in (0, 3):
        check(cache, passes, number, **REDUCTION)
    assert calls == [(4, 11), (8, 11), (11, 11)]  # once for both passes


def test_several_inputs_in_a_dict():
    inputs = {"p": keras.Input((2,), name="p"), "q": keras.Input((3,), name="q")}
    low = keras.layers.Dense(4, name="low")(keras.layers.Concatenate()(list(inputs.values())))
    model = FineTuner(inputs, {"out": keras.layers.Dense(1)(low) + inputs["p"]})
    freeze(model, "low")
    rng = np.random.default_rng(0)
    x = {"p": rng.normal(size=(5, 2)), "q": rng.normal(size=(5, 3))}
    passes = ArrayPasses(x, batch_size=2, seed=1)
    cache = cached(model, passes)
    assert [tuple(t.shape) for t in cache.frontier.tensors] == [(None, 4), (None, 2)]
    for (features,), (batch,) in zip(cache.epoch(passes, 2), passes.epoch(2), strict=True):
        rest, whole = cache.frontier.upper(features), model(batch)
        np.testing.assert_allclose(rest["out"], whole["out"], **REDUCTION)


def test_augmented_copies_are_seen_in_turn():
    """Pass n reads view n % k, the same each time, in the rows and targets of pass n."""
    model, passes = deep(), data(kind=Noisy)
    freeze_to(model, -1)
    calls = []
    cache = cached(model, passes, augmented_copies=2, progress=lambda *call: calls.append(call))

    def by_row(number):
        found = {}
        for features, y, _ in cache.epoch(passes, number):
            found.update(zip(y.numpy().tolist(), features.tensors[0].numpy(), strict=True))
        return np.stack([found[row] for row in range(11)])

    first, second, third = by_row(0), by_row(1), by_row(2)
    np.testing.assert_allclose(first, third, **EXACT)
    assert not np.allclose(first, second)
    assert passes.read == {0, 1} and len(calls) == 2 * 3
    view = [cache.frontier.lower(x, training=False) for x in ArrayPasses.view(passes, 1)]
    np.testing.assert_allclose(second, np.concatenate(view), **REDUCTION)


def test_a_changed_weight_below_drops_the_features():
    model, passes = deep(), data()
    freeze_to(model, -1)
    cache = cached(model, passes)
    check(cache, passes, 0, **REDUCTION)
    assert not cache.update()
    model.get_layer("b").bias.assign(model.get_layer("b").bias + 1)
    assert not cache.update()  # the cut is the same, `upper` may stay traced
    check(cache, passes, 0, **REDUCTION)


def test_a_thaw_moves_the_frontier_down_and_computes_anew():
    model, passes, calls = deep(), data(), []
    freeze_to(model, -1)
    cache = cached(model, passes, progress=lambda *call: calls.append(call))
    check(cache, passes, 0, **REDUCTION)
    unfreeze(model, "b")
    assert cache.update() and cache.frontier.tensors == [model.get_layer("a").output]
    cache.decide(passes, epochs_left=9)
    check(cache, passes, 1, **REDUCTION)
    assert len(calls) == 2 * 3


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_frontier_that_moves_up_reads_no_inputs(dtype):
    """But from half precision it starts again, so that rounding does not add up."""
    model, passes = deep(), data(kind=Counted)
    freeze(model, "a")
    cache = cached(model, passes, dtype=dtype)
    check(cache, passes, 0, rtol=1e-3, atol=1e-6)
    model.get_layer("c").kernel.assign(model.get_layer("c").kernel * 2)  # it has trained
    freeze(model, ["b", "c"])
    assert cache.update() and cache.frontier.tensors == [model.get_layer("c").output]
    passes.closed = True
    if dtype == "float32":
        cache.epoch(passes, 1)
    else:
        with pytest.raises(tf.errors.OpError, match="AssertionError"):
            cache.epoch(passes, 1)
    passes.closed = False
    check(cache, passes, 1, rtol=1e-3, atol=1e-6)
    assert passes.read and cache._of(passes).held == 11 * 6 * (4 if dtype == "float32" else 2)


class Unrepeatable(Noisy):
    random = "augmentation that mixes pictures and their labels"
    changes_targets = True


OBSTACLES = [
    ({}, lambda: None, "cannot be read again row by row: give arrays"),
    ({}, lambda: data(kind=Noisy), "augmentation is random: pass augmented_copies=k"),
    ({"augmented_copies": 2}, lambda: data(kind=Unrepeatable), "changes the targets as well"),
    ({}, lambda: ArrayPasses(np.array(["a", "b"])), "its inputs are not plain numbers"),
    ({"cache_dir": "."}, lambda: None, "cannot be read again"),
]


@pytest.mark.parametrize(("settings", "passes", "reason"), OBSTACLES)
def test_obstacles_are_told_and_refused_on_demand(settings, passes, reason):
    model, passes = deep(), passes()
    freeze_to(model, -1)
    cache = FeatureCache(model, "auto", **settings)
    cache.update()
    decision = cache.decide(passes, epochs_left=9)
    assert not decision.use and reason in decision.reason
    cache = FeatureCache(model, True, **settings)
    cache.update()
    with pytest.raises(ValueError, match=r"`cache_frozen=True` needs .* but .*" + reason):
        cache.decide(passes, epochs_left=9)
    assert cache.decide(passes, epochs_left=9, optional=True) == decision


def test_too_much_for_memory_asks_for_a_folder(monkeypatch, tmp_path):
    model, passes = deep(), data()
    freeze_to(model, -1)
    cache = FeatureCache(model, "auto")
    cache.update()
    asked = []
    monkeypatch.setattr(files, "fits_in_memory", lambda n: asked.append(n) or n <= 11 * 6 * 4)
    assert cache.decide(passes, epochs_left=9).use
    cache.epoch(passes, 0)
    validation = data(seed=None)
    why = cache.decide(validation, epochs_left=9)
    assert not why.use and re.search(r"would need .* of memory.*: give cache_dir", why.reason)
    assert asked == [11 * 6 * 4, 2 * 11 * 6 * 4]
    on_disk = FeatureCache(model, "auto", cache_dir=tmp_path / "new" / "folder")
    on_disk.update()
    assert on_disk.decide(passes, epochs_left=9).use and len(asked) == 2
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("", (), {"free": 3}))
    assert "whose disk has 0 MiB free" in on_disk.decide(data(n=12), epochs_left=9).reason


def test_few_epochs_are_left_alone_by_auto_only():
    model, passes, noisy = deep(), data(kind=Counted), data(kind=Noisy)
    freeze_to(model, -1)
    cache = FeatureCache(model, "auto", augmented_copies=3)
    cache.update()
    assert cache.decide(passes, epochs_left=1) == Decision(False, "only one epoch left")
    assert cache.decide(noisy, epochs_left=3).reason == "only 3 epochs left for 3 augmented copies"
    assert passes.read == noisy.read == set() and cache.decide(noisy, epochs_left=4).use
    assert cached(model, passes, epochs_left=1).decide(passes, epochs_left=1).use


def test_choices():
    model = deep()
    off = FeatureCache(model, False)
    assert not off.update() and off.frontier is None
    assert off.decide(None, epochs_left=9) == Decision(False, "cache_frozen=False")
    for settings, message in [
        ({"cache_frozen": "always"}, "`cache_frozen` must be one of auto, True, False"),
        ({"dtype": "int8"}, "`dtype` must be one of float32, float16"),
        ({"augmented_copies": 0}, "`augmented_copies` must be an int in"),
    ]:
        with pytest.raises(ValueError, match=message):
            FeatureCache(model, **settings)
    with pytest.raises(ValueError, match="`cache_frozen` must be one of"):
        decide("yes", None, epochs_left=2)
