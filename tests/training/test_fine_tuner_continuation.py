"""A FineTuner saved half-way and loaded in a fresh process goes on bit for bit as it would have."""

import warnings

import keras
import keras_hub
import numpy as np
import pytest
from keras import optimizers

from kerastl.freezing import freeze, unfreeze
from kerastl.optimizers import LRMultiplier, no_decay
from kerastl.training import FineTuner
from tests.optimizers.test_lr_multiplier_process import run_script
from tests.tolerances import REDUCTION
from tests.training.test_fine_tuner import data, small

LOSS = "sparse_categorical_crossentropy"


def bert(loss):
    """A KerasHub classifier with dropout: embeddings and the first block frozen."""
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=50, num_layers=2, num_heads=2, hidden_dim=16, intermediate_dim=32,
        max_sequence_length=8, dropout=0.3,
    )  # fmt: skip
    classifier = keras_hub.models.BertTextClassifier(
        backbone, num_classes=3, dropout=0.3, activation="softmax"
    )
    model = FineTuner.from_model(classifier)
    freeze(model, ["embeddings", "layer_0"])
    rates = {"layer_1": 0.1, "pooler": 0.5}
    model.compile(optimizers.AdamW(0.01, weight_decay=0.1), loss, multipliers=rates, no_decay=True)
    return model


def by_hand(loss):
    """Made by hand, spare of the biases that decay leaves alone, with a layer that thaws later."""
    model = FineTuner.from_model(small())
    freeze(model, ["low", "norm"])
    model.compile(
        LRMultiplier(
            optimizers.AdamW(0.01, weight_decay=0.1),
            {".*low.*": 0.1, ".*mid.*": 0.5},
            groups=model.groups,  # so that a layer without slots may be named
            no_decay=no_decay(model),
        ),
        loss,
    )
    return model


def wrapped(optimizer):
    def compiled(loss):
        model = FineTuner.from_model(small())
        freeze(model, "low")
        model.compile(optimizer(), loss, multipliers={"mid": 0.3})
        return model

    return compiled


def accumulating():
    return optimizers.Adam(0.01, gradient_accumulation_steps=2)


def weighing(loss):
    """Cycles that know the weight of their batches, three of which come at a time."""
    model = FineTuner.from_model(small())
    freeze(model, "low")
    mean = keras.losses.SparseCategoricalCrossentropy(reduction="mean_with_sample_weight")
    model.compile(accumulating(), mean, multipliers={"mid": 0.3})
    return model


def averaging():
    return optimizers.Adam(0.01, use_ema=True, ema_momentum=0.7, ema_overwrite_frequency=4)


def scaled():
    inner = optimizers.SGD(0.01, momentum=0.9)
    return optimizers.LossScaleOptimizer(inner, initial_scale=8.0, dynamic_growth_steps=2)


def scaled_by_hand(loss):
    model = FineTuner.from_model(small())
    optimizer = LRMultiplier(optimizers.Adam(0.01), {".*mid.*": 0.3})
    model.compile(optimizers.LossScaleOptimizer(optimizer, dynamic_growth_steps=2), loss)
    return model


def mixed(loss):
    """Under mixed_float16 `compile` puts the loss scale; the fresh process has another policy."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return wrapped(accumulating)(loss)
    finally:
        keras.config.set_dtype_policy("float32")


def towers(loss):
    """Two nested models whose layers, and so the paths of their weights, have the same names."""

    def tower(name):
        inputs = keras.Input((6,))
        return keras.Model(inputs, keras.layers.Dense(4, name="fc")(inputs), name=name)

    inputs, (left, right) = keras.Input((6,)), (tower("left"), tower("right"))
    both = keras.layers.Concatenate()([left(inputs), right(inputs)])
    head = keras.layers.Dense(3, activation="softmax", name="head")
    model = FineTuner.from_model(keras.Model(inputs, head(both)))
    freeze(model, right.layers[-1])
    model.compile(optimizers.Adam(0.01), loss, multipliers={"head": 0.5})
    return model


CASES = {
    "bert": bert,
    "by hand": by_hand,
    "nadam": wrapped(lambda: optimizers.Nadam(0.01)),
    "accumulating": wrapped(accumulating),
    "weighing": weighing,
    "averaging": wrapped(averaging),
    "scaled": wrapped(scaled),
    "scaled by hand": scaled_by_hand,
    "mixed": mixed,
    "towers": towers,
}
THAWS = {"by hand": "low", "nadam": "low"}


def examples(name):
    x, y = data(12)
    if name != "bert":
        return x, y
    tokens = np.random.default_rng(0).integers(1, 50, (12, 8))
    return {
        "token_ids": tokens,
        "segment_ids": np.zeros_like(tokens),
        "padding_mask": np.ones_like(tokens),
    }, y


def fit(name, model):
    """Three batches: an odd number, so that accumulation stops in the midst of a cycle."""
    model.fit(*examples(name), batch_size=4, shuffle=False, verbose=0)


def go_on(name, model):
    """All state after a few more steps; some cases thaw a layer before them."""
    if name in THAWS:
        unfreeze(model, THAWS[name])
    fit(name, model)
    return [*(v.numpy() for v in model.variables), *(v.numpy() for v in model.optimizer.variables)]


def go_on_in_this_process(folder):
    """What the fresh process does; a warning of lost state is an error there."""
    warnings.simplefilter("error", UserWarning)
    for name in CASES:
        model = keras.models.load_model(f"{folder}/{name}.keras")
        np.savez(f"{folder}/{name}.npz", *go_on(name, model))


@pytest.fixture(scope="module")
def continued(tmp_path_factory):
    """For each case the state that this process and the fresh one reach."""
    folder, here = tmp_path_factory.mktemp("saved"), {}
    for name, make in CASES.items():
        keras.utils.set_random_seed(0)
        model = make(LOSS)
        fit(name, model)
        model.save(folder / f"{name}.keras")
        before = [v.numpy() for v in model.variables]
        here[name] = before, go_on(name, model), model
    module = "tests.training.test_fine_tuner_continuation"
    run_script(f"import sys; from {module} import *; go_on_in_this_process(sys.argv[1])", folder)
    there = {name: list(np.load(folder / f"{name}.npz").values()) for name in CASES}
    return here, there


@pytest.mark.parametrize("name", CASES)
def test_a_fresh_process_continues_bit_for_bit(continued, name):
    here, there = continued
    before, after, _ = here[name]
    assert len(after) == len(there[name])
    for got, want in zip(there[name], after, strict=True):
        np.testing.assert_array_equal(got, want)
    assert any(not np.array_equal(a, b) for a, b in zip(before, after, strict=False))


def test_the_cases_are_what_they_say(continued):
    here, _ = continued
    models = {name: model for name, (_, _, model) in here.items()}
    assert any("seed" in v.path for v in models["bert"].variables)
    assert int(models["accumulating"].lr_multiplier.inner_optimizer._iterations) == 6
    assert int(models["accumulating"].optimizer.iterations) == 3
    for name in ("scaled", "scaled by hand", "mixed"):
        assert isinstance(models[name].optimizer, optimizers.LossScaleOptimizer), name
        assert isinstance(models[name].lr_multiplier, LRMultiplier), name
    assert float(models["scaled"].optimizer.dynamic_scale) == 64.0  # 8, doubled every 2 of 6 steps
    weight = [v for v in models["weighing"].optimizer.variables if "cycle_weight" in v.path]
    np.testing.assert_array_equal(weight, [[8.0]])  # both batches of four that ended the cycle
    thawed = models["by hand"]
    assert thawed.multipliers[thawed.get_layer("low").kernel.path] == 0.1


def test_a_model_that_is_not_compiled_is_saved_with_what_is_frozen(tmp_path):
    model = FineTuner.from_model(small())
    freeze(model, "low")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert not loaded.compiled
    assert len(loaded.trainable_weights) == len(model.trainable_weights) == 6


def test_a_loss_scale_keeps_its_settings_and_multipliers_theirs():
    """The step of SGD does not know the scale: w <- w - m * lr * g, through either wrapping."""
    moved = []
    for optimizer in (optimizers.SGD(0.1), optimizers.LossScaleOptimizer(optimizers.SGD(0.1), 8.0)):
        model = FineTuner.from_model(small())
        model.compile(optimizer, LOSS, multipliers={"mid": 0.3})
        before = model.get_layer("mid").kernel.numpy()
        fit("small", model)
        moved.append(model.get_layer("mid").kernel.numpy() - before)
    assert model.optimizer.initial_scale == 8.0
    np.testing.assert_allclose(moved[1], moved[0], **REDUCTION)


def test_a_multiplier_that_two_weights_of_one_path_would_share_is_refused():
    model = towers(LOSS)
    with pytest.raises(ValueError, match=r"path of its own.*'fc'.*name_scope"):
        model.compile("adam", LOSS, multipliers={"fc": 0.1})
    model.compile("adam", LOSS, multipliers={".*/kernel": 0.1})
    model.compile("adam", LOSS, multipliers=dict.fromkeys(model.groups.names, 0.1))
