"""FineTuner equals Keras where nothing is frozen, and holds still what is frozen."""

import subprocess
import sys
import textwrap

import keras
import keras_hub
import numpy as np
import pytest

from kerastl.freezing import freeze, freeze_to, unfreeze
from kerastl.graph.flags import training_ids
from kerastl.graph.run import is_inert
from kerastl.training import FineTuner
from tests.tolerances import ELEMENTWISE, EXACT, REDUCTION


def small(seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation="tanh", name="low"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dense(8, activation="tanh", kernel_regularizer="l2", name="mid"),
            keras.layers.Dense(3, activation="softmax", name="head"),
        ]
    )


def data(n=32):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 6)).astype("float32"), rng.integers(0, 3, n)


def weights_equal(a, b, **tolerance):
    for x, y in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_allclose(x, y, **tolerance)


@pytest.mark.slow_but("sample_weight")
@pytest.mark.parametrize("kind", ["sample_weight", "class_weight", None])
def test_train_step_equals_keras(kind):
    """With nothing frozen and no multipliers, every loss, metric and weight is Keras's own."""
    x, y = data()
    extra = {
        "sample_weight": {"sample_weight": np.linspace(0, 2, len(x)).astype("float32")},
        "class_weight": {"class_weight": {0: 0.5, 1: 1.0, 2: 3.0}},
        None: {},
    }[kind]
    plain, tuner = small(), FineTuner.from_model(small())
    histories = []
    for model in (plain, tuner):
        model.compile(
            keras.optimizers.Adam(0.01),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
            weighted_metrics=["sparse_categorical_crossentropy"],
        )
        keras.utils.set_random_seed(1)
        fitted = model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, **extra)
        histories.append(fitted.history)
    assert histories[0].keys() == histories[1].keys()
    for name in histories[0]:
        np.testing.assert_allclose(histories[0][name], histories[1][name], **ELEMENTWISE)
    weights_equal(plain, tuner, **EXACT)


def test_train_step_equals_the_loop_written_by_hand():
    """SGD with multipliers is w <- w - m * lr * dL/dw, with the gradient by tf.GradientTape."""
    import tensorflow as tf

    x, y = data(16)
    tuner, by_hand = FineTuner.from_model(small()), small()
    multipliers = {"low": 0.1, "mid": 0.5}
    tuner.compile(
        keras.optimizers.SGD(0.2), "sparse_categorical_crossentropy", multipliers=multipliers
    )
    tuner.fit(x, y, batch_size=16, epochs=3, shuffle=False, verbose=0)
    loss_of = keras.losses.SparseCategoricalCrossentropy()
    for _ in range(3):
        with tf.GradientTape() as tape:
            loss = loss_of(y, by_hand(x, training=True)) + sum(by_hand.losses)
        gradients = tape.gradient(loss, by_hand.trainable_variables)
        for v, g in zip(by_hand.trainable_variables, gradients, strict=True):
            v.assign_sub(multipliers.get(v.path.split("/")[-2], 1.0) * 0.2 * g)
    weights_equal(tuner, by_hand, **REDUCTION)


def frozen_case(name):
    """A real network with a new head, everything below the head's group frozen."""
    rng = np.random.default_rng(0)
    if name == "bert":
        base = keras_hub.models.BertBackbone(
            vocabulary_size=50, num_layers=2, num_heads=2, hidden_dim=16, intermediate_dim=32,
            max_sequence_length=8,
        )  # fmt: skip
        x = {
            "token_ids": rng.integers(1, 50, (8, 8)),
            "segment_ids": np.zeros((8, 8), int),
            "padding_mask": np.ones((8, 8), int),
        }
        features = base.output["pooled_output"]
    elif name == "vit":
        base = keras_hub.models.ViTBackbone(
            image_shape=(16, 16, 3), patch_size=(8, 8), num_layers=3, num_heads=2, hidden_dim=16,
            mlp_dim=32, dropout_rate=0.3, attention_dropout=0.3,
        )  # fmt: skip
        x = rng.uniform(0, 1, (8, 16, 16, 3)).astype("float32")
        features = base.output[:, 0]
    else:
        base = getattr(keras.applications, name)(
            include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg"
        )
        x = rng.uniform(0, 255, (8, 32, 32, 3)).astype("float32")
        features = base.output
    head = keras.layers.Dense(2, activation="softmax", name="classifier")
    return FineTuner(base.input, head(features)), x, np.arange(8) % 2


@pytest.mark.slow_but("MobileNetV2", "bert")
@pytest.mark.parametrize("name", ["MobileNetV2", "EfficientNetB0", "ResNet50", "bert", "vit"])
def test_a_frozen_part_is_bit_equal_after_an_epoch(name):
    """Outputs and all variables of the frozen part: weights, statistics and seeds."""
    model, x, y = frozen_case(name)
    freeze_to(model, -1)
    visible = training_ids(model)
    frozen = [v for group in model.groups.names[:-1] for v in model.groups.variables(group)]
    assert len(frozen) > 20
    before = [v.numpy() for v in frozen]
    features = keras.Model(model.input, model.layers[-1].input)
    outputs = features.predict(x, verbose=0)
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=4, verbose=0)
    for v, was in zip(frozen, before, strict=True):
        np.testing.assert_array_equal(v.numpy(), was, err_msg=v.path)
    np.testing.assert_array_equal(features.predict(x, verbose=0), outputs)
    assert visible


def test_frozen_blocks_inside_a_composite_are_inert():
    """ViT hides its encoder in one layer: its frozen blocks drop nothing, the others do."""
    model, x, _ = frozen_case("vit")
    names = model.groups.names
    freeze(model, list(names[:-2]))
    seeds = [v for name in names[:-2] for v in model.groups.variables(name) if "seed" in v.path]
    kept = [v.numpy() for v in seeds]
    model(x, training=True)
    assert seeds
    for v, was in zip(seeds, kept, strict=True):
        np.testing.assert_array_equal(v.numpy(), was, err_msg=v.path)
    assert not any("call" in layer.__dict__ for layer in model._flatten_layers())
    freeze(model, list(names))
    np.testing.assert_array_equal(model(x, training=True), model(x, training=False))


def test_stock_functional_model_moves_statistics_of_the_published_recipe():
    """The trap: `training=False` of a nested call is overwritten. If it fails, Keras mended it."""
    base = small()
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.layers.Dense(2)(base(inputs, training=False)))
    model.compile("sgd", "mse")
    before = base.get_layer("norm").moving_mean.numpy()
    model.fit(data()[0], np.ones((32, 2)), verbose=0)
    assert not np.array_equal(before, base.get_layer("norm").moving_mean.numpy())


def test_thaw_between_fits_keeps_the_optimizer_and_its_moments():
    """Thawing `low` late equals an optimizer that knew it from the start but did not step it."""
    x, y = data()
    models = []
    for reserve in (True, False):
        model = FineTuner.from_model(small())
        freeze(model, ["low", "norm"])
        model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
        if reserve:
            model.reserve(["low", "norm"])
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
        optimizer = model.optimizer
        slots = len(model.optimizer.variables)
        unfreeze(model, "low")
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
        assert model.optimizer is optimizer
        assert (len(model.optimizer.variables) == slots) == reserve
        models.append(model)
    weights_equal(*models, **EXACT)


def test_weights_that_never_train_get_no_slots():
    model = FineTuner.from_model(small())
    freeze(model, ["low", "norm", "mid"])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(*data(), verbose=0)
    assert [path.split("/", 1)[1] for path in model.multipliers] == ["head/kernel", "head/bias"]


def test_nothing_to_train_is_refused():
    model = FineTuner.from_model(small())
    freeze(model, slice(None))
    model.compile("adam", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match=r"every layer is frozen.*unfreeze"):
        model.fit(*data(), verbose=0)


def test_group_norms_are_those_of_the_gradients_and_updates():
    """Under SGD the update is -m * lr * gradient, so the two norms differ by that factor."""
    model = FineTuner.from_model(small())
    model.compile(
        keras.optimizers.SGD(0.5),
        "sparse_categorical_crossentropy",
        multipliers={"low": 0.1},
        norms=True,
    )
    history = model.fit(*data(), batch_size=32, verbose=0).history
    group = model.groups.group_of(model.get_layer("low"))
    members = {layer.name for layer in model.groups[group] if layer.weights}
    assert f"gradient_norm/{group}" in history
    if members == {"low"}:
        ratio = history[f"update_norm/{group}"][0] / history[f"gradient_norm/{group}"][0]
        np.testing.assert_allclose(ratio, 0.05, rtol=1e-4)  # float32 difference of weights
    head = model.groups.group_of(model.get_layer("head"))
    assert history[f"update_norm/{head}"][0] > 0


def test_set_multipliers_between_epochs():
    x, y = data()
    model = FineTuner.from_model(small())
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, verbose=0)
    model.set_multipliers({"low": 0.0})
    before = model.get_layer("low").get_weights()
    model.fit(x, y, verbose=0)
    after = model.get_layer("low").get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_mixed_precision_trains_and_thaws():
    x, y = data()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = FineTuner.from_model(small())
        freeze(model, "low")
        model.compile("adam", "sparse_categorical_crossentropy", multipliers={"mid": 0.5})
        model.fit(x, y, batch_size=4, epochs=3, verbose=0)
        unfreeze(model, "low")
        before = model.get_layer("low").kernel.numpy()
        model.fit(x, y, batch_size=4, epochs=3, verbose=0)
        assert not np.array_equal(before, model.get_layer("low").kernel.numpy())
        assert np.isfinite(model.get_layer("low").kernel.numpy()).all()
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.slow
def test_saved_in_one_process_it_goes_on_in_another_bit_for_bit(tmp_path):
    """Half frozen inside a composite, with multipliers and moments, across a fresh process."""
    model, x, y = frozen_case("vit")
    names = model.groups.names
    freeze(model, list(names[:-3]))
    model.compile(
        keras.optimizers.AdamW(0.01), "sparse_categorical_crossentropy",
        multipliers={names[-2]: 0.1}, no_decay=True,
    )  # fmt: skip
    model.reserve(list(names[-4:]))
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    model.save(tmp_path / "half.keras")
    np.savez(tmp_path / "x.npz", x=x, y=y)
    program = textwrap.dedent(
        f"""
        import keras, numpy as np
        import kerastl
        data = np.load("x.npz")
        model = keras.models.load_model("half.keras")
        assert type(model).__name__ == "FineTuner", type(model)
        kerastl.unfreeze(model, {names[-4]!r})
        model.fit(data["x"], data["y"], batch_size=4, shuffle=False, verbose=0)
        np.savez("after.npz", *model.get_weights(), *[v.numpy() for v in model.optimizer.variables])
        """
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    unfreeze(model, names[-4])
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    mine = [*model.get_weights(), *[v.numpy() for v in model.optimizer.variables]]
    with np.load(tmp_path / "after.npz") as theirs:
        assert len(theirs.files) == len(mine)
        for i, value in enumerate(mine):
            np.testing.assert_array_equal(theirs[f"arr_{i}"], value)


def test_exports_like_any_keras_model(tmp_path):
    model = FineTuner.from_model(small())
    freeze(model, "low")
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(*data(), verbose=0)
    unfreeze(model, "low")
    model.fit(*data(), verbose=0)
    model.export(tmp_path / "saved", verbose=False)
    import tensorflow as tf

    x, _ = data(4)
    saved = tf.saved_model.load(tmp_path / "saved")
    served = saved.serve(x)
    np.testing.assert_allclose(served, model.predict(x, verbose=0), **REDUCTION)


def test_inert_is_frozen_or_fixed():
    model = FineTuner.from_model(small())
    assert not is_inert(model.get_layer("norm"))
    freeze(model, "norm")
    assert is_inert(model.get_layer("norm"))
    unfreeze(model, "norm")
    assert is_inert(model.get_layer("norm"))  # its statistics stay fixed
    unfreeze(model, "low")
    assert not is_inert(model.get_layer("low"))


@pytest.mark.parametrize("key", ["low", "low/kernel", "low/.*", "lo."])
def test_multipliers_take_the_names_of_the_flat_model(key):
    """Keras's own path of a weight made in a nested model has that model's name before it."""
    inputs = keras.Input((6,))
    model = FineTuner.from_model(keras.Model(inputs, small()(inputs)))
    model.compile("sgd", "sparse_categorical_crossentropy", multipliers={key: 0.5})
    model.fit(*data(), verbose=0)
    scaled = {path.split("/", 1)[1] for path, rate in model.multipliers.items() if rate == 0.5}
    assert scaled == ({"low/kernel"} if key == "low/kernel" else {"low/kernel", "low/bias"})
    with pytest.raises(ValueError, match="Closest"):
        model.compile("sgd", "mse", multipliers={"lowest": 0.5})
