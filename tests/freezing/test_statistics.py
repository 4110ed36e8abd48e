"""A FineTuner holds the statistics of a pretrained part however the part is thawed."""

import warnings

import keras
import numpy as np
import pytest

from kerastl import FineTuner, freeze, unfreeze
from kerastl.graph.flags import has_fixed_statistics
from tests.tolerances import EXACT

kl = keras.layers
X, Y = np.random.default_rng(0).normal(5, 2, (16, 4)).astype("float32"), np.ones((16, 1))


def body(dropout=0.0):
    layers = [keras.Input((4,)), kl.Dense(3, name="dense"), kl.BatchNormalization(name="norm")]
    return keras.Sequential([*layers, kl.Dropout(dropout, name="drop")], name="body")


def nested(base, **call):
    inputs = keras.Input((4,))
    return keras.Model(inputs, kl.Dense(1, name="head")(base(inputs, **call)))


def moved(model, base):
    """How far one `fit` moves the statistics of `base`, which trains."""
    norm = base.get_layer("norm")
    kernel, mean = base.get_layer("dense").kernel.numpy(), norm.moving_mean.numpy()
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    assert not np.array_equal(kernel, base.get_layer("dense").kernel)
    return float(np.abs(mean - norm.moving_mean).max())


def frozen_before_it_is_made(base):
    base.trainable = False
    model = FineTuner.from_model(nested(base))
    base.trainable = True
    return model


def frozen_flat_before_it_is_made(base):
    base.trainable = False
    model = FineTuner(base.inputs, kl.Dense(1, name="head")(base.outputs[0]))
    base.trainable = True
    return model


def frozen_while_it_trained(base):
    model = FineTuner.from_model(nested(base))
    base.trainable = False
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    base.trainable = True
    return model


def frozen_in_train_on_batch(base):
    model = FineTuner.from_model(nested(base))
    freeze(model, base.layers)
    model.compile("sgd", "mse")
    model.train_on_batch(X, Y)
    for layer in base.layers:
        layer.trainable = True
    return model


def called_to_infer(base):
    return FineTuner.from_model(nested(base, training=False))


def called_to_infer_deep_down(base):
    inputs = keras.Input((4,))
    inner = keras.Model(inputs, base(inputs, training=False))
    return FineTuner.from_model(nested(inner))


WAYS = [
    frozen_before_it_is_made,
    frozen_flat_before_it_is_made,
    frozen_while_it_trained,
    frozen_in_train_on_batch,
    called_to_infer,
    called_to_infer_deep_down,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_statistics_stand_still_under_flags_of_keras(way):
    base = body()
    assert moved(way(base), base) == 0.0


def test_keras_moves_them():
    """When Keras heeds `training=False` in a functional model, this says so."""
    base = body()
    assert moved(nested(base, training=False), base) > 0.01


def test_they_follow_the_batches_when_asked_to():
    base = body()
    model = FineTuner.from_model(nested(base, training=False))
    freeze(model, base.layers)
    unfreeze(model, base.layers, batch_norm="train")
    assert moved(model, base) > 0.01


def test_a_network_that_was_never_frozen_trains_as_in_keras():
    stock, ours = body(), body()
    ours.set_weights(stock.get_weights())
    assert moved(nested(stock), stock) > 0.01
    model = FineTuner.from_model(nested(ours))
    assert moved(model, ours) > 0.01


def test_a_new_head_learns_its_statistics():
    inputs = keras.Input((8, 8, 3))
    pooled = kl.GlobalAveragePooling2D()(kl.Conv2D(3, 3, name="body")(inputs))
    norm = kl.BatchNormalization(name="head_norm")
    model = keras.Model(inputs, kl.Dense(1, name="logits")(norm(kl.Dense(2)(pooled))))
    model.trainable = False
    tuner = FineTuner.from_model(model)
    assert norm in tuner.groups["head"]
    tuner.trainable = norm.trainable = True
    tuner.compile("sgd", "mse")
    tuner.fit(np.ones((8, 8, 8, 3)), Y[:8], verbose=0)
    assert np.all(norm.moving_mean)


def test_layers_that_will_draw_at_random_are_named():
    with pytest.warns(UserWarning, match="'body' is called is dropped.* 1 of its layers .*: drop"):
        FineTuner.from_model(nested(body(dropout=0.5), training=False))


def test_nothing_is_said_where_all_of_it_is_kept():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FineTuner.from_model(nested(body(), training=False))


@pytest.mark.parametrize("batch_norm", ["inference", "train"])
def test_a_saved_model_holds_what_it_held(batch_norm, tmp_path):
    inputs = keras.Input((4,))
    norm = kl.BatchNormalization(name="norm")
    outputs = kl.Dense(1, name="head")(norm(kl.Dense(3)(inputs), training=False))
    model = FineTuner(inputs, outputs)
    freeze(model, norm)
    unfreeze(model, norm, batch_norm=batch_norm)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for one in (model, loaded):
        assert has_fixed_statistics(one.get_layer("norm")) == (batch_norm == "inference")
    assert model.predict(X, verbose=0) == pytest.approx(loaded.predict(X, verbose=0))


def test_guide_of_keras_on_a_published_network():
    """`base(x, training=False)`, train the head, `base.trainable = True`, compile, train."""
    base = keras.applications.MobileNetV2(
        weights=None, input_shape=(32, 32, 3), include_top=False, alpha=0.35
    )
    base.trainable = False
    inputs = keras.Input((32, 32, 3))
    pooled = kl.GlobalAveragePooling2D()(base(inputs, training=False))
    model = FineTuner.from_model(keras.Model(inputs, kl.Dense(1, name="head")(pooled)))
    pictures = np.random.default_rng(0).random((8, 32, 32, 3)).astype("float32")
    for trainable in (False, True):
        base.trainable = trainable
        model.compile("sgd", "mse")
        model.fit(pictures, Y[:8], verbose=0)
    norms = [layer for layer in base.layers if isinstance(layer, kl.BatchNormalization)]
    assert len(norms) == 52
    for norm in norms:
        np.testing.assert_allclose(norm.moving_mean, np.zeros(norm.moving_mean.shape), **EXACT)
    assert any(np.any(norm.beta.numpy()) for norm in norms)
