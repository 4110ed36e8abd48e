"""Where the frontier lies, why it is not further up, and what may not be computed once."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl.freezing import freeze, freeze_batch_norm, freeze_to, unfreeze
from kerastl.training import FineTuner
from kerastl.training.frozen import find_frontier
from kerastl.training.frozen.frontier import unsteady
from kerastl.training.frozen.frozen_part import FrozenPart
from tests.tolerances import REDUCTION
from tests.training.frozen_features_cases import features_of, small

LAYERS = [
    (lambda: keras.layers.Dropout(0.5), False, "draws at random in training"),
    (lambda: keras.layers.Dropout(0.5), True, None),
    (lambda: keras.layers.Dropout(0.0), False, None),
    (lambda: keras.layers.GaussianNoise(1.0), False, "draws at random in training"),
    (lambda: keras.layers.GaussianNoise(1.0), True, None),
    (lambda: keras.layers.AlphaDropout(0.5), True, None),
    (lambda: keras.layers.BatchNormalization(), False, "trains"),
    (lambda: keras.layers.BatchNormalization(), True, None),
    (lambda: keras.layers.BatchNormalization(center=False, scale=False), False, "is not frozen"),
    (lambda: keras.layers.Dense(3), False, "trains"),
    (lambda: keras.layers.Dense(3), True, None),
    (lambda: keras.layers.Activation("relu"), False, None),
    (lambda: keras.layers.Rescaling(2.0), False, None),
    (lambda: keras.layers.ActivityRegularization(0.1), True, "adds a loss"),
    (lambda: keras.layers.Dense(3, activity_regularizer="l2"), True, "adds a loss"),
]


@pytest.mark.parametrize(("make", "frozen", "reason"), LAYERS)
def test_steady_is_what_a_fine_tuner_computes_alike_in_training(make, frozen, reason):
    inputs, layer = keras.Input((6,)), make()
    model = FineTuner(inputs, layer(inputs))
    if frozen:
        layer.trainable = False
    x = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    before = [variable.numpy() for variable in model.weights]
    given, alone = model(x, training=True), model(x, training=False)
    still = all(map(np.array_equal, before, [variable.numpy() for variable in model.weights]))
    alike = np.array_equal(given, alone) and still
    why = unsteady(layer)
    assert (why is None) if reason is None else why.startswith(reason)
    assert alike or why
    if not alike:
        assert not frozen


def test_random_augmentation_blocks_whether_frozen_or_not():
    """By its name, also inside a layer that holds it; `Resizing` changes nothing at random."""
    flip = keras.layers.RandomFlip(name="flip", trainable=False)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(2, 3, name="conv")(flip(keras.layers.Resizing(8, 8)(inputs)))
    x = keras.layers.Dense(2, name="head")(keras.layers.Flatten()(x))
    model = FineTuner(inputs, x)
    freeze_to(model, -1)
    frontier = find_frontier(model)
    assert frontier.reason == (
        "no frozen layer with weights comes before 'flip', which augments at random"
    )
    pipeline = keras.layers.Pipeline([keras.layers.RandomFlip()])
    assert unsteady(pipeline) == "augments at random"


def test_batch_norm_with_held_statistics_that_trains_is_not_static():
    norm = keras.layers.BatchNormalization(name="norm")
    model = small(low=[norm])
    freeze_to(model, -1)
    assert [layer.name for layer in find_frontier(model).static_layers][-1] == "norm"
    unfreeze(model, "norm")
    frontier = find_frontier(model)
    assert frontier.blocked_by == {norm: "trains"} and frontier.tensors[0].shape == (None, 6)
    freeze_batch_norm(model, "norm", statistics=False)  # scale and offset stand, statistics move
    assert unsteady(norm) == "is not frozen and may act otherwise in training"


def frontier_of(inputs, outputs, frozen):
    model = FineTuner(inputs, outputs)
    freeze(model, frozen)
    return find_frontier(model), model


def test_the_cut_is_late_and_small():
    """Bytes of an example, by hand: after a pool, before padding, an input for its activation."""
    inputs = keras.Input((8, 8, 2))
    conv = keras.layers.Conv2D(4, 1, name="conv")(inputs)
    pool = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(conv))
    frontier, _ = frontier_of(inputs, keras.layers.Dense(2)(pool), "conv")
    assert [t.shape for t in frontier.tensors] == [(None, 4)]
    padded = keras.layers.ZeroPadding2D(2)(keras.layers.ReLU(name="relu")(conv))
    out = keras.layers.Conv2D(1, 3, name="next")(padded)
    frontier, model = frontier_of(inputs, out, "conv")
    assert frontier.tensors == [model.get_layer("relu").output]
    out = keras.layers.Conv2D(4, 1, name="last")(keras.layers.ReLU()(conv)) + conv
    frontier, model = frontier_of(inputs, out, "conv")
    assert frontier.tensors == [model.get_layer("conv").output]


def test_what_has_no_rows_is_computed_above():
    """Positions without a batch axis are frozen, but only rows can be stored."""

    class Positions(keras.layers.Layer):
        def build(self, shape):
            self.table = self.add_weight(shape=(5, 6), name="table")

        def call(self, x):
            return self.table + 0.0

        def compute_output_shape(self, shape):
            return (5, 6)

    inputs = keras.Input((5, 6))
    positions = Positions(name="positions")(inputs)
    low = keras.layers.Dense(6, name="low")(inputs)
    out = keras.layers.Dense(2)(keras.layers.Activation("tanh")(low) * positions + low)
    frontier, model = frontier_of(inputs, out, ["positions", "low"])
    assert frontier.reason is None
    assert all(tensor.shape[0] is None for tensor in frontier.tensors)
    x = np.random.default_rng(0).normal(size=(3, 5, 6)).astype("float32")
    np.testing.assert_allclose(frontier.upper(features_of(frontier, x)), model(x), **REDUCTION)


def test_reasons_for_no_frontier():
    model = small()
    assert find_frontier(model).reason == (
        "no frozen layer with weights comes before 'low', which trains"
    )
    inputs = keras.Input((3,))  # what nothing has learned is not worth keeping
    scaled = keras.layers.Normalization()(keras.layers.Rescaling(2.0)(inputs))
    model = FineTuner(inputs, keras.layers.Dense(1, name="head")(scaled))
    assert find_frontier(model).reason.endswith("comes before 'head', which trains")
    text = keras.Input((), dtype="string", name="text")
    numbers = keras.layers.Dense(2, name="body")(keras.Input((3,), name="numbers"))
    length = keras.layers.StringLookup(vocabulary=["a"])(text)[:, None]
    head = keras.layers.Dense(1)(keras.layers.Concatenate()([numbers, length]))
    frontier, _ = frontier_of([text, numbers._keras_history.operation.input], head, "body")
    spec = (tf.TensorSpec((None,), tf.string), tf.TensorSpec((None, 3)))
    assert "LookupTable" in FrozenPart(frontier, spec).reason


def _in_python(x):
    return tf.ensure_shape(tf.py_function(abs, [x], x.dtype), (None, 6))


def _cut(x):
    return x[:, : tf.size(x)]


class AddsLoss(keras.layers.Layer):
    def call(self, x):
        self.add_loss(keras.ops.mean(x))
        return x


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (lambda: keras.layers.Lambda(lambda x: x + tf.random.normal((6,))), "RandomStandardNormal"),
        (lambda: keras.layers.Lambda(_in_python, output_shape=(6,)), "EagerPyFunc"),
        (AddsLoss, "a frozen layer adds a loss"),
        (lambda: keras.layers.Lambda(_cut, output_shape=(6,)), "different sizes"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_reason(layer, reason):
    model = small(low=[layer()])
    freeze_to(model, -1)
    assert reason in FrozenPart(find_frontier(model), tf.TensorSpec((None, 4))).reason


@pytest.mark.parametrize(
    ("mix", "reason"),
    [
        (lambda x: x - keras.ops.mean(x, axis=0), "mix the examples"),
        (lambda x: x + tf.range(tf.shape(x)[0], dtype="float32")[:, None], "mix the examples"),
        (lambda x: tf.reshape(x, (-1, 3)), "first axes"),
        (lambda x: x * 2, None),
    ],
)
def test_examples_that_depend_on_their_batch_are_refused(mix, reason):
    inputs = keras.Input((4,))
    low = keras.layers.Dense(6, name="low")(inputs)
    mixed = keras.layers.Lambda(mix, output_shape=lambda shape: (None, shape[-1]))(low)
    frontier, _ = frontier_of(inputs, keras.layers.Dense(1)(mixed), slice(0, 3))
    x = tf.random.stateless_normal((5, 4), [1, 2])
    why = FrozenPart(frontier, tf.TensorSpec((None, 4))).why_not_by_rows(x)
    assert why is None if reason is None else reason in why


def test_the_hash_of_a_graph_tells_what_it_computes_not_names():
    def digest(activation="tanh", units=6, dtype="float32"):
        inputs = keras.Input((4,))
        hidden = keras.layers.Dense(units, activation=activation, dtype=dtype)(inputs)
        model = FineTuner(inputs, keras.layers.Dense(1)(keras.layers.LSTM(2)(hidden[:, None])))
        freeze_to(model, -1)
        return FrozenPart(find_frontier(model), tf.TensorSpec((None, 4))).digest

    def digest_with_mean(mean):
        inputs = keras.Input((200,))
        scaled = keras.layers.Normalization(mean=[mean] * 200, variance=[1.0] * 200)(inputs)
        model = FineTuner(inputs, keras.layers.Dense(1)(keras.layers.Dense(2)(scaled)))
        freeze_to(model, -1)
        return FrozenPart(find_frontier(model), tf.TensorSpec((None, 200))).digest

    assert digest_with_mean(0.5) == digest_with_mean(0.5) != digest_with_mean(0.6)
    assert digest() == digest()
    assert len({digest(), digest("relu"), digest(units=5), digest(dtype="mixed_float16")}) == 4
