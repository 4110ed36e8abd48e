"""layer_groups: golden tables, coverage by identity, and nothing that shifts."""

import json
import pathlib

import keras
import pytest

from kerastl.freezing import freeze_to
from kerastl.graph import LayerGroups, flat_layers, flatten, layer_groups, leaf_layers
from kerastl.plans import Phase, TransferPlan
from tests.golden.architectures import APPLICATIONS, NAMES, build, describe

layers = keras.layers
GOLDEN = json.loads(
    (pathlib.Path(__file__).parents[1] / "golden" / "layer_groups.json").read_text()
)


def with_head(base, **options):
    """What a user builds: augmentation, the backbone nested, a new top."""
    inputs = keras.Input(base.input_shape[1:], name="pixels", **options)
    x = base(layers.RandomFlip(name="flip")(inputs), training=False)
    x = layers.GlobalAveragePooling2D(name="pool")(x) if len(x.shape) == 4 else x[:, 0]
    x = layers.Dropout(0.2, name="drop")(x)
    return keras.Model(inputs, layers.Dense(3, name="classes")(x))


def weighty(groups, name):
    return [id(unit) for unit in groups[name] if unit.weights]


@pytest.mark.parametrize("name", NAMES)
def test_golden(name):
    assert describe(layer_groups(build(name))) == GOLDEN[name]


@pytest.mark.parametrize("name", NAMES)
def test_each_variable_and_leaf_is_in_exactly_one_group(name):
    model = build(name)
    groups = layer_groups(model)
    variables = [id(v) for group in groups for v in groups.variables(group)]
    assert len(variables) == len(set(variables))
    assert set(variables) == {id(v) for v in model.variables}
    units = [id(unit) for _, members in groups.items() for unit in members]
    assert sorted(units) == sorted(id(layer) for layer in leaf_layers(model))
    assert all(groups.variables(group) for group in groups)


@pytest.mark.parametrize("name", NAMES)
def test_golden_sums_are_the_models(name):
    rows = GOLDEN[name]["groups"].values()
    assert sum(row["weights"] for row in rows) == build(name).count_params()


@pytest.mark.parametrize("name", [*APPLICATIONS, "hub.ViTBackbone", "hub.ResNetBackbone"])
def test_users_model_gives_the_backbones_groups_and_a_head(name):
    base = build(name)
    bare, full = layer_groups(base), layer_groups(with_head(base))
    assert full.names == (*bare.names, "head")
    assert full.family == bare.family
    assert all(weighty(full, group) == weighty(bare, group) for group in bare)
    assert [unit.name for unit in full["head"] if unit.weights] == ["classes"]
    assert full.group_of(next(u for u in full[0] if u.name == "flip")) == full.names[0]


def test_flattening_changes_no_group():
    model = with_head(build("NASNetMobile"))
    nested = layer_groups(model)
    flat = layer_groups(flatten(model))
    assert flat.names == nested.names
    assert all(list(map(id, flat[g])) == list(map(id, nested[g])) for g in flat)


def test_flattened_towers_with_clashing_names_keep_their_groups():
    left, right = (keras.applications.MobileNet(
        input_shape=(32, 32, 3), alpha=0.25, include_top=False, weights=None, pooling="avg",
        name=name) for name in ("left", "right"))  # fmt: skip
    inputs = keras.Input((32, 32, 3))
    model = keras.Model(inputs, layers.Dense(2)(layers.Add()([left(inputs), right(inputs)])))
    nested = layer_groups(model)
    flat = layer_groups(flatten(model))
    assert nested.names == flat.names
    assert all(weighty(nested, group) == weighty(flat, group) for group in nested)
    assert len(weighty(nested, "block_5")) == 2 * len(weighty(layer_groups(left), "block_5"))


def test_rescaling_of_imagenet_weights_shifts_nothing(monkeypatch):
    """With `weights="imagenet"` EfficientNetB0 gets one more Rescaling; only the file is faked."""
    monkeypatch.setattr(
        "keras.src.applications.efficientnet.file_utils.get_file", lambda *a, **k: "none"
    )
    monkeypatch.setattr(keras.Model, "load_weights", lambda self, path: None)
    plain = build("EfficientNetB0")
    pretrained = keras.applications.EfficientNetB0(
        include_top=False, weights="imagenet", input_shape=(64, 64, 3)
    )
    assert len(flat_layers(pretrained)) == len(flat_layers(plain)) + 1
    one, other = layer_groups(plain), layer_groups(pretrained)
    assert one.names == other.names
    for group in one.names:
        names = [[u.name for u in g[group] if u.weights and "norm" not in u.name]
                 for g in (one, other)]  # fmt: skip
        assert names[0] == names[1]
    assert len(other["stem"]) == len(one["stem"]) + 1
    assert [len(other[g]) for g in other.names[1:]] == [len(one[g]) for g in one.names[1:]]


def test_running_numbers_in_names_shift_nothing():
    first = build("InceptionV3")
    second = keras.applications.InceptionV3(
        include_top=False, weights=None, input_shape=(75, 75, 3)
    )
    assert [layer.name for layer in first.layers] != [layer.name for layer in second.layers]
    assert describe(layer_groups(second)) == GOLDEN["InceptionV3"]


def test_renamed_model_is_still_known():
    model = keras.applications.ConvNeXtTiny(
        include_top=False, weights=None, input_shape=(32, 32, 3), name="mine"
    )
    assert layer_groups(model).names == tuple(GOLDEN["ConvNeXtTiny"]["groups"])


def test_classification_top_is_head():
    model = keras.applications.MobileNet(input_shape=(32, 32, 3), alpha=0.25, weights=None)
    groups = layer_groups(model)
    assert groups.names[-1] == "head"
    assert [unit.name for unit in groups["head"] if unit.weights] == ["conv_preds"]


def test_second_input_beside_the_backbone_is_head():
    base = build("MobileNetV2")
    image, table = keras.Input((64, 64, 3)), keras.Input((5,), name="table")
    x = layers.Dense(4, name="deeper")(layers.Dense(4, name="deep")(table))
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(base(image)), x])
    groups = layer_groups(keras.Model([image, table], layers.Dense(2, name="classes")(x)))
    head = {unit.name for unit in groups["head"]}
    assert {"table", "deep", "deeper", "classes"} <= head
    assert all(weighty(groups, g) == weighty(layer_groups(base), g) for g in groups.names[:-1])


def test_truncated_backbone_is_still_known():
    base = build("EfficientNetB0")
    x = layers.GlobalAveragePooling2D()(base.get_layer("block4c_add").output)
    groups = layer_groups(keras.Model(base.input, layers.Dense(2)(x)))
    assert groups.names == ("stem", "block_1", "block_2", "block_3", "block_4", "head")


def test_unused_part_of_a_nested_model_is_covered():
    """Of BERT only the sequence is read: the pooler has no place in the flat graph."""
    backbone = build("hub.BertBackbone")
    sequence = backbone(backbone.input)["sequence_output"]
    model = keras.Model(backbone.input, layers.Dense(2, name="tags")(sequence))
    groups = layer_groups(model)
    assert groups.names == ("embeddings", "layer_0", "layer_1", "pooler", "head")
    assert "pooled_dense" not in [layer.name for layer in flat_layers(model)]
    assert groups.indices("pooler") is None


def test_hub_tasks():
    import keras_hub

    task = keras_hub.models.BertTextClassifier(backbone=build("hub.BertBackbone"), num_classes=2)
    assert layer_groups(task).names[-2:] == ("pooler", "head")
    task = keras_hub.models.RobertaMaskedLM(backbone=build("hub.RobertaBackbone"))
    groups = layer_groups(task)  # the head holds the token embedding a second time
    assert groups.group_of(build("hub.RobertaBackbone").token_embedding) == "embeddings"
    task = keras_hub.models.GPT2CausalLM(backbone=build("hub.GPT2Backbone"))
    assert layer_groups(task).names == ("embeddings", "layer_0", "layer_1", "final_norm")


def test_generic_model():
    body = [
        layer
        for i in range(3)
        for layer in (layers.Conv2D(2, 3), layers.BatchNormalization(), layers.ReLU())
    ]
    top = [layers.Flatten(), layers.Dense(4), layers.Dropout(0.5), layers.Dense(2)]
    model = keras.Sequential([keras.Input((12, 12, 1)), *body, *top])
    groups = layer_groups(model)
    assert groups.family == "generic"
    assert groups.names == ("block_1", "block_2", "block_3", "head")
    assert list(groups["block_2"]) == body[3:6]
    assert list(groups["head"]) == top


def test_generic_model_has_at_most_eight_blocks_and_keeps_name_blocks_whole():
    """20 runs of two layers: run i goes to block 8 i // 20, so block 1 has runs 0, 1 and 2."""
    body = [layers.Dense(3, name=f"enc_{i}_{part}") for i in range(20) for part in ("a", "b")]
    model = keras.Sequential([keras.Input((3,)), *body, layers.Dense(2, name="classes")])
    groups = layer_groups(model)
    assert groups.names == (*(f"block_{i}" for i in range(1, 9)), "head")
    assert [unit.name for unit in groups["block_1"]][1:] == [
        "enc_0_a", "enc_0_b", "enc_1_a", "enc_1_b", "enc_2_a", "enc_2_b",
    ]  # fmt: skip
    assert [unit.name for unit in groups["head"]] == ["classes"]


def test_one_layer_model():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    assert layer_groups(model).names == ("block_1",)


def test_two_different_backbones_are_generic():
    image, other = keras.Input((64, 64, 3)), keras.Input((64, 64, 3))
    pool = layers.GlobalAveragePooling2D()
    x = layers.Concatenate()(
        [pool(build("MobileNetV2")(image)), pool(build("MobileNetV3Small")(other))]
    )
    groups = layer_groups(keras.Model([image, other], layers.Dense(2)(x)))
    assert groups.family == "generic"


def test_variables_beside_the_graph_are_refused():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Dense(2)(inputs), name="leaky")
    model.beside = layers.Dense(2, name="beside")
    model.beside.build((None, 3))
    with pytest.raises(ValueError, match=r"'leaky'.*Left over: beside/kernel, beside/bias"):
        layer_groups(model)


def test_a_layer_in_two_groups_is_refused():
    layer = layers.Dense(2, name="twice")
    with pytest.raises(ValueError, match=r"exactly one group.*'twice' in 'stem' and in 'head'"):
        LayerGroups({"stem": [layer], "head": [layer]})


def test_tied_weights_belong_to_the_first_layer_that_holds_them():
    first, second = layers.Dense(3, name="first"), layers.Dense(3, name="second", use_bias=False)
    first.build((None, 3))
    second.tied = first.kernel
    groups = LayerGroups({"stem": [first], "head": [second]})
    assert groups.variables("head") == []
    assert groups.group_of(first.kernel) == "stem"


def test_reading_groups():
    model = build("MobileNetV2")
    groups = layer_groups(model)
    assert len(groups) == len(groups.names) == len(list(groups))
    assert "stem" in groups
    assert "block_99" not in groups
    assert groups[0] == groups["stem"] == dict(groups.items())["stem"]
    assert groups[-1] == groups["top"]
    assert groups.group_of(model.get_layer("block_3_expand").kernel) == "block_3"
    assert groups.indices("stem") == (0, 3)
    table = repr(groups).splitlines()
    assert table[0] == "LayerGroups (mobilenet_v2), 19 groups"
    assert table[2].split() == ["stem", "0–3", "4", "496", model.layers[0].name, "Conv1_relu"]


def test_group_of_a_composite():
    model = build("hub.ViTBackbone")
    groups = layer_groups(model)
    encoder = model.get_layer("vit_encoder")
    assert groups.group_of(encoder.encoder_layers[0]) == "layer_1"
    with pytest.raises(ValueError, match="spread over"):
        groups.group_of(encoder)
    with pytest.raises(ValueError, match="in none of"):
        groups.group_of(layers.Dense(2))


def test_unknown_group_names_the_nearest():
    groups = layer_groups(build("MobileNetV2"))
    with pytest.raises(KeyError, match="Closest: 'block_1'"):
        groups["blok_1"]
    with pytest.raises(IndexError, match=r"\[-19, 18\]"):
        groups[19]


def test_the_last_layers_of_albert_are_refused_with_the_reason():
    """Its layers are one, applied again and again."""
    model = build("hub.AlbertBackbone")
    groups = layer_groups(model)
    reason = "ALBERT applies the same layer again"
    with pytest.raises(KeyError, match=reason):
        groups["layer_1"]
    with pytest.raises(IndexError, match=reason):
        groups[-4]
    with pytest.raises(ValueError, match=reason):
        freeze_to(model, -4)
    with pytest.raises(ValueError, match=reason):
        TransferPlan([Phase(1, 4)]).resolve(groups)
    assert layer_groups(build("hub.BertBackbone")).note == ""
