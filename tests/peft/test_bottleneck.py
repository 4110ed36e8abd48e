"""Bottleneck adapters: their formula, and where in a network they are."""

import keras
import keras_hub
import numpy as np
import pytest

from kerastl import FineTuner, peft
from tests.peft.peft_cases import gpt2, llama, moved, tuner, vit
from tests.tolerances import REDUCTION


def adapter_of(y, member, scale=1.0):
    """scale · up(relu(down(y))) in float64; Houlsby et al., 2019, figure 2."""
    down, down_bias, up, up_bias = (weight.numpy().astype("float64") for weight in member.weights)
    return scale * (np.maximum(y @ down + down_bias, 0) @ up + up_bias)


def one_layer(layer, shape):
    inputs = keras.Input(shape)
    model = FineTuner(inputs, layer(inputs))
    peft.add(model, peft.BottleneckAdapter(reduction=2, scale=1.5), layer.name, also_train=())
    return moved(model), model.adapter_bank.named["default"].members[0]


@pytest.mark.parametrize(
    "layer, shape",
    [
        (keras.layers.Dense(6, activation="tanh", name="block_1"), (4,)),
        (keras.layers.EinsumDense("abhd,hdm->abm", (None, 6), name="block_1"), (5, 2, 3)),
        (keras.layers.Conv1D(6, 3, strides=2, name="block_1"), (9, 4)),
        (keras.layers.Conv2D(6, 3, groups=2, activation="relu", name="block_1"), (7, 8, 4)),
        (keras.layers.Conv3D(6, 2, name="block_1"), (3, 4, 5, 2)),
    ],
)
def test_after_a_layer(layer, shape):
    model, member = one_layer(layer, shape)
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    with peft.disabled(model):
        y = np.asarray(model(x), "float64")
    np.testing.assert_allclose(model(x), y + adapter_of(y, member, 1.5), **REDUCTION)


@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2", "vit"])
def test_beside_the_feed_forward_part(kind):
    """Llama's gate reads the same `x`."""
    _, model = tuner(kind)
    method = peft.BottleneckAdapter("parallel", reduction=2, scale=4.0)
    added = peft.add(model, method)
    assert len(added.paths) == 2
    moved(model)
    member = model.adapter_bank.named["default"].members[0]
    block = member.beside.layer
    given = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")
    seen, between = {}, member.hooks()[0][0]
    call = between.call

    def spy(inputs, *args, **kwargs):
        seen["x"] = np.asarray(inputs, "float64")
        return call(inputs, *args, **kwargs)

    between.__dict__["call"], before = spy, between.__dict__["call"]
    with_adapter = np.asarray(block(given), "float64")
    between.__dict__["call"] = before
    with peft.disabled(model):
        without = np.asarray(block(given), "float64")
    if kind != "bert":  # where nothing but the sum comes after
        added_here = adapter_of(seen["x"], member, 4.0)
        np.testing.assert_allclose(with_adapter, without + added_here, rtol=1e-4, atol=1e-5)
    assert not np.allclose(with_adapter, without, atol=1e-3)


@pytest.mark.parametrize("make", [gpt2, llama, vit])
@pytest.mark.parametrize("style, count", [("houlsby", 4), ("pfeiffer", 2), ("parallel", 2)])
def test_where_they_are(make, style, count):
    base = make()
    model = FineTuner.from_model(keras.Model(base.input, base.output))
    added = peft.add(model, peft.BottleneckAdapter(style, reduction=2), also_train=())
    assert len(added.paths) == count
    ends = {path.split("/")[-1] for path in added.paths}
    if style == "houlsby":
        assert ends in ({"attention_output", "feedforward_output_dense"},
                        {"attention_output", "dense_2"})  # fmt: skip
    assert style != "pfeiffer" or ends <= {"feedforward_output_dense", "dense_2"}


def test_where_names_a_block():
    _, model = tuner("bert")
    added = peft.add(model, peft.BottleneckAdapter("houlsby", reduction=2), "transformer_layer_1")
    assert added.paths == (
        "transformer_layer_1/self_attention_layer/attention_output",
        "transformer_layer_1/feedforward_output_dense",
    )
    with pytest.raises(ValueError, match=r"attention_output.*in style 'houlsby'"):
        peft.add(model, peft.BottleneckAdapter("houlsby"), ".*/query", name="other")
    with pytest.raises(ValueError, match=r"do not add up"):
        peft.add(model, peft.BottleneckAdapter("pfeiffer", reduction=2), name="other")
        peft.activate(model, ["default", "other"])


def test_the_weights_of_one_adapter_of_bert_base():
    """2 · 768 · 48 + 48 + 768, since 768 / 16 = 48."""
    layer = keras.layers.Dense(768, name="feedforward_output_dense")
    layer.build((None, 3072))
    adapter = peft.BottleneckAdapter("houlsby").adapter(layer, "output")
    assert sum(int(np.prod(weight.shape)) for weight in adapter.weights) == 74_544


def test_albert_has_one_adapter_for_the_layers_that_it_shares():
    base = keras_hub.models.AlbertBackbone(40, 3, 2, 8, 8, 16, max_sequence_length=12)
    model = FineTuner.from_model(keras.Model(base.input, base.output["sequence_output"]))
    assert len(peft.add(model, peft.BottleneckAdapter(reduction=2), also_train=()).paths) == 1
    assert len(peft.add(model, peft.PrefixTuning(3), also_train=(), name="prefix").paths) == 1
