"""Rules for rates and for what is not decayed."""

import keras
import numpy as np
import pytest

from kerastl.optimizers import LRMultiplier, discriminative_rates, layer_decay, no_decay
from tests import tolerances


class Groups:
    names = ("stem", "block", "head")

    def __repr__(self):
        return "Groups"  # an id of a test must be the same in every process


def test_geometric_spacing_by_hand():
    got = discriminative_rates(["a", "b", "c", "d"], slice(1e-6, 1e-3))
    assert list(got) == ["a", "b", "c", "d"]
    np.testing.assert_allclose(list(got.values()), [1e-3, 1e-2, 1e-1, 1], rtol=1e-11)


@pytest.mark.parametrize(
    ("names", "rates", "expected"),
    [
        (["only"], slice(1e-5, 1e-3), [1.0]),
        (["only"], slice(1e-3), [1.0]),
        # fastai: slice(hi) is hi / 10 for all but the last group.
        (["a", "b", "c"], slice(1e-3), [0.1, 0.1, 1.0]),
        (["a", "b"], 1e-3, [1.0, 1.0]),
        (["a", "b"], slice(1e-3, 1e-3), [1.0, 1.0]),
        (["a", "b"], slice(1e-3, 1e-4), [10.0, 1.0]),
        (Groups(), slice(1e-4, 1e-2), [0.01, 0.1, 1.0]),
    ],
    ids=str,
)
def test_discriminative_rates(names, rates, expected):
    assert list(discriminative_rates(names, rates).values()) == expected


def test_vit_b_layer_decay():
    # ViT-B/12 has 14 groups (FACTS of BEiT and MAE fine-tuning): 0.75 ** 13 = 0.0238.
    names = ["stem", *(f"block_{i}" for i in range(12)), "head"]
    got = layer_decay(names, 0.75)
    assert (got["head"], got["block_11"]) == (1.0, 0.75)
    assert round(got["stem"], 4) == 0.0238
    assert layer_decay(Groups(), 1) == {"stem": 1.0, "block": 1.0, "head": 1.0}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: layer_decay(["a"], 0), ValueError, "above 0"),
        (lambda: layer_decay(["a"], 1.5), ValueError, "Received: decay=1.5"),
        (lambda: layer_decay(["a"], "x"), TypeError, "Received: decay='x'"),
        (lambda: layer_decay([]), ValueError, "sequence of distinct group names"),
        (lambda: layer_decay("abc"), ValueError, "sequence of distinct group names"),
        (lambda: layer_decay(["a", "a"]), ValueError, "sequence of distinct group names"),
        (lambda: discriminative_rates(["a"], slice(0, 1e-3)), ValueError, "> 0"),
        (lambda: discriminative_rates(["a"], slice(1e-3, None)), TypeError, "NoneType"),
        (lambda: discriminative_rates(["a"], slice(1, 2, 3)), ValueError, "without a step"),
        (lambda: discriminative_rates(["a"], "fast"), TypeError, "slice"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()


class Tokens(keras.layers.Layer):
    """As a vision transformer embeds: tokens, and positions in a layer or a weight."""

    def __init__(self, learned_positions):
        super().__init__(name="tokens")
        self.position_embedding = keras.layers.Embedding(5, 8) if learned_positions else None

    def build(self, input_shape):
        self.class_token = self.add_weight(shape=(1, 1, 8), name="anything")
        self.projection = self.add_weight(shape=(8, 8), name="class_projection")
        if self.position_embedding is None:
            self.position_embedding = self.add_weight(shape=(1, 5, 8), name="positions")
        else:
            self.position_embedding.build((5,))

    def call(self, inputs):
        return inputs


class LlamaLayerNorm(keras.layers.Layer):
    def build(self, input_shape):
        self.scale = self.add_weight(shape=(4, 8), name="weight")

    def call(self, inputs):
        return inputs


@pytest.mark.parametrize("learned_positions", [False, True])
def test_no_decay_goes_by_type_and_rank(learned_positions):
    inputs = keras.Input((4, 8))
    x = Tokens(learned_positions)(inputs)
    x = keras.layers.GroupNormalization(2, name="gate")(x)
    x = keras.layers.Dense(8, name="bn1")(x)  # not a norm, whatever it is called
    x = keras.layers.BatchNormalization(name="plain")(x)
    x = LlamaLayerNorm(name="llama")(x)
    x = keras.layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = keras.layers.LSTM(3, name="lstm")(x)
    nested = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="inner")], name="head")
    spared = set(no_decay(keras.Model(inputs, nested(x))))
    decayed = {
        *("tokens/class_projection", "bn1/kernel", "head/inner/kernel"),
        *(f"attention/{part}/kernel" for part in ("query", "key", "value", "attention_output")),
        *("lstm/lstm_cell/kernel", "lstm/lstm_cell/recurrent_kernel"),
    }
    model = keras.Model(inputs, nested(x))
    assert spared == {v.path for v in model.trainable_variables} - decayed


def test_position_embeddings_of_text_models_are_decayed():
    layer = keras.layers.Embedding(10, 4, name="position_embedding")
    model = keras.Sequential([keras.Input((3,), dtype="int32"), layer])
    assert no_decay(model) == ()
    with pytest.raises(TypeError, match="must be a keras"):
        no_decay([layer])


def test_rates_and_no_decay_meet_in_the_optimizer():
    # By hand, gradient 0: w *= 1 - multiplier * rate * decay for kernels, nothing for biases.
    x = inputs = keras.Input((2,))
    for name in Groups.names:
        x = keras.layers.Dense(2, name=name, bias_initializer="ones")(x)
    model = keras.Model(inputs, x)
    optimizer = LRMultiplier(
        keras.optimizers.AdamW(0.1, weight_decay=0.5),
        layer_decay(Groups(), 0.5),
        no_decay=no_decay(model),
    )
    weights = model.trainable_variables
    before = [weight.numpy() for weight in weights]
    optimizer.apply([keras.ops.zeros(weight.shape) for weight in weights], weights)
    factors = [1 - 0.25 * 0.05, 1, 1 - 0.5 * 0.05, 1, 1 - 0.05, 1]
    for weight, start, factor in zip(weights, before, factors, strict=True):
        np.testing.assert_allclose(weight.numpy(), factor * start, **tolerances.ELEMENTWISE)
