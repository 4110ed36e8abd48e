"""select_layers: every form of `where`, and a clear refusal of everything else."""

import keras
import numpy as np
import pytest

from kerastl.graph import flat_layers, layer_groups, leaf_layers, select_layers
from tests.golden.architectures import build

layers = keras.layers


def names(model, where):
    return [layer.name for layer in select_layers(model, where)]


@pytest.fixture(scope="module")
def nested():
    base = build("MobileNetV2")
    inputs = keras.Input((64, 64, 3), name="pixels")
    x = layers.GlobalAveragePooling2D(name="pool")(base(inputs))
    return keras.Model(inputs, layers.Dense(3, name="classes")(x), name="mine")


@pytest.fixture(scope="module")
def towers():
    def tower(name):
        inputs = keras.Input((4,))
        x = layers.Dense(3, name="dense")(inputs)
        return keras.Model(inputs, layers.Dense(3, name=f"out_{name}")(x), name=name)

    left, right = keras.Input((4,), name="l"), keras.Input((4,), name="r")
    x = layers.Add(name="add")([tower("a")(left), tower("b")(right)])
    return keras.Model([left, right], layers.Dense(2, name="head")(x), name="pair")


def test_exact_path(nested):
    assert names(nested, "block_3_expand") == ["block_3_expand"]


def test_path_through_a_nested_model(nested):
    base = build("MobileNetV2").name
    assert names(nested, f"{base}/block_3_expand") == ["block_3_expand"]
    assert len(select_layers(nested, base)) == len(flat_layers(nested)) - 3


def test_regex_matches_the_whole_path(nested):
    found = names(nested, r"block_3_.*")
    assert len(found) == 9
    assert all(name.startswith("block_3_") for name in found)
    with pytest.raises(ValueError, match="No layer"):
        select_layers(nested, "lock_3_.*")


def test_group_name(nested):
    found = select_layers(nested, "block_16")
    assert found == list(layer_groups(nested)["block_16"])


def test_index_and_slice_mean_the_flat_list(nested):
    flat = flat_layers(nested)
    assert select_layers(nested, 2) == [flat[2]]
    assert select_layers(nested, -1) == [flat[-1]]
    assert select_layers(nested, np.int64(2)) == [flat[2]]
    assert select_layers(nested, slice(0, 100)) == flat[:100]
    assert select_layers(nested, slice(-3, None)) == flat[-3:]


def test_layer_and_list(nested):
    top = nested.get_layer("classes")
    assert select_layers(nested, top) == [top]
    assert names(nested, [top, "block_3_expand", ("pool", -1)]) == [
        "classes", "block_3_expand", "pool",
    ]  # fmt: skip
    assert select_layers(nested, nested) == leaf_layers(nested)
    assert len(select_layers(nested, build("MobileNetV2"))) == len(flat_layers(nested)) - 3


def test_parts_of_a_composite():
    model = build("hub.BertBackbone")
    block = model.get_layer("transformer_layer_1")
    assert select_layers(model, "transformer_layer_1") == leaf_layers(block)
    assert select_layers(model, block) == leaf_layers(block)
    assert names(model, "transformer_layer_1/self_attention_layer/query") == ["query"]
    assert len(select_layers(model, r"transformer_layer_\d/self_attention_layer/(query|key)")) == 4
    attention = select_layers(model, "transformer_layer_0/self_attention_layer")
    assert [layer.name for layer in attention][:3] == ["query", "key", "value"]


def test_own_name_of_two_layers_is_refused(towers):
    with pytest.raises(ValueError, match=r"name of a/dense, b/dense.*'\.\*/dense'"):
        select_layers(towers, "dense")
    assert select_layers(towers, "a/dense") == [towers.get_layer("a").get_layer("dense")]
    assert len(select_layers(towers, ".*/dense")) == 2
    assert names(towers, "a") == ["dense", "out_a"]


def test_name_of_a_layer_and_a_group(towers):
    """`head` is the last Dense and the group of just that layer's weights: no conflict."""
    assert "head" in names(towers, "head")


def test_name_of_a_layer_and_another_group_is_refused():
    inputs = keras.Input((4,))
    x = layers.Dense(3, name="body")(inputs)
    x = layers.Dense(3, name="between")(layers.Flatten()(x))
    model = keras.Model(inputs, layers.Dense(2, name="head")(x))
    with pytest.raises(ValueError, match=r"'head', which is a layer and also a group of 3"):
        select_layers(model, "head")


def test_nothing_matches_names_the_nearest():
    with pytest.raises(ValueError) as error:
        select_layers(build("ResNet50"), "conv5_blok3_out")
    message = str(error.value)
    assert message.startswith("No layer of 'resnet50' matches `where`. Received: where='conv5_blok")
    assert "Closest: 'conv5_block3_out'" in message
    assert "A string is a whole path; use a regex such as 'conv5_block3.*'" in message


# MobileNetV2 has 154 layers; nested, its input layer goes and three layers come: 156.
@pytest.mark.parametrize(
    ("where", "error", "match"),
    [
        (True, TypeError, "where=True"),
        (None, TypeError, "NoneType"),
        (1.5, TypeError, "float"),
        (500, ValueError, r"\[-156, 155\].*where=500"),
        (slice(500, 600), ValueError, "at least one of the 156"),
        ([], ValueError, "at least one layer"),
        ("block_(", ValueError, "valid regex"),
        (layers.Dense(2, name="clases"), ValueError, "Closest: 'classes'"),
    ],
)
def test_refusals(nested, where, error, match):
    with pytest.raises(error, match=match):
        select_layers(nested, where)
