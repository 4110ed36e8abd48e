"""What a frontier cuts off is computed once, and the rest gives what the whole model gives."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl.data.passes import ArrayPasses
from kerastl.freezing import freeze, freeze_to, unfreeze
from kerastl.graph import leaf_layers
from kerastl.training import FineTuner
from kerastl.training.frozen import FeatureCache, find_frontier
from tests.tolerances import ELEMENTWISE, EXACT, REDUCTION
from tests.training.frozen_features_cases import (
    CUTS,
    features_of,
    freeze_up_to,
    network,
    small,
    trained,
)


@pytest.mark.slow_but(
    "MobileNetV2-head",
    "MobileNetV2-inside",
    "EfficientNetB0-third",
    "bert-head",
    "bert-third",
    "bert-inside",
)
@pytest.mark.parametrize("place", [0, 1, 2], ids=["head", "third", "inside"])
@pytest.mark.parametrize("name", CUTS)
def test_upper_of_lower_is_the_model(name, place):
    """Outputs in both modes, gradients, statistics and random states, for every weight."""
    model, x = network(name)
    freeze_up_to(model, CUTS[name][place])
    frontier = find_frontier(model)
    crossing = 2 if place == 2 or (name, place) == ("bert", 1) else 1
    assert frontier.reason is None and len(frontier.tensors) == crossing
    features = features_of(frontier, x)
    np.testing.assert_allclose(frontier.upper(features), model(x), **REDUCTION)
    whole, rest = trained(model, model, x), trained(model, frontier.upper, features)
    np.testing.assert_allclose(rest[0], whole[0], **REDUCTION)
    for mine, theirs in zip(rest[1] + rest[2], whole[1] + whole[2], strict=True):
        np.testing.assert_allclose(mine, theirs, **REDUCTION)


def test_frozen_parts_inside_a_layer_that_trains_infer_above_the_frontier():
    """Dropout held still in the upper BERT layer, the rest of which trains."""
    model, x = network("bert")
    freeze_up_to(model, CUTS["bert"][1])
    upper = model.get_layer("transformer_layer_1")
    dropouts = [leaf for leaf in leaf_layers(upper) if isinstance(leaf, keras.layers.Dropout)]
    freeze(model, dropouts)
    frontier = find_frontier(model)
    whole = trained(model, model, x)
    rest = trained(model, frontier.upper, features_of(frontier, x))
    np.testing.assert_allclose(rest[0], whole[0], **REDUCTION)
    unfreeze(model, dropouts)
    assert dropouts and not np.allclose(trained(model, model, x)[0], whole[0], **REDUCTION)


@pytest.mark.slow_but("MobileNetV2", "bert")
@pytest.mark.parametrize("name", CUTS)
def test_training_on_cached_features_gives_the_losses_of_training_on_inputs(name):
    """Four epochs of shuffled batches, dropout on, through the compiled lower part."""
    model, x = network(name)
    freeze_up_to(model, CUTS[name][1])
    x = {key: np.tile(part, (3, 1)) for key, part in x.items()} if name == "bert" else np.tile(
        x, (3, 1, 1, 1)
    )  # fmt: skip
    passes = ArrayPasses(x, np.arange(12) % 3, batch_size=6, seed=4)
    cache = FeatureCache(model, True)
    cache.update()
    cache.decide(passes, epochs_left=4)
    start = [variable.numpy() for variable in model.variables]
    losses = []
    for call, epoch in (
        (model, passes.epoch),
        (cache.frontier.upper, lambda number: cache.epoch(passes, number)),
    ):
        for variable, value in zip(model.variables, start, strict=True):
            variable.assign(value)
        losses.append(_losses(model, call, epoch))
    assert np.ptp(losses[0]) > 0.01  # a hundred times the tolerance
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


def _losses(model, call, epoch):
    optimizer = keras.optimizers.SGD(0.02, global_clipnorm=1.0)  # some of the networks diverge
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            outputs = call(x, training=True)
            loss = tf.reduce_mean(
                keras.losses.sparse_categorical_crossentropy(y, outputs, from_logits=True)
            )
        gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    return [float(step(*batch)) for number in range(4) for batch in epoch(number)]


def test_masks_cross_the_frontier():
    """An embedding that masks padding is frozen, attention behind it heeds the mask."""
    tokens = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(9, 4, mask_zero=True, name="embedding")(tokens)
    x = keras.layers.MultiHeadAttention(1, 4)(x, x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    model = FineTuner(tokens, keras.layers.Dense(2)(x))
    freeze(model, "embedding")
    frontier = find_frontier(model)
    given = tf.constant([[1, 2, 3, 0], [4, 0, 0, 0]])
    features = features_of(frontier, given)
    assert features.masks[0].numpy().tolist() == [[True] * 3 + [False], [True] + [False] * 3]
    np.testing.assert_allclose(frontier.upper(features), model(given), **REDUCTION)
    without = features._replace(masks=((),) * len(features.masks))
    assert not np.allclose(frontier.upper(without), model(given), **REDUCTION)
    cache = FeatureCache(model, True)
    cache.update()
    passes = ArrayPasses(given.numpy(), batch_size=2)
    assert cache.decide(passes, epochs_left=9).use
    (batch,) = next(iter(cache.epoch(passes, 0)))
    np.testing.assert_allclose(frontier.upper(batch), model(given), **REDUCTION)


def test_losses_of_the_upper_part_are_those_of_the_model():
    """Activity and weight regularizers, also after the step has been traced a second time."""
    head = keras.layers.Dense(6, activity_regularizer="l2", kernel_regularizer="l2", name="top")
    model = small(high=[head])
    freeze(model, "low")
    frontier, x = find_frontier(model), tf.ones((3, 4))
    features = features_of(frontier, x)
    model(x, training=True)
    wanted = [float(loss) for loss in model.losses]
    for _ in range(2):

        @tf.function
        def losses(features):
            frontier.upper(features, training=True)
            return model.losses

        np.testing.assert_allclose(losses(features), wanted, **ELEMENTWISE)
    assert len(wanted) == 2


def test_mixed_precision_keeps_the_networks_types():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small()
    finally:
        keras.config.set_dtype_policy("float32")
    freeze_to(model, -1)
    cache, x = FeatureCache(model, True), np.ones((5, 4), "float32")
    cache.update()
    passes = ArrayPasses(x, batch_size=2)
    cache.decide(passes, epochs_left=3)
    (features,) = next(iter(cache.epoch(passes, 0)))
    assert features.tensors[0].dtype == tf.bfloat16
    np.testing.assert_allclose(
        tf.cast(cache.frontier.upper(features), "float32"),
        tf.cast(model(x[:2]), "float32"),
        **EXACT,
    )
