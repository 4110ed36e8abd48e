"""What Keras's optimizers can be asked, told and saved by, LRMultiplier can."""

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf
from keras import optimizers

from kerastl.optimizers import LRMultiplier
from kerastl.training import FineTuner
from tests import tolerances
from tests.optimizers.lr_multiplier_cases import gradients, state, train, variables
from tests.optimizers.test_lr_multiplier_fit import fit, make_model

WRAPPERS = {"plain": lambda optimizer: optimizer, "LRMultiplier": LRMultiplier}
SETTINGS = {
    "weight_decay": 0.3,
    "clipnorm": 0.1,
    "global_clipnorm": 0.1,
    "clipvalue": 0.05,
    "use_ema": True,
    "ema_momentum": 0.5,
    "ema_overwrite_frequency": 2,
    "loss_scale_factor": 4.0,
    "gradient_accumulation_steps": 2,
    "learning_rate": 0.5,
    "beta_1": 0.5,
    "epsilon": 0.1,
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_read_and_set_as_on_the_optimizer_itself(name):
    """Also after the constructor, as `optimizer.clipnorm = 1.0` does."""
    needed = {"use_ema": True} if name.startswith("ema") else {}
    results = []
    for wrap in WRAPPERS.values():
        optimizer = wrap(optimizers.Adam(0.1, **needed))
        setattr(optimizer, name, SETTINGS[name])
        assert float(getattr(optimizer, name)) == pytest.approx(float(SETTINGS[name]))
        results.append(train(optimizer, variables("a/kernel", "b/bias"), gradients(4, 2)))
    np.testing.assert_array_equal(*results)
    assert getattr(optimizer, name) is getattr(optimizer.inner_optimizer, name)
    unset = train(optimizers.Adam(0.1, **needed), variables("a/kernel", "b/bias"), gradients(4, 2))
    makes_no_difference = name in ("use_ema", "ema_momentum")  # before the end of a training
    assert np.array_equal(results[0], unset) == makes_no_difference
    saved = LRMultiplier.from_config(optimizer.get_config())
    assert float(getattr(saved, name)) == pytest.approx(float(SETTINGS[name]))


@pytest.mark.parametrize("name", ["use_ema", "gradient_accumulation_steps"])
def test_a_setting_that_needs_slots_is_refused_once_these_are_made(name):
    optimizer = LRMultiplier(optimizers.SGD(0.1))
    optimizer.build(variables("a/kernel"))
    setattr(optimizer, name, getattr(optimizer, name))  # no change
    with pytest.raises(RuntimeError, match=f"`{name}` decides which slots .* compile with a new"):
        setattr(optimizer, name, 2)


def test_slots_and_what_an_optimizer_has_of_its_own_are_shown_and_nothing_else():
    optimizer = LRMultiplier(optimizers.SGD(0.1, momentum=0.9, nesterov=True))
    optimizer.build(variables("a/kernel"))
    assert optimizer.momentums is optimizer.inner_optimizer.momentums
    assert optimizer.nesterov is True and optimizer.momentum == 0.9
    with pytest.raises(AttributeError, match="no attribute 'beta_1'"):
        LRMultiplier(optimizers.SGD(0.1)).beta_1  # noqa: B018
    optimizer.note = "mine"
    assert optimizer.note == "mine" and not hasattr(optimizer.inner_optimizer, "note")


@pytest.mark.parametrize("by", ["var_names", "var_list"])
def test_exclusions_from_weight_decay_are_those_of_the_optimizer(by):
    results = []
    for wrap in WRAPPERS.values():
        weights = variables("a/kernel", "b/bias")
        optimizer = wrap(optimizers.AdamW(0.1, weight_decay=0.5))
        said = {"var_names": ["bias"], "var_list": weights[1:]}
        optimizer.exclude_from_weight_decay(**{by: said[by]})
        results.append(train(optimizer, weights, gradients(3, 2)))
    np.testing.assert_allclose(*results, **tolerances.ELEMENTWISE)
    everything = train(
        optimizers.AdamW(0.1, weight_decay=0.5), variables("a/kernel", "b/bias"), gradients(3, 2)
    )
    assert np.abs(everything[1] - results[0][1]).max() > 0.01


@pytest.mark.parametrize("loss_scale", [False, True])
def test_averages_change_places_with_weights_for_an_evaluation(loss_scale):
    """`SwapEMAWeights` looks inside one wrapper, and a loss scale is one."""
    losses = []
    for wrap in WRAPPERS.values():
        optimizer = wrap(optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5))
        if loss_scale:
            optimizer = optimizers.LossScaleOptimizer(optimizer)
        model = make_model(optimizer)
        x, y = np.random.default_rng(1).normal(size=(2, 8, 6)).astype("float32")
        swap = keras.callbacks.SwapEMAWeights()
        history = model.fit(x, y[:, :2], 4, 3, 0, [swap], validation_data=(x, y[:, :2]))
        losses.append(history.history["val_loss"])
    np.testing.assert_allclose(*losses, **tolerances.REDUCTION)


@pytest.mark.parametrize("cls", [keras.Model, FineTuner])
@pytest.mark.parametrize("built", [True, False])
def test_a_checkpoint_of_tensorflow_holds_the_state(cls, built, tmp_path):
    def make():
        keras.utils.set_random_seed(0)
        inputs = keras.Input((6,))
        body = keras.layers.Dense(5, name="body")(inputs)
        model = cls(inputs, keras.layers.Dense(2, name="head")(body))
        model.compile(LRMultiplier(optimizers.Adam(0.01), {"body": 0.5}), "mse")
        return model

    x, y = np.random.default_rng(1).normal(size=(2, 8, 6)).astype("float32")
    model, other = make(), make()
    model.fit(x, y[:, :2], verbose=0)
    path = tf.train.Checkpoint(model=model).save(str(tmp_path / "state"))
    wanted = [model.get_weights(), state(model.optimizer)]
    if built:
        other.optimizer.build(other.trainable_variables)
    tf.train.Checkpoint(model=other).restore(path)
    other.optimizer.build(other.trainable_variables)
    for got, want in zip([other.get_weights(), state(other.optimizer)], wanted, strict=True):
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "settings", [{"weight_decay": 0.1, "global_clipnorm": 0.5}, {"use_ema": True}]
)
def test_variables_of_tensorflow_step_as_with_the_optimizer_itself(settings):
    results = []
    for wrap in WRAPPERS.values():
        values = [v.numpy() for v in variables("a/kernel", "b/bias")]
        weights = [tf.Variable(v, name=n) for v, n in zip(values, ("kernel", "bias"), strict=True)]
        optimizer = wrap(optimizers.Adam(0.1, **settings))
        results.append(train(optimizer, weights, gradients(3, 2)))
        optimizer.finalize_variable_values(weights)
    np.testing.assert_allclose(*results, **tolerances.ELEMENTWISE)
    assert optimizer.variables_paths == ("kernel", "bias")
    halved = LRMultiplier(optimizers.SGD(1.0), {"kernel": 0.5})
    weights = [tf.Variable([1.0], name="kernel"), tf.Variable([1.0], name="bias")]
    halved.apply([tf.ones(1), tf.ones(1)], weights)
    assert [float(w[0]) for w in weights] == [0.5, 0.0]
    assert LRMultiplier.from_config(halved.get_config()).get_config() == halved.get_config()


@pytest.mark.slow
def test_a_hub_task_that_was_compiled_with_it_loads_again(tmp_path):
    """Such a task compiles itself with an optimizer of its own, and takes no other's state."""
    backbone = keras_hub.models.BertBackbone(32, 1, 2, 16, 32, max_sequence_length=8)
    task = keras_hub.models.BertTextClassifier(backbone, 3, preprocessor=None)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    task.compile(LRMultiplier(optimizers.Adam(0.01)), loss)
    ids = np.random.default_rng(0).integers(1, 32, (16, 8))
    x = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": ids > 0}
    y = np.arange(16) % 3
    task.fit(x, y, verbose=0, shuffle=False)
    task.save(tmp_path / "task.keras")
    with pytest.warns(UserWarning) as told:  # as of any other optimizer
        loaded = keras.models.load_model(tmp_path / "task.keras")
    assert any("Skipping variable loading" in str(warning.message) for warning in told)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), task.predict(x, verbose=0))
    loaded.compile(LRMultiplier(optimizers.Adam(0.01)), loss)
    loaded.fit(x, y, verbose=0, shuffle=False)


def test_a_state_of_it_is_no_state_of_an_optimizer_without_slots(tmp_path):
    model = make_model(LRMultiplier(optimizers.SGD(0.1)))
    model.optimizer.build(model.trainable_variables)
    model.save_weights(tmp_path / "m.weights.h5")
    plain = make_model(optimizers.SGD(0.1))
    plain.optimizer.build(plain.trainable_variables)
    with pytest.warns(UserWarning, match="Skipping variable loading"):
        plain.load_weights(tmp_path / "m.weights.h5")


def test_fit_with_a_setting_set_after_compile_is_that_of_the_plain_optimizer():
    results = []
    for wrap in WRAPPERS.values():
        optimizer = wrap(optimizers.AdamW(0.01))
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        optimizer.global_clipnorm = 0.1
        results.append(fit(optimizer))
    for got, want in zip(*results, strict=True):
        np.testing.assert_array_equal(got, want)
