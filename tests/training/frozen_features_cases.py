"""Networks with a frozen part, and what the tests of frozen features do with them."""

import functools

import keras
import numpy as np
import tensorflow as tf

from kerastl.data.passes import ArrayPasses
from kerastl.freezing import freeze, unfreeze
from kerastl.training import FineTuner
from kerastl.training.frozen import FeatureCache

# The last layer that is frozen: below the head, about two thirds up, inside a residual block.
CUTS = {
    "MobileNetV2": ("global_average_pooling2d", "block_11_add", "block_5_depthwise"),
    "EfficientNetB0": ("avg_pool", "block5b_add", "block3b_dwconv"),
    "ResNet50": ("avg_pool", "conv4_block4_out", "conv3_block2_2_conv"),
    "DenseNet121": ("avg_pool", "conv4_block12_concat", "conv4_block3_1_conv"),
    "bert": ("pooled_dense", "transformer_layer_0", "transformer_layer_0"),
}


@functools.cache
def network(name):
    """A `FineTuner` with random weights and statistics, and four inputs for it."""
    keras.utils.set_random_seed(3)
    rng = np.random.default_rng(3)
    if name == "bert":
        backbone, x = _bert(rng)
        features = backbone.output["pooled_output"]
    else:
        backbone = getattr(keras.applications, name)(
            include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg"
        )
        x, features = rng.uniform(0, 255, (4, 32, 32, 3)).astype("float32"), backbone.output
    hidden = keras.layers.Dropout(0.4, name="head_dropout")(features)
    model = FineTuner(backbone.input, keras.layers.Dense(3, name="classes")(hidden))
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.moving_mean.shape
            layer.moving_mean.assign(rng.normal(0, 0.1, shape))
            layer.moving_variance.assign(rng.uniform(0.5, 1.5, shape))
            layer.gamma.assign(rng.uniform(0.5, 1.5, shape))
    return model, keras.tree.map_structure(tf.constant, x)


def _bert(rng):
    import keras_hub

    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=50, num_layers=2, num_heads=2, hidden_dim=16, intermediate_dim=32,
        max_sequence_length=8,
    )  # fmt: skip
    padding = (np.arange(8) < [[8], [5], [3], [8]]).astype("int32")
    tokens = (rng.integers(1, 50, (4, 8)) * padding).astype("int32")
    return backbone, {
        "token_ids": tokens,
        "segment_ids": np.zeros((4, 8), "int32"),
        "padding_mask": padding,
    }


def freeze_up_to(model, last):
    """Freeze every layer of `model` up to the one named `last`; all others train."""
    names = [layer.name for layer in model.layers]
    count = next(i for i, name in enumerate(names) if name.startswith(last)) + 1
    unfreeze(model, slice(None))
    freeze(model, slice(0, count))
    return count


def features_of(frontier, x):
    """`Features` of the batch `x`, computed as it does, not compiled."""
    return frontier.compute(x)


def trained(model, call, inputs):
    """Outputs, gradients and what is left in the variables, after one training pass.

    The pass starts from the state that all variables have now and leaves them as they were.
    """
    before = [variable.numpy() for variable in model.variables]
    with tf.GradientTape() as tape:
        outputs = call(inputs, training=True)
        weights = tf.cast(tf.reshape(tf.range(tf.size(outputs)), tf.shape(outputs)), tf.float32)
        loss = tf.reduce_sum(outputs * tf.sin(weights))
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    after = [variable.numpy() for variable in model.variables]
    for variable, value in zip(model.variables, before, strict=True):
        variable.assign(value)
    return outputs.numpy(), [tf.convert_to_tensor(g).numpy() for g in gradients], after


def small(low=(), high=(), units=3):
    """A `FineTuner` of 4 inputs: Dense "low", layers `low`, layers `high`, Dense "head"."""
    inputs = keras.Input((4,), name="x")
    x = keras.layers.Dense(6, name="low")(inputs)
    for layer in [*low, *high]:
        x = layer(x)
    return FineTuner(inputs, keras.layers.Dense(units, name="head")(x))


class Counted(ArrayPasses):
    """Tells of which views inputs were read for features, and can be closed to reading."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.read, self.closed = set(), False

    def _count(self, dataset, view):
        def count(x):
            assert not self.closed
            self.read.add(view)
            return x

        types = dataset.element_spec
        return dataset.map(
            lambda x: tf.ensure_shape(tf.py_function(count, [x], types.dtype), types.shape)
        )

    def in_order(self):
        return self._count(super().in_order(), None)

    def view(self, number):
        return self._count(super().view(number), number)


class Noisy(Counted):
    random = "augmentation"

    def augment(self, element, key):
        x, *targets = element
        return (x + tf.random.stateless_normal(tf.shape(x), key, dtype=x.dtype), *targets)


def deep():
    """A `FineTuner` of Dense layers a, b, c and head over 4 inputs."""
    keras.utils.set_random_seed(1)
    inputs = x = keras.Input((4,))
    for name in "abc":
        x = keras.layers.Dense(6, activation="tanh", name=name)(x)
    return FineTuner(inputs, keras.layers.Dense(2, name="head")(x))


def data(n=11, kind=ArrayPasses, **settings):
    rng = np.random.default_rng(2)
    x, y, weights = rng.normal(size=(n, 4)), np.arange(n), rng.uniform(size=n)
    return kind(x, y, weights, **{"batch_size": 4, "seed": 5, **settings})


def cached(model, passes, epochs_left=9, **settings):
    cache = FeatureCache(model, True, **settings)
    cache.update()
    cache.decide(passes, epochs_left=epochs_left)
    return cache


def check(cache, passes, number, **tolerance):
    """The batches of a pass: features of its inputs; targets and weights as they are."""
    pairs = list(zip(cache.epoch(passes, number), passes.epoch(number), strict=True))
    assert len(pairs) == passes.num_batches == len(cache.epoch(passes, number))
    for (features, *targets), (x, *wanted) in pairs:
        lower = cache.frontier.lower(x, training=False)
        np.testing.assert_allclose(features.tensors[0], lower, **tolerance)
        assert features.tensors[0].dtype == "float32"
        for mine, theirs in zip(targets, wanted, strict=True):
            np.testing.assert_array_equal(mine, theirs)
