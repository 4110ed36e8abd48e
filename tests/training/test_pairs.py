"""`SamePairs` by hand, against float64 loops, and in a training that ends with a solved head."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl import FineTuner
from kerastl.callbacks import FollowPlan
from kerastl.plans import strategies
from kerastl.training import SamePairs, solve_head
from kerastl.training.pairs import pair_loss
from tests.tolerances import ELEMENTWISE, EXACT, REDUCTION


def reference(features, labels):
    """Tunstall et al., 2022, section 3.1: squared errors of cosines, either kind counting half."""
    kinds = {True: [], False: []}
    for i in range(len(features)):
        for j in range(i):
            a, b = features[i], features[j]
            cosine = a @ b / np.sqrt((a @ a) * (b @ b))
            same = bool(labels[i] == labels[j])
            kinds[same].append((float(same) - cosine) ** 2)
    return 0.5 * sum(np.mean(kind) for kind in kinds.values() if kind)


def loss_of(features, labels):
    return float(pair_loss(features, labels[:, None] == labels[None, :]))


def test_by_hand():
    """Two of one class at a right angle: 1; with a third of another along the first: 0 and 1."""
    features, labels = np.array([[2.0, 0.0], [0.0, 3.0], [5.0, 0.0]]), np.array([0, 0, 1])
    assert loss_of(features[:2], labels[:2]) == pytest.approx(0.5)
    assert loss_of(features, labels) == pytest.approx((1.0 + (1.0 + 0.0) / 2) / 2)


def test_as_loops_say_and_however_long_features_are():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(12, 5)), rng.integers(0, 3, 12)
    expected = reference(features, labels)
    assert loss_of(features, labels) == pytest.approx(expected, rel=1e-5)
    lengths = rng.uniform(0.1, 9, (12, 1))
    assert loss_of(features * lengths, labels) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("labels", [[1], [1, 1], [0, 1]], ids=["alone", "one class", "two"])
def test_a_kind_of_pair_that_is_not_there_counts_nothing(labels):
    features = tf.Variable(np.random.default_rng(1).normal(size=(len(labels), 4)))
    with tf.GradientTape() as tape:
        loss = pair_loss(features, np.equal.outer(labels, labels))
    assert np.isfinite(tape.gradient(loss, features)).all()
    expected = reference(features.numpy(), np.array(labels))
    np.testing.assert_allclose(loss, expected, **REDUCTION)


def network(seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6,))
    body = keras.layers.Dense(8, activation="tanh", name="body")(inputs)
    dropped = keras.layers.Dropout(0.5, name="drop")(body)
    outputs = keras.layers.Dense(3, activation="softmax", name="predictions")(dropped)
    return FineTuner(inputs, outputs)


def data(count=24):
    rng = np.random.default_rng(3)
    labels = np.arange(count) % 3
    return (rng.normal(size=(count, 6)) + 2 * np.eye(6)[labels]).astype("float32"), labels


def compiled(model, **options):
    model.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy", **options)
    return model


@pytest.mark.parametrize("one_hot", [False, True])
def test_it_reads_the_features_before_their_dropout_and_leaves_the_loss_out(one_hot):
    model, (x, labels) = network(), data()
    loss = "categorical_crossentropy" if one_hot else "sparse_categorical_crossentropy"
    features = keras.Model(model.input, model.get_layer("body").output).predict(x, verbose=0)
    term = SamePairs()
    model.compile(keras.optimizers.SGD(1e-9), loss, terms=[term])
    y = np.eye(3, dtype="float32")[labels] if one_hot else labels
    history = model.fit(x, y, batch_size=24, verbose=0).history
    assert term.features == ("body",)
    expected = reference(features.astype("float64"), labels)
    assert history["same_pairs"][0] == pytest.approx(expected, rel=1e-4)
    assert history["loss"][0] == pytest.approx(expected, rel=1e-4)


def test_a_plan_of_few_examples_trains_the_body_and_then_solves_the_head():
    x, labels = data()
    model = compiled(network(), terms=[SamePairs()])
    plan = strategies.few_shot(model.groups, epochs=30, divisor=1.0)
    history = model.fit(x, labels, epochs=30, verbose=0, callbacks=[FollowPlan(plan)]).history
    assert history["same_pairs"][-1] < 0.5 * history["same_pairs"][0]
    head = model.get_layer("predictions").get_weights()
    assert np.abs(head[0]).max() > 0.1
    before = [weight.numpy() for weight in model.get_layer("body").weights]
    solve_head(model, x, labels)
    for again, one in zip(model.get_layer("predictions").get_weights(), head, strict=True):
        np.testing.assert_allclose(again, one, **ELEMENTWISE)
    for again, one in zip(model.get_layer("body").weights, before, strict=True):
        np.testing.assert_allclose(again, one, **EXACT)


def test_data_that_cannot_be_read_again_are_refused_before_anything_trains():
    x, labels = data()
    model = compiled(network(), terms=[SamePairs()])
    before = model.get_layer("body").get_weights()
    plan = strategies.few_shot(model.groups, epochs=2)
    batches = tf.data.Dataset.from_tensor_slices((x, labels)).batch(12)
    with pytest.raises(ValueError, match="reads the data again"):
        model.fit(batches, epochs=2, callbacks=[FollowPlan(plan)], verbose=0, shuffle=False)
    for again, one in zip(model.get_layer("body").get_weights(), before, strict=True):
        np.testing.assert_allclose(again, one, **EXACT)


def test_targets_of_another_kind_are_refused():
    model, (x, _) = network(), data()
    model.compile("sgd", "mse", terms=[SamePairs()])
    with pytest.raises(ValueError, match="class indices or one-hot rows"):
        model.fit(x, np.zeros((24, 3, 1)), verbose=0)


def test_a_network_of_a_head_alone_is_refused():
    with pytest.raises(ValueError, match="groups below the head"):
        strategies.few_shot(["head"], epochs=3)
