"""What trains is asked of each weight, as Keras does, not of the flags of layers around it."""

import keras
import keras_hub
import numpy as np
import pytest

from kerastl import FineTuner, freeze, trainable_summary
from kerastl.callbacks import Audit
from kerastl.graph.flags import is_frozen, training_ids
from kerastl.training.frozen import find_frontier
from tests.tolerances import REDUCTION

IDS = np.random.default_rng(0).integers(1, 32, (32, 8))
TOKENS = {"token_ids": IDS, "segment_ids": 0 * IDS, "padding_mask": IDS > 0}
LABELS = np.arange(32) % 3


def task(cls):
    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.BertBackbone(32, 2, 2, 16, 32, dropout=0.0, max_sequence_length=8)
    whole = keras_hub.models.BertTextClassifier(
        backbone=backbone, num_classes=3, preprocessor=None, dropout=0.0
    )
    backbone.enable_lora(4)
    model = FineTuner.from_model(whole) if cls is FineTuner else whole
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    return model


def trained(cls, **options):
    model = task(cls)
    fit = {"epochs": 3, "batch_size": 8, "shuffle": False, "verbose": 0}
    return model, model.fit(TOKENS, LABELS, **fit, **options)


def test_lora_of_keras_hub_trains_as_in_keras():
    stock, history = trained(keras.Model)
    cached, ours = trained(FineTuner)
    plain, _ = trained(FineTuner, cache_frozen=False)
    np.testing.assert_allclose(ours.history["loss"], history.history["loss"], **REDUCTION)
    training = [weight.path for weight in cached.trainable_weights]
    assert sum("lora" in path for path in training) == 8
    values = {weight.path: weight for weight in plain.weights}
    for weight, other in zip(cached.weights, stock.weights, strict=True):
        np.testing.assert_allclose(weight, values[weight.path], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(weight, other, rtol=1e-4, atol=1e-5)


def test_only_what_lies_below_the_first_lora_weight_is_computed_once():
    static = [layer.name for layer in find_frontier(task(FineTuner)).static_layers]
    assert "embeddings_layer_norm" in static
    assert not any(name.startswith("transformer_layer") for name in static)


def test_the_table_and_the_audit_agree_with_what_moves():
    model = task(FineTuner)
    said = sum(row.trainable for row in trainable_summary(model).rows)
    assert said == sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    model.fit(TOKENS, LABELS, batch_size=8, verbose=0, callbacks=[Audit(steps=4)])


class Block(keras.layers.Layer):
    """A composite whose flag says one thing and whose sublayer another."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.second = keras.layers.Dense(4), keras.layers.Dense(4)
        self.drop = keras.layers.Dropout(0.5)

    def call(self, inputs, training=None):
        return self.second(self.drop(self.first(inputs), training=training))


def under_a_frozen_block(model, block):
    block.trainable = False
    block.second.trainable = True


def by_the_weight_alone(model, block):
    block.trainable = False
    block.second.kernel.trainable = True


def frozen_around_it(model, block):
    freeze(model, [layer for layer in model.layers if layer is not block])
    under_a_frozen_block(model, block)


@pytest.mark.parametrize("hide", [under_a_frozen_block, by_the_weight_alone, frozen_around_it])
@pytest.mark.parametrize("cache", ["auto", False])
def test_a_weight_trains_whatever_the_flags_around_it(hide, cache):
    inputs = keras.Input((4,))
    block = Block(name="block")
    model = FineTuner(inputs, keras.layers.Dense(1, name="head")(block(inputs)))
    hide(model, block)
    assert not is_frozen(block)
    assert id(block.drop) not in training_ids(model)
    model.compile("sgd", "mse")
    before = [weight.numpy() for weight in block.weights]
    x = np.random.default_rng(0).normal(size=(8, 4))
    model.fit(x, np.ones((8, 1)), epochs=3, verbose=0, cache_frozen=cache)
    moved = [not np.array_equal(old, new) for old, new in zip(before, block.weights, strict=True)]
    assert moved == [False, False, True, hide is not by_the_weight_alone]
