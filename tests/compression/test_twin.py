"""The twin computes what the Keras 3 model computes, with the same weights, and says what not."""

import keras
import numpy as np
import pytest
from keras import layers as kl

from kerastl.compression import island, twin
from kerastl.compression.twin import layers
from kerastl.freezing import freeze, unfreeze
from kerastl.training import FineTuner
from tests.compression import twin_cases
from tests.tolerances import ELEMENTWISE, EXACT, REDUCTION

DEFAULT = ("MobileNetV2", "MobileNetV3Small", "ResNet50V2", "EfficientNetB0", "ConvNeXtTiny")


def predictions(model, x):
    """One step of inference, untraced for small models: tracing costs more than it saves."""
    return keras.tree.map_structure(np.asarray, model(x, training=False))


def assert_parity(made, model, x, tolerance=REDUCTION):
    ours, theirs = predictions(model, x), predictions(made.model, x)
    keras.tree.assert_same_structure(ours, theirs)
    for a, b in zip(keras.tree.flatten(ours), keras.tree.flatten(theirs), strict=True):
        assert np.isfinite(a).all()
        scale = max(1.0, float(np.abs(a).max()))
        np.testing.assert_allclose(b / scale, a / scale, **tolerance)


def by_layer(made):
    """Pairs of arrays, `(Keras 3 weight, tf_keras weight)`, for all that has an equal."""
    pairs = [pair for entry in made.entries if entry.pairs for pair in entry.pairs]
    return [(np.asarray(a), b.numpy()) for a, b in pairs]


def assert_weights_equal(made):
    for ours, theirs in by_layer(made):
        np.testing.assert_array_equal(theirs, ours)


# --- networks -------------------------------------------------------------------------------------


@pytest.mark.slow_but("MobileNetV2", "EfficientNetB0")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in DEFAULT else pytest.mark.slow)
        for name in twin_cases.NETWORKS
    ],
)
def test_network(name):
    """Outputs equal; nothing wrapped but the one custom layer; weights there and back exactly."""
    model, x = twin_cases.network(name)
    made = twin(model)
    ours, theirs = model.predict_on_batch(x), made.model.predict_on_batch(x)
    scale = np.abs(ours).max()
    assert np.isfinite(scale) and np.ptp(ours) > 0.1 * scale
    np.testing.assert_allclose(theirs / scale, ours / scale, **REDUCTION)
    kinds = {type(e.operation).__name__ for e in made.entries if e.pairs is None}
    assert kinds == ({"LayerScale"} if name == "ConvNeXtTiny" else set())
    assert len(made.model.layers) == len(made.source.operations)
    assert len(made.model.weights) == len(model.weights)
    before = model.get_weights()
    twin_cases.perturb(v for e in made.entries if e.pairs for _, v in e.pairs)
    made.pull()
    assert_weights_equal(made)
    model.set_weights(before)
    made.push()
    assert_weights_equal(made)
    assert sum(len(e.pairs) for e in made.entries if e.pairs) > 10
    np.testing.assert_array_equal(made.model.predict_on_batch(x), theirs)


# --- layers ---------------------------------------------------------------------------------------


def test_every_class_with_an_equal_is_tried():
    tried = [layer for group in twin_cases.LAYERS.values() for layer in group]
    assert {type(layer).__name__ for layer in [*tried, *twin_cases.MERGES]} == layers._EQUAL


@pytest.mark.parametrize("shape", twin_cases.LAYERS, ids=str)
def test_layers(shape):
    model = twin_cases.one_model(twin_cases.LAYERS[shape], shape)
    x = np.random.default_rng(0).uniform(0, 4.9, (2, *shape)).astype("float32")
    made = twin(model)
    assert made.wrapped == {}
    assert_parity(made, model, x)
    assert_weights_equal(made)


def test_merging_layers():
    model = twin_cases.one_model(twin_cases.MERGES, (4, 3), num_inputs=2)
    rng = np.random.default_rng(0)
    made = twin(model)
    assert made.wrapped == {}
    assert_parity(made, model, [rng.normal(size=(2, 4, 3)).astype("float32") for _ in range(2)])


def test_operation_nodes():
    x, y = keras.Input((4, 4, 6)), keras.Input((4, 4, 6))
    nodes = {**twin_cases.EQUAL_NODES, **twin_cases.OTHER_NODES}
    model = keras.Model([x, y], {name: node(x, y) for name, node in nodes.items()})
    made = twin(model)
    rng = np.random.default_rng(0)
    assert_parity(made, model, [rng.normal(size=(2, 4, 4, 6)).astype("float32") for _ in range(2)])
    assert set(made.wrapped.values()) == {
        "GetItem", "Split", "Reshape", "division of a number by a tensor", "Mean over axes [-1]",
        "Exp", "Cast", "Pad other than with zeros around the sides", "Add",
    }  # fmt: skip
    assert len(made.wrapped) == len(twin_cases.OTHER_NODES)


def test_every_activation_that_keras_names():
    names = [
        name
        for name, function in vars(keras.activations).items()
        if callable(function) and name not in ("get", "serialize", "deserialize", "threshold")
    ]
    assert len(names) > 25
    model = twin_cases.one_model([kl.Activation(name) for name in names], (4, 6))
    made = twin(model)
    x = 3 * np.random.default_rng(0).normal(size=(2, 4, 6)).astype("float32")
    assert_parity(made, model, x, ELEMENTWISE)
    # `glu` halves the channels, and Keras's Activation promises that it does not.
    assert [why.split()[0] for why in made.wrapped.values()] == ["output"]


def test_hard_sigmoid_is_that_of_keras_3():
    """relu6(x + 3) / 6, by hand; tf_keras clips x / 5 + 1 / 2."""
    x = keras.ops.array([-4.0, -3.0, -1.5, 0.0, 1.5, 3.0], "float32")
    expected = np.array([0.0, 0.0, 0.25, 0.5, 0.75, 1.0])
    function = layers.spelled(keras.activations.hard_sigmoid)
    np.testing.assert_allclose(function(x), expected, **ELEMENTWISE)
    assert np.abs(island.tf_keras().activations.hard_sigmoid(x) - expected).max() > 0.04


def test_normalization_that_adapted():
    layer = kl.Normalization()
    layer.adapt(np.random.default_rng(0).normal(2, 3, (50, 4)).astype("float32"))
    model = keras.Sequential([keras.Input((4,)), layer])
    made = twin(model)
    x = np.ones((2, 4), "float32")
    assert made.wrapped == {} and np.abs(predictions(model, x) - x).max() > 0.5
    assert_parity(made, model, x)
    made.layer_of(layer.name).adapt(np.random.default_rng(1).normal(5, 2, (50, 4)))
    before = predictions(model, x)
    made.pull()
    assert np.abs(predictions(model, x) - before).max() > 0.5
    assert_parity(made, model, x)


# --- graphs ---------------------------------------------------------------------------------------


def test_shared_layers_and_structures():
    """A siamese pair of a nested model, dicts at both ends: one set of weights."""
    base = keras.Sequential([keras.Input((4,)), kl.Dense(3, "gelu", name="base"), kl.Dropout(0.3)])
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    difference = kl.Subtract()([base(a), base(b)])
    model = keras.Model({"a": a, "b": b}, {"same": kl.Dense(2)(difference), "code": difference})
    made = twin(model)
    rng = np.random.default_rng(0)
    x = {key: rng.normal(size=(3, 4)).astype("float32") for key in ("a", "b")}
    assert_parity(made, model, x)
    assert len(made.model.weights) == len(model.weights) == 4
    assert made.layer_of("base") is made.layer_of(base.layers[0])
    assert made.source_of(made.layer_of("base")) is base.layers[0]
    assert len(made.layer_of("base")._inbound_nodes) == 2


def test_names_that_tf_keras_refuses():
    inputs = keras.Input((4,), name="_in")
    x = kl.Dense(4, name="_hidden")(inputs)
    model = keras.Model(inputs, kl.Dense(2, name="x_hidden")(x))
    made = twin(model)
    assert_parity(made, model, np.ones((1, 4), "float32"))
    assert made.layer_of("_hidden") is not made.layer_of("x_hidden")


def test_masks_travel():
    """Zeros are left out of a mean after a dense layer and a recurrent one."""
    tokens = keras.Input((6,), dtype="int32")
    x = kl.Embedding(10, 4, mask_zero=True)(tokens)
    x = kl.Dense(5, name="dense")(x)
    x = kl.LSTM(3, return_sequences=True, name="lstm")(x)
    model = keras.Model(tokens, [x, kl.GlobalAveragePooling1D(name="mean")(x)])
    made = twin(model)
    data = np.array([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 8, 9]], "int32")
    assert_parity(made, model, data)
    assert {name.partition("_equal")[0] for name in made.wrapped} == {"not", "lstm", "mean"}
    steps, mean = predictions(made.model, data)
    np.testing.assert_allclose(mean[0], steps[0, :3].mean(axis=0), **REDUCTION)
    assert np.abs(mean[0] - steps[0].mean(axis=0)).max() > 1e-4


@pytest.mark.filterwarnings("ignore:Layer .* does not support masking:UserWarning")
def test_masks_end_where_keras_3_ends_them():
    """Neither a product with a number nor a convolution hands a mask on, and both still run."""
    tokens = keras.Input((6,), dtype="int32")
    x = kl.Embedding(10, 4, mask_zero=True)(tokens)
    outputs = [2 * x, kl.Conv1D(3, 2, name="conv")(x), kl.Dense(3)(x)]
    model = keras.Model(tokens, outputs)
    made = twin(model)
    assert list(made.wrapped.values()) == ["a mask", "a mask"]
    assert_parity(made, model, np.array([[1, 2, 3, 0, 0, 0]], "int32"))
    assert [getattr(x, "_keras_mask", None) is None for x in made.model.outputs] == [1, 1, 0]


def test_mixed_precision_stays():
    model = keras.Sequential(
        [keras.Input((4,)), kl.Dense(3, dtype="mixed_bfloat16"), kl.Dense(2, dtype="float32")]
    )
    made = twin(model)
    assert made.model.layers[1].compute_dtype == "bfloat16" and made.wrapped == {}
    assert_parity(made, model, np.ones((1, 4), "float32"))


# --- what runs as it is ---------------------------------------------------------------------------


@keras.saving.register_keras_serializable("test_twin")
class Noisy(kl.Layer):
    """Scales, and adds noise in training; with a penalty on outputs and one on weights."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seeds = keras.random.SeedGenerator(1)

    def build(self, shape):
        self.scale = self.add_weight(
            shape=(shape[-1],), initializer="ones", regularizer=keras.regularizers.L2(0.5)
        )

    def call(self, x, power=1, training=None):
        self.add_loss(keras.ops.mean(x**2))
        noise = keras.random.normal(keras.ops.shape(x), seed=self.seeds) if training else 0.0
        return (x * self.scale) ** power + noise


def noisy_model():
    inputs = keras.Input((4,))
    noisy = Noisy(name="noisy")
    return keras.Model(inputs, kl.Dense(1, name="head")(noisy(noisy(inputs), power=2)))


def test_custom_layer_runs_as_it_is():
    """Called twice with other arguments: one layer, its own weights, losses counted once each."""
    model = noisy_model()
    made = twin(model)
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    assert list(made.wrapped) == ["noisy"] and len(made.model.weights) == 3
    model(x)
    expected = sorted(float(loss) for loss in model.losses)
    assert len(expected) == 3
    made.model(x)
    np.testing.assert_allclose(sorted(map(float, made.model.losses)), expected, **ELEMENTWISE)
    assert_parity(made, model, x)
    assert np.abs(np.subtract(made.model(x, training=True), made.model(x, training=True))).max() > 0
    variable = model.get_layer("noisy").scale.value
    assert any(weight is variable for weight in made.model.trainable_weights)
    variable.assign([2.0, 2.0, 2.0, 2.0])
    assert_parity(made, model, x)


def test_wrapped_layers_can_be_cloned_and_saved(tmp_path):
    import tensorflow as tf

    model = noisy_model()
    made = twin(model)
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    clone = island.tf_keras().models.clone_model(made.model)
    clone.set_weights(made.model.get_weights())
    np.testing.assert_array_equal(clone(x), made.model(x))
    clone.get_layer("noisy").weights[0].assign([5.0, 5.0, 5.0, 5.0])
    np.testing.assert_array_equal(model.get_layer("noisy").scale, np.ones(4))
    made.model.export(str(tmp_path / "saved"))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_allclose(loaded.serve(x), made.model(x), **REDUCTION)


def test_lora_and_quantized_kernels_are_wrapped():
    model = keras.Sequential(
        [keras.Input((4,)), kl.Dense(3, name="lora"), kl.Dense(3, name="int8"), kl.Dense(2)]
    )
    model.get_layer("lora").enable_lora(1)
    twin_cases.perturb(model.get_layer("lora").weights)
    model.get_layer("int8").quantize("int8")
    made = twin(model)
    assert set(made.wrapped) == {"lora", "int8"}
    assert_parity(made, model, np.ones((1, 4), "float32"))


def test_arguments_without_an_equal_are_wrapped():
    """One that tf_keras lacks, one that it refuses, one that it takes for another formula."""

    class Own(keras.regularizers.Regularizer):
        def get_config(self):
            return {}

    dropout = kl.Dropout(0.5, name="refused")
    dropout.rate = 2.0
    own = kl.Dense(3, kernel_regularizer=Own(), name="own")
    renormed = kl.BatchNormalization(renorm=True, name="renormed")
    model = keras.Sequential([keras.Input((4,)), dropout, renormed, own])
    made = twin(model)
    assert made.wrapped["renormed"] == "renorm=True"
    assert made.wrapped["refused"].startswith("tf_keras says: Invalid value 2.0")
    assert set(made.wrapped) == {"refused", "renormed", "own"}
    assert_parity(made, model, np.ones((1, 4), "float32"))


def test_a_subclass_of_a_layer_is_not_that_layer():
    class Doubled(kl.Dense):
        def call(self, inputs, training=None):
            return 2 * super().call(inputs, training=training)

    model = keras.Sequential([keras.Input((4,)), Doubled(3, name="doubled")])
    made = twin(model)
    assert list(made.wrapped) == ["doubled"]
    assert_parity(made, model, np.ones((1, 4), "float32"))


def test_weights_of_two_layers_stay_one():
    """A layer that uses the kernel of another: both run as they are, or training splits them."""

    class Tied(kl.Layer):
        def __init__(self, dense, **kwargs):
            super().__init__(**kwargs)
            self.dense = dense

        def call(self, x):
            return keras.ops.matmul(x, keras.ops.transpose(self.dense.kernel))

    dense = kl.Dense(3, name="dense")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, Tied(dense, name="tied")(dense(inputs)))
    made = twin(model)
    assert set(made.wrapped) == {"dense", "tied"} and len(made.model.weights) == 2
    assert_parity(made, model, np.ones((1, 4), "float32"))


# --- training -------------------------------------------------------------------------------------


def small_network():
    inputs = keras.Input((8, 8, 3))
    x = kl.Conv2D(4, 3, kernel_regularizer=keras.regularizers.L2(0.1), name="conv")(inputs)
    x = kl.BatchNormalization(momentum=0.5, name="norm")(x)
    x = kl.Conv2D(4, 3, activation="silu", name="frozen")(x)
    x = kl.BatchNormalization(momentum=0.5, name="norm_2")(x)
    x = kl.Dropout(0.5, name="dropout")(x)
    x = kl.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, kl.Dense(2, kernel_constraint="non_neg", name="head")(x))


def fit_both(model, made, steps=2):
    """The same steps of SGD for the model and its twin; dropout must be off."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 8, 8, 3)).astype("float32")
    y = rng.normal(size=(6, 2)).astype("float32")
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    made.model.compile(island.tf_keras().optimizers.SGD(0.1), "mse", run_eagerly=True)
    losses = [float(model.train_on_batch(x, y)) for _ in range(steps)]
    theirs = [float(made.model.train_on_batch(x, y)) for _ in range(steps)]
    return losses, theirs


def test_a_step_of_training_is_the_same():
    """Gradients, penalty, constraint, frozen layers and moving statistics."""
    model = small_network()
    model.get_layer("dropout").rate = 0.0
    model.get_layer("frozen").trainable = False
    model.get_layer("norm_2").trainable = False
    made = twin(model)
    assert len(made.model.trainable_weights) == len(model.trainable_weights) == 6
    losses, theirs = fit_both(model, made)
    np.testing.assert_allclose(theirs, losses, **REDUCTION)
    for ours, other in by_layer(made):
        np.testing.assert_allclose(other, ours, **REDUCTION)
    assert np.abs(model.get_layer("norm").moving_variance - 1).max() > 1e-3
    np.testing.assert_array_equal(model.get_layer("norm_2").moving_variance, np.ones(4))


def test_one_variable_held():
    """Scale and offset of a batch normalization stand still, its statistics move."""
    model = small_network()
    norm = model.get_layer("norm")
    norm.gamma.trainable = norm.beta.trainable = False
    model.get_layer("dropout").rate = 0.0
    made = twin(model)
    losses, theirs = fit_both(model, made)
    np.testing.assert_allclose(theirs, losses, **REDUCTION)
    np.testing.assert_array_equal(made.layer_of(norm).gamma, np.ones(4))
    assert np.abs(made.layer_of(norm).moving_variance - 1).max() > 1e-3


def test_twin_of_a_fine_tuner_is_inert_where_frozen():
    """Frozen dropout does not drop; a thawed batch normalization keeps its statistics."""
    model = FineTuner.from_model(small_network())
    freeze(model, ["norm_2", "frozen", "dropout", "norm"])
    unfreeze(model, "norm")
    made = twin(model)
    x = np.random.default_rng(0).normal(size=(6, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(made.model(x, training=True), model(x, training=True), **REDUCTION)
    losses, theirs = fit_both(model, made)
    np.testing.assert_allclose(theirs, losses, **REDUCTION)
    assert np.abs(made.layer_of("norm").gamma - 1).max() > 1e-6
    np.testing.assert_array_equal(made.layer_of("norm").moving_variance, np.ones(4))


def test_frozen_parts_of_a_wrapped_layer_are_inert_in_a_fine_tuner():
    @keras.saving.register_keras_serializable("test_twin")
    class Block(kl.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense, self.dropout = kl.Dense(4, name="dense"), kl.Dropout(0.5, name="dropout")

        def build(self, shape):
            self.dense.build(shape)

        def call(self, x):
            return self.dropout(self.dense(x))

    inputs = keras.Input((4,))
    model = FineTuner.from_model(keras.Model(inputs, Block(name="block")(inputs)))
    x = np.ones((8, 4), "float32")
    free = twin(model).model
    assert np.ptp(np.asarray(free(x, training=True)), axis=0).max() > 0
    freeze(model, "block/dropout")
    made = twin(model)
    assert list(made.wrapped) == ["block"]
    np.testing.assert_allclose(made.model(x, training=True), model(x), **REDUCTION)
    assert len(made.model.trainable_weights) == 2


# --- refusals -------------------------------------------------------------------------------------


def test_refuses_a_constraint_that_would_be_lost():
    dense = kl.Dense(3, kernel_constraint="non_neg", activation=lambda x: x, name="odd")
    with pytest.raises(ValueError, match=r"'odd' .* weight 'kernel' has the constraint .*NonNeg"):
        twin(keras.Sequential([keras.Input((4,)), dense]))


def test_refuses_a_layer_that_cannot_run_there():
    class OnlySymbolic(kl.Layer):
        def call(self, x):
            return keras.ops.convert_to_tensor(np.asarray(x))

        def compute_output_spec(self, x):
            return keras.KerasTensor(x.shape, x.dtype)

    model = keras.Sequential([keras.Input((4,)), OnlySymbolic(name="eager_only")])
    with pytest.raises(ValueError, match=r"'eager_only' .*OnlySymbolic.* fails when it runs"):
        twin(model)


def test_refuses_optional_inputs():
    needed, extra = keras.Input((4,)), keras.Input((4,), optional=True, name="extra")
    model = keras.Model([needed, extra], [kl.Dense(2)(needed), kl.Dense(2)(extra)])
    with pytest.raises(ValueError, match=r"'extra', which is optional"):
        twin(model)


def test_refuses_what_has_no_graph():
    with pytest.raises(ValueError, match="functional or Sequential"):

        class Subclass(keras.Model):
            pass

        twin(Subclass())
    with pytest.raises(TypeError, match=r"must be a keras\.Model"):
        twin("model")


def test_names_the_closest_layer():
    made = twin(keras.Sequential([keras.Input((4,)), kl.Dense(2, name="head")]))
    with pytest.raises(ValueError, match=r"Received: layer='haed'\. Closest: 'head'"):
        made.layer_of("haed")
    with pytest.raises(ValueError, match=r"Closest: 'head'"):
        made.source_of("heda")


def test_exact_where_nothing_is_reordered():
    """A twin of a convolution is bit-equal: the same kernels of TensorFlow run."""
    model = keras.Sequential([keras.Input((8, 8, 3)), kl.Conv2D(4, 3), kl.BatchNormalization()])
    assert_parity(twin(model), model, np.ones((1, 8, 8, 3), "float32"), EXACT)
