"""Freezing acts at any depth, says what changed, and is refused where it could not act."""

import keras
import numpy as np
import pytest

from kerastl.freezing import (
    freeze,
    freeze_batch_norm,
    freeze_to,
    freezing_state,
    restore_freezing,
    unfreeze,
)
from kerastl.graph import flat_layers, layer_groups
from kerastl.graph.flags import is_frozen
from kerastl.training import FineTuner


def nested_model():
    """Input, a nested body of two Dense and a BatchNormalization, and a Dense head."""
    body = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3, name="low"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dense(3, name="high"),
            keras.layers.Dropout(0.5, name="drop"),
        ],
        name="body",
    )
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(2, name="head")(body(inputs)))


def trainable(model):
    """Layer and name of what trains; Keras puts the nested model before them in the path."""
    return ["/".join(v.path.split("/")[-2:]) for v in model.trainable_variables]


def test_stock_keras_ignores_trainable_true_when_it_is_true_already():
    """The trap this module exists for; if it fails, Keras has mended it."""
    model = nested_model()
    for layer in model.get_layer("body").layers:
        layer.trainable = False
    model.trainable = True
    assert trainable(model) == ["head/kernel", "head/bias"]


def test_unfreeze_reaches_layers_frozen_one_by_one():
    model = nested_model()
    for layer in model.get_layer("body").layers:
        layer.trainable = False
    change = unfreeze(model, "low")
    assert trainable(model)[:2] == ["low/kernel", "low/bias"]
    assert (change.before, change.after) == (8, 8 + 15)  # by hand: 3*2+2, and 4*3+3 more


def test_unfreeze_changes_only_what_was_asked_for():
    """Below a frozen parent Keras trains a layer that was thawed later, and so does kerastl."""
    model = nested_model()
    model.get_layer("body").trainable = False
    model.get_layer("body").get_layer("high").trainable = True
    assert trainable(model) == ["high/kernel", "high/bias", "head/kernel", "head/bias"]
    unfreeze(model, "low")
    assert trainable(model)[:2] == ["low/kernel", "low/bias"]
    assert trainable(model)[2:] == ["high/kernel", "high/bias", "head/kernel", "head/bias"]


def test_freeze_by_index_counts_the_inlined_layers():
    model = nested_model()
    names = [layer.name for layer in flat_layers(model)]
    freeze(model, slice(0, names.index("high")))
    assert trainable(model) == ["high/kernel", "high/bias", "head/kernel", "head/bias"]
    freeze(model, -1)
    assert trainable(model) == ["high/kernel", "high/bias"]


@pytest.mark.parametrize("where", ["low", "lo.", ["low"]])
def test_freeze_by_path_regex_and_list(where):
    model = nested_model()
    freeze(model, where)
    assert "low/kernel" not in trainable(model)
    assert "high/kernel" in trainable(model)


def test_freeze_and_unfreeze_are_inverse():
    model = nested_model()
    before = trainable(model)
    freeze(model, slice(None))
    assert trainable(model) == []
    unfreeze(model, slice(None), batch_norm="train")
    assert trainable(model) == before


def test_a_pattern_that_matches_nothing_names_the_nearest():
    with pytest.raises(ValueError, match=r"'hihg'.*Closest: 'high'"):
        freeze(nested_model(), "hihg")


def test_freeze_to_from_either_end():
    model = FineTuner.from_model(keras.applications.MobileNet(
        input_shape=(32, 32, 3), alpha=0.25, weights=None, classes=2))  # fmt: skip
    size = len(model.groups)
    for n in (3, 3 - size):
        freeze_to(model, n)
        training = {model.groups.group_of(v) for v in model.trainable_variables}
        assert training == set(model.groups.names[3:])
    with pytest.raises(ValueError, match=rf"\[-{size}, {size}\].*stem, block_1"):
        freeze_to(model, size + 1)


def test_freezing_a_compiled_model_acts_in_the_next_step():
    model = nested_model()
    model.compile("sgd", "mse")
    x, y = np.ones((4, 4), "float32"), np.ones((4, 2), "float32")
    model.fit(x, y, verbose=0)
    freeze(model, "high")
    before = model.get_layer("body").get_layer("high").get_weights()
    model.fit(x, y, verbose=0)
    after = model.get_layer("body").get_layer("high").get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_thaw_that_the_stock_optimizer_would_refuse_is_refused_at_the_door():
    model = nested_model()
    freeze(model, "low")
    model.compile("adam", "mse")
    model.fit(np.ones((4, 4)), np.ones((4, 2)), verbose=0)
    with pytest.raises(RuntimeError, match=r"without 2 of the weights.*low/kernel"):
        unfreeze(model, "low")
    assert "low/kernel" not in trainable(model)


@pytest.mark.parametrize(
    ("affine", "statistics", "gamma_moves", "mean_moves"),
    [(True, True, False, False), (True, False, False, True), (False, True, True, False)],
)
def test_batch_norm_affine_and_statistics_are_separate(affine, statistics, gamma_moves, mean_moves):
    model = FineTuner.from_model(nested_model())
    freeze_batch_norm(model, affine=affine, statistics=statistics)
    norm = model.get_layer("norm")
    gamma, mean = norm.gamma.numpy(), norm.moving_mean.numpy()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    rng = np.random.default_rng(0)
    model.fit(rng.normal(2, 1, (16, 4)), rng.normal(size=(16, 2)), verbose=0)
    assert (not np.array_equal(gamma, norm.gamma.numpy())) == gamma_moves
    assert (not np.array_equal(mean, norm.moving_mean.numpy())) == mean_moves


def test_fixed_statistics_are_refused_where_keras_cannot_hold_them():
    with pytest.raises(ValueError, match=r"FineTuner.from_model"):
        freeze_batch_norm(nested_model(), affine=False, statistics=True)
    with pytest.raises(ValueError, match=r"FineTuner.from_model"):
        unfreeze(nested_model(), "norm", batch_norm="inference")


def test_thawed_batch_norm_stays_in_inference_mode_by_default():
    model = FineTuner.from_model(nested_model())
    freeze(model, slice(None))
    unfreeze(model, slice(None))
    norm = model.get_layer("norm")
    x = np.random.default_rng(0).normal(3, 2, (8, 4)).astype("float32")
    np.testing.assert_array_equal(norm.moving_mean.numpy(), np.zeros(3))
    model.get_layer("drop").trainable = False
    np.testing.assert_array_equal(model(x, training=True), model(x, training=False))


def test_random_augmentation_is_never_frozen():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.RandomFlip(name="flip")(inputs)
    x = keras.layers.Conv2D(2, 3, name="conv")(x)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    freeze(model, slice(None))
    assert model.get_layer("flip").trainable
    assert is_frozen(model.get_layer("conv"))


def test_state_round_trip():
    model = FineTuner.from_model(nested_model())
    freeze(model, ["low", "drop"])
    freeze_batch_norm(model, affine=True, statistics=False)
    state = freezing_state(model)
    other = FineTuner.from_model(nested_model())
    restore_freezing(other, state)
    assert freezing_state(other) == state
    assert trainable(other) == trainable(model)


def test_groups_of_a_generic_model_end_in_the_head():
    assert layer_groups(nested_model()).names[-1] == "head"
