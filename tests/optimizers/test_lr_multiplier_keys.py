"""The keys of LRMultiplier, changing them, and what is refused."""

import re

import keras
import numpy as np
import pytest
from keras import optimizers

from kerastl.optimizers import LRMultiplier
from tests.optimizers.lr_multiplier_cases import Groups, gradients, train, variables

PATHS = ("stem/conv/kernel", "stem/norm/gamma", "head/dense/kernel", "head/dense/bias")


def built(multipliers, **kwargs):
    optimizer = LRMultiplier(optimizers.Adam(0.1), multipliers, **kwargs)
    weights = kwargs["groups"].all() if "groups" in kwargs else variables(*PATHS)
    optimizer.build(weights)
    return list(optimizer.multipliers.values())


class TwoGroups(Groups):
    def __init__(self, weights):
        super().__init__({"stem": weights[:2], "top": weights[2:]})

    def all(self):
        return [*self.groups["stem"], *self.groups["top"]]


@pytest.mark.parametrize(
    ("multipliers", "expected"),
    [
        (None, [1, 1, 1, 1]),
        ({"stem": 0.1}, [0.1, 0.1, 1, 1]),
        ({"head/dense": 2}, [1, 1, 2, 2]),
        ({"head/dense/bias": 0.5}, [1, 1, 1, 0.5]),
        ({".*/kernel": 0.2}, [0.2, 1, 0.2, 1]),
        # The more exact kind wins, whatever the order.
        ({"stem/norm/gamma": 3, "stem": 0.1, ".*": 0.7}, [0.1, 3, 0.7, 0.7]),
        # Two keys that agree are no quarrel.
        ({"stem.*": 0.1, ".*/kernel": 0.1}, [0.1, 0.1, 0.1, 1]),
    ],
    ids=str,
)
def test_keys(multipliers, expected):
    assert built(multipliers) == expected


def test_groups_are_named_first_and_yield_to_all_else():
    groups = TwoGroups(variables(*PATHS))
    keys = {"stem": 0.1, "top": 0.5, ".*/bias": 2, "stem/conv": 0.3}
    assert built(keys, groups=groups) == [0.3, 0.1, 0.5, 2]


def test_a_group_without_slots_may_be_named():
    weights = variables(*PATHS)
    optimizer = LRMultiplier(
        optimizers.Adam(0.1), {"stem": 0.1, "top": 1}, groups=TwoGroups(weights)
    )
    optimizer.build(weights[2:])
    assert optimizer.multipliers == {"head/dense/kernel": 1, "head/dense/bias": 1}


@pytest.mark.parametrize(
    ("multipliers", "message"),
    [
        ({"stam": 0.1}, "Received: 'stam', which matches nothing. Closest: 'stem"),
        ({"conv": 0.1}, "matches nothing"),
        ({"(": 0.1}, "matches nothing"),
        ({"stem.*": 0.1, ".*/kernel": 0.2}, "'stem.*': 0.1 and '.*/kernel': 0.2"),
        ({"stem": -1}, ">= 0"),
        ({"stem": float("nan")}, "finite"),
        ({"stem": float("inf")}, "finite"),
        ({"stem": True}, "finite"),
        ({"stem": "0.1"}, "finite"),
        ({"stem": None}, "finite"),
    ],
    ids=str,
)
def test_bad_keys_and_values(multipliers, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        built(multipliers)


@pytest.mark.parametrize("multipliers", [0.1, [0.1, 1.0], {"a"}], ids=str)
def test_no_dict(multipliers):
    with pytest.raises(TypeError, match="must be a dict"):
        LRMultiplier(optimizers.Adam(0.1), multipliers)


def test_no_decay_wants_paths():
    for wrong in ("a/bias", [variables("a")[0]]):
        with pytest.raises(TypeError, match="sequence of variable paths"):
            LRMultiplier(optimizers.Adam(0.1), no_decay=wrong)


@pytest.mark.parametrize("is_built", [False, True])
def test_groups_are_saved_as_rows_even_where_paths_repeat(is_built):
    # Two towers of the same architecture have the same paths; the order tells them apart.
    paths = ("conv/kernel", "conv/kernel", "head/kernel")
    left, right, head = variables(*paths)
    groups = Groups({"left": [left], "right": [right], "head": [head]})
    keys = {"left": 0.1, "right": 0.2}
    optimizer = LRMultiplier(optimizers.Adam(0.1), keys, groups=groups, no_decay=["head/kernel"])
    if is_built:
        optimizer.build([left, right, head])
    config = optimizer.get_config()
    rows = [[paths[0], 0.1, False], [paths[1], 0.2, False], [paths[2], 1.0, True]]
    assert config["multipliers"] == rows
    # Adam's first step is as long as the rate.
    weights = variables(*paths)
    before = [weight.numpy() for weight in weights]
    after = train(LRMultiplier.from_config(config), weights, gradients(1, 3))
    steps = np.abs(np.subtract(after, before)).mean(axis=(1, 2))
    np.testing.assert_allclose(steps, [0.01, 0.02, 0.1], rtol=1e-4)


def test_saved_rows_go_by_order_and_else_by_path():
    optimizer = LRMultiplier(optimizers.AdamW(0.1), {"net/a/.*": 0.5}, no_decay=["net/a/bias"])
    optimizer.build(variables("net/a/kernel", "net/a/bias", "net/b/kernel"))

    def again(*paths):
        loaded = LRMultiplier.from_config(optimizer.get_config())
        loaded.build(variables(*paths))
        spared = [spared for *_, spared in loaded.get_config()["multipliers"]]
        return list(loaded.multipliers.values()), spared

    # Keras drops the name of a Sequential model when it loads one.
    assert again("a/kernel", "a/bias", "b/kernel") == ([0.5, 0.5, 1], [False, True, False])
    assert again("net/b/kernel", "net/a/bias") == ([1, 0.5], [False, True])
    with pytest.raises(ValueError, match="not among them: c/kernel"):
        again("c/kernel", "net/a/bias")


def test_multipliers_change_in_the_midst_of_training():
    weights, grads = variables("a/kernel", "b/kernel"), np.ones((1, 2, 4, 3), "float32")
    optimizer = LRMultiplier(optimizers.SGD(1.0), {"a": 0.5})
    before = [w.numpy() for w in weights]
    after = train(optimizer, weights, grads)
    np.testing.assert_allclose(np.subtract(before, after)[:, 0, 0], [0.5, 1.0], rtol=1e-6)
    optimizer.set_multipliers({"b": 0.25})
    assert optimizer.multipliers == {"a/kernel": 1.0, "b/kernel": 0.25}
    again = train(optimizer, weights, grads)
    np.testing.assert_allclose(np.subtract(after, again)[:, 0, 0], [1.0, 0.25], rtol=1e-6)
    with pytest.raises(ValueError, match="matches nothing"):
        optimizer.set_multipliers({"c": 1})
    assert optimizer.multipliers == {"a/kernel": 1.0, "b/kernel": 0.25}
    optimizer.set_multipliers({"a": 0})  # nothing was traced
    np.testing.assert_array_equal(train(optimizer, weights, grads)[0], again[0])


class ThirdParty(optimizers.SGD):
    """An optimizer of one's own that overrides only the step: this is welcome."""

    def update_step(self, gradient, variable, learning_rate):
        self.assign_sub(variable, keras.ops.sign(gradient) * learning_rate)


class Lookahead(optimizers.SGD):
    def apply(self, grads, trainable_variables=None):
        super().apply(grads, trainable_variables)


def test_an_optimizer_of_ones_own():
    weights, grads = variables("a"), gradients(1, 1)
    before = weights[0].numpy()
    (after,) = train(LRMultiplier(ThirdParty(1.0), {"model/a": 0.5}), weights, grads)
    np.testing.assert_allclose(before - after, 0.5 * np.sign(grads[0, 0]), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optimizers.Ftrl(0.1), "cannot wrap Ftrl.*Use Adagrad"),
        (lambda: optimizers.ScheduleFreeAdamW(0.1), "cannot wrap ScheduleFreeAdamW.*Use AdamW"),
        (
            lambda: optimizers.MultiOptimizer(lambda v: optimizers.Adam(0.1)),
            "cannot wrap MultiOptimizer",
        ),
        (lambda: optimizers.LossScaleOptimizer(optimizers.Adam(0.1)), "the other way round"),
        (lambda: LRMultiplier(optimizers.Adam(0.1)), "cannot wrap LRMultiplier.*set_multipliers"),
        (lambda: Lookahead(0.1), "cannot wrap Lookahead: it replaces apply"),
    ],
)
def test_refused_optimizers(make, message):
    with pytest.raises(ValueError, match=message):
        LRMultiplier(make())


def test_refused_states():
    with pytest.raises(TypeError, match="Received: optimizer='adam'"):
        LRMultiplier("adam")
    inner = optimizers.Adam(0.1)
    LRMultiplier(inner).build(variables("a"))
    with pytest.raises(ValueError, match="already wrapped"):
        LRMultiplier(inner)
    plain = optimizers.Adam(0.1)
    plain.build(variables("a"))
    with pytest.raises(ValueError, match="already built"):
        LRMultiplier(plain)


def test_a_step_says_what_is_wrong():
    optimizer = LRMultiplier(optimizers.Adam(0.1))
    with pytest.raises(RuntimeError, match="no slots yet"):
        optimizer.apply([np.ones((4, 3))])
    a, b = variables("a", "b")
    optimizer.build([a])
    with pytest.raises(ValueError, match="2 gradients for 1 variables"):
        optimizer.apply([np.ones((4, 3))] * 2)
    with pytest.raises(ValueError, match=r"model/b\. Call `extend"):
        optimizer.apply([np.ones((4, 3))], [b])
