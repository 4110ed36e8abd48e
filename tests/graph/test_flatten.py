"""flatten, flat_layers and leaf_layers: the same function, the same layers, nothing nested."""

import warnings

import keras
import numpy as np
import pytest

from kerastl.graph import flat_layers, flatten, leaf_layers
from tests.golden.architectures import build

layers = keras.layers


def random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def dense_tower(name):
    """A small functional model whose layer is called `dense`, with keras.ops nodes in it."""
    inputs = keras.Input((8,))
    x = keras.ops.relu(layers.Dense(4, name="dense")(inputs)) * 2
    return keras.Model(inputs, x, name=name)


def nested_image_model():
    base = build("EfficientNetB0")
    inputs = keras.Input((64, 64, 3), name="pixels")
    x = layers.RandomFlip(name="flip")(inputs)
    x = layers.GlobalAveragePooling2D(name="pool")(base(x, training=False))
    x = layers.Dropout(0.2, name="drop")(x)
    return keras.Model(inputs, layers.Dense(3, name="classes")(x)), random(2, 64, 64, 3)


def integer_pixels():
    """The outer input is uint8 and the nested one float32, so a cast stands between."""
    base = keras.Sequential([keras.Input((4,)), layers.Rescaling(1 / 255), layers.Dense(2)])
    inputs = keras.Input((4,), dtype="uint8")
    return keras.Model(inputs, base(inputs)), np.arange(8, dtype="uint8").reshape(2, 4)


def siamese():
    base = dense_tower("tower")
    left, right = keras.Input((8,), name="left"), keras.Input((8,), name="right")
    return keras.Model([left, right], base(left) - base(right)), [random(3, 8), random(3, 8) + 1]


def nested_in_nested_dicts():
    """Two models deep, applied twice, dict in, dict out, three layers named `dense`."""
    inputs = keras.Input((8,))
    middle = keras.Model(inputs, [dense_tower("a")(inputs), dense_tower("b")(inputs)], name="m")
    x, y = keras.Input((8,), name="x"), keras.Input((8,), name="y")
    (p, q), (r, s) = middle(x), middle(y)
    sum_ = layers.Dense(2, name="dense")(keras.ops.concatenate([p, q - s]))
    outputs = {"sum": sum_, "rest": r}
    return keras.Model({"x": x, "y": y}, outputs), {"x": random(3, 8), "y": random(3, 8) + 1}


def masked():
    tokens = keras.Input((5,), dtype="int32")
    embed = keras.Sequential(
        [keras.Input((5,), dtype="int32"), layers.Embedding(7, 4, mask_zero=True)]
    )
    read = keras.Sequential(
        [
            keras.Input((5, 4)),
            layers.LSTM(3, return_sequences=True),
            layers.Bidirectional(layers.LSTM(2)),
        ]
    )
    ids = np.array([[1, 2, 0, 0, 0], [1, 2, 3, 4, 5], [3, 1, 2, 0, 0]])
    return keras.Model(tokens, layers.Dense(2)(read(embed(tokens)))), ids


def text_classifier():
    backbone = build("hub.BertBackbone")
    pooled = backbone(backbone.input)["pooled_output"]
    inputs = {
        "token_ids": np.arange(12).reshape(2, 6),
        "segment_ids": np.zeros((2, 6), "int32"),
        "padding_mask": np.array([[1, 1, 1, 0, 0, 0], [1] * 6]),
    }
    return keras.Model(backbone.input, layers.Dense(2, name="classes")(pooled)), inputs


def sequential():
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(4, name="inner")])
    return keras.Sequential([keras.Input((8,)), inner, layers.Dense(2)]), random(3, 8)


CASES = (
    nested_image_model,
    integer_pixels,
    siamese,
    nested_in_nested_dicts,
    masked,
    text_classifier,
    sequential,
)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.__name__)
def case(request):
    """`(model, data, outputs, flat layers, node count, flat model)`, flattened once a case."""
    keras.utils.set_random_seed(0)
    model, data = quiet(request.param)
    outputs = quiet(model.predict, data, verbose=0)
    before = count_nodes(model)
    found = flat_layers(model)
    after = count_nodes(model)
    return model, data, outputs, found, (before, after), quiet(flatten, model)


def quiet(function, *args, **kwargs):
    """Call without Keras's warning that a Sequential model does not pass a mask on (it does)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not support masking.*")
        return function(*args, **kwargs)


def count_nodes(model):
    return sum(len(layer._inbound_nodes) for layer in (*leaf_layers(model), *model.layers))


def assert_same(one, other):
    keras.tree.assert_same_structure(one, other)
    for a, b in zip(keras.tree.flatten(one), keras.tree.flatten(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_outputs_are_bit_equal(case):
    _, data, outputs, _, _, flat = case
    assert_same(outputs, quiet(flat.predict, data, verbose=0))


def test_weights_are_shared_and_none_is_lost(case):
    model, *_, flat = case
    assert {id(v) for v in flat.variables} == {id(v) for v in model.variables}


def test_nothing_nested_and_names_unique(case):
    *_, flat = case
    names = [operation.name for operation in flat.operations]
    assert len(set(names)) == len(names)
    assert not any(isinstance(layer, keras.Model) for layer in flat.layers)


def test_flat_layers_is_the_same_list_and_adds_no_node(case):
    *_, found, (before, after), flat = case
    assert [id(layer) for layer in found] == [id(layer) for layer in flat.layers]
    assert before == after


@pytest.mark.parametrize("case", CASES[1:], indirect=True, ids=lambda case: case.__name__)
def test_saves_and_loads(case, tmp_path):
    _, data, outputs, _, _, flat = case
    flat.save(tmp_path / "flat.keras")
    loaded = quiet(keras.models.load_model, tmp_path / "flat.keras")
    assert_same(outputs, quiet(loaded.predict, data, verbose=0))


def test_flattened_again_is_unchanged(case):
    *_, flat = case
    before = count_nodes(flat)
    again = flatten(flat)
    assert count_nodes(flat) == before
    assert [id(layer) for layer in again.layers] == [id(layer) for layer in flat.layers]


def test_mask_is_at_work_in_its_case():
    """Were masks lost on both sides, `masked` would prove nothing: padding must not matter."""
    model, ids = quiet(masked)
    flat = quiet(flatten, model)
    padded, cut = quiet(flat.predict, ids, verbose=0), ids.copy()
    cut[0] = [1, 2, 0, 0, 0]
    embedding = next(layer for layer in flat.layers if isinstance(layer, layers.Embedding))
    table = embedding.get_weights()[0]
    table[0] += 10  # only what is masked away reads row 0
    embedding.set_weights([table])
    np.testing.assert_array_equal(padded, quiet(flat.predict, cut, verbose=0))


def test_shared_base_is_listed_once():
    model, _ = siamese()
    names = [layer.name for layer in flat_layers(model)]
    assert names == ["left", "right", "dense"]


def test_clashing_names_get_the_path_of_their_model():
    model, _ = nested_in_nested_dicts()
    assert {layer.name for layer in flatten(model).layers} == {
        "x", "y", "dense", "m.a.dense", "m.b.dense",
    }  # fmt: skip


def test_flat_layers_renames_nothing():
    model, _ = nested_in_nested_dicts()
    assert [layer.name for layer in flat_layers(model)].count("dense") == 3


def test_recorded_training_is_dropped():
    base = keras.Sequential([keras.Input((4,)), layers.BatchNormalization(name="bn")])
    inputs = keras.Input((4,))
    flat = flatten(keras.Model(inputs, base(inputs, training=True)))
    x = random(64, 4) * 3 + 5
    np.testing.assert_array_equal(flat(x), base(x, training=False))


def test_subclass_and_name_of_the_result():
    class Special(keras.Model):
        pass

    flat = flatten(sequential()[0], cls=Special, name="special")
    assert (type(flat).__name__, flat.name) == ("Special", "special")
    assert isinstance(flat, Special)


class Opaque(keras.Model):
    """A subclassed model: `call` could do anything."""

    def __init__(self):
        super().__init__(name="opaque")
        self.inner = layers.Dense(3, name="inner")

    def call(self, x):
        return self.inner(x)


def test_nested_subclassed_model_stays_one_layer():
    inputs = keras.Input((4,), name="in")
    model = keras.Model(inputs, keras.Sequential([keras.Input((4,)), Opaque()])(inputs))
    assert [layer.name for layer in flat_layers(model)] == ["in", "opaque"]
    assert [layer.name for layer in leaf_layers(model)] == ["in", "inner"]


class Doubled(keras.Model):
    """A functional subclass whose `call` is not its graph."""

    def call(self, x):
        return 2 * super().call(x)


def test_nested_model_with_its_own_call_stays_one_layer():
    inputs = keras.Input((4,))
    double = Doubled(inputs, layers.Dense(2)(inputs), name="doubled")
    outer = keras.Input((4,))
    model = keras.Model(outer, layers.Dense(1)(double(outer)))
    assert "doubled" in [layer.name for layer in flatten(model).layers]
    x = random(3, 4)
    np.testing.assert_array_equal(model(x), flatten(model)(x))


def test_refuses_a_model_without_a_graph():
    with pytest.raises(ValueError, match=r"functional or Sequential.*'opaque'.*keras\.Input"):
        flatten(Opaque())
    inputs = keras.Input((4,))
    with pytest.raises(ValueError, match="runs_own_graph"):
        flatten(Doubled(inputs, layers.Dense(2)(inputs)))


def test_refuses_an_unbuilt_sequential():
    with pytest.raises(ValueError, match=r"must be built.*keras\.Input"):
        flatten(keras.Sequential([layers.Dense(2)]))


def test_refuses_what_is_no_model():
    with pytest.raises(TypeError, match=r"must be a keras\.Model"):
        flatten(layers.Dense(2))
    with pytest.raises(TypeError, match=r"must be a keras\.Layer"):
        leaf_layers("dense")


def test_leaves_of_a_composite_with_own_variables():
    class Scaled(layers.Layer):
        def __init__(self):
            super().__init__(name="scaled")
            self.inner = layers.Dense(3, name="inner")

        def build(self, shape):
            self.scale = self.add_weight(shape=(3,), name="scale")
            self.inner.build(shape)

        def call(self, x):
            return self.scale * self.inner(x)

    inputs = keras.Input((4,), name="in")
    model = keras.Model(inputs, Scaled()(inputs))
    assert [layer.name for layer in leaf_layers(model)] == ["in", "scaled", "inner"]


def test_leaves_do_not_depend_on_nesting():
    model, _ = nested_image_model()
    found = [id(layer) for layer in leaf_layers(model)]
    assert found == [id(layer) for layer in leaf_layers(flatten(model))]
