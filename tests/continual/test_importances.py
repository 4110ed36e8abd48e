"""Importances are those of the papers, example by example, whatever the batches."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl.continual import ElasticWeightConsolidation, MemoryAwareSynapses
from kerastl.data.passes import ArrayPasses, dataset_of
from kerastl.training import FineTuner
from tests.tolerances import REDUCTION

RNG = np.random.default_rng(0)
X = RNG.normal(size=(100, 5))
Y = RNG.integers(0, 3, 100)


def softmax_regression(dtype="float64", logits=False, classes=3):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((5,), dtype=dtype)
    activation = None if logits else "softmax"
    dense = keras.layers.Dense(classes, activation=activation, dtype=dtype, name="dense")
    return FineTuner(inputs, dense(inputs))


def fisher(model, y=None, x=X):
    """Mean over examples of `sum_c p_c g_c²`, `g_c = x (1[c] - p)`, float64 in loops.

    By hand from log p_c = w_c x - log sum_k exp(w_k x); with `y` of that class alone.
    """
    kernel, bias = (w.astype("float64") for w in model.get_weights())
    of_kernel, of_bias = np.zeros_like(kernel), np.zeros_like(bias)
    for i, row in enumerate(x):
        z = row @ kernel + bias
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        for c in range(len(bias)):
            factor = p[c] if y is None else float(y[i] == c)
            g = (np.arange(len(bias)) == c) - p
            of_kernel += factor * np.outer(row, g) ** 2
            of_bias += factor * g**2
    return of_kernel / len(x), of_bias / len(x)


def in_units_of_the_mean(parts):
    return [part / np.concatenate([one.ravel() for one in parts]).mean() for part in parts]


def assert_importances(term, expected, **tolerance):
    for got, want in zip(term.importances.values(), in_units_of_the_mean(expected), strict=True):
        np.testing.assert_allclose(got, want, **tolerance)


@pytest.mark.parametrize("logits", [False, True])
def test_the_exact_fisher_information_of_logistic_regression(logits):
    """To 1e-12 in float64, for both kinds of outputs."""
    model = softmax_regression(logits=logits)
    term = ElasticWeightConsolidation(from_logits=logits)
    term.consolidate(model, X)
    assert_importances(term, fisher(model), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_empirical_fisher_information(dtype):
    """To 1e-5 in float32; labels as indices, columns and one-hot rows."""
    model = softmax_regression(dtype)
    expected = fisher(model, Y)
    for labels in (Y, Y[:, None], np.eye(3)[Y]):
        term = ElasticWeightConsolidation(labels="empirical")
        term.consolidate(model, X.astype(dtype), labels)
        assert_importances(term, expected, rtol=1e-5, atol=1e-6)


def test_drawn_labels_come_near_the_exact_ones():
    """2,000 rows of which each entry's mean has a standard error of a few percent."""
    model = softmax_regression()
    x = np.repeat(X, 20, axis=0)
    term = ElasticWeightConsolidation(labels="true")
    term.consolidate(model, x, seed=1)
    assert_importances(term, fisher(model), rtol=0.2, atol=0)
    assert not np.allclose(term.importances["dense/bias"], fisher(model, Y)[1], rtol=1e-3)


@pytest.mark.parametrize("labels", ["exact", "true", "empirical"])
def test_no_size_of_batches_or_chunks_changes_it(labels):
    model = softmax_regression()
    found = []
    for batch, memory in ((None, 2**29), (1, 2**29), (7, 2**29), (64, 2**29), (64, 1000)):
        term = ElasticWeightConsolidation(labels=labels)
        term.memory = memory
        if batch is None:
            term.consolidate(model, X, Y if labels == "empirical" else None)
        else:
            term.consolidate(model, tf.data.Dataset.from_tensor_slices((X, Y)).batch(batch))
        found.append(term.importances)
    for other in found[1:]:
        for name, one in found[0].items():
            np.testing.assert_allclose(one, other[name], rtol=1e-12)


def test_a_dataset_of_ours_is_read_in_order_and_none_of_its_passes_is_used_up():
    passes = ArrayPasses(X, Y, batch_size=16, seed=1)
    dataset, seen = dataset_of(passes), []
    model = softmax_regression("float32")
    ours, plain = (ElasticWeightConsolidation(labels="empirical") for _ in range(2))
    ours.consolidate(model, dataset, progress=lambda done, total: seen.append((done, total)))
    plain.consolidate(model, X.astype("float32"), Y)
    for name, one in ours.importances.items():
        np.testing.assert_allclose(one, plain.importances[name], **REDUCTION)
    assert seen[-1] == (100, 100) and seen[0] == (16, 100)
    first = next(iter(dataset))
    np.testing.assert_array_equal(first[0], next(iter(passes.epoch(0)))[0])


def test_a_network_with_convolutions_equals_a_loop_over_its_examples():
    """Statistics of batch normalization and dropout stand still; frozen weights are told too."""
    keras.utils.set_random_seed(5)
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(3, 3, name="conv")(inputs)
    x = keras.layers.DepthwiseConv2D(2, name="depthwise")(x)
    x = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization(name="norm")(x))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    model = FineTuner(inputs, keras.layers.Dense(2, activation="softmax", name="head")(x))
    pictures = RNG.normal(size=(5, 6, 6, 2)).astype("float32")
    model.get_layer("conv").trainable = False
    before = [v.numpy() for v in model.variables]
    ewc, mas = ElasticWeightConsolidation(), MemoryAwareSynapses()
    ewc.consolidate(model, pictures, where=slice(None))
    mas.consolidate(model, pictures, where=slice(None))
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())

    model.get_layer("conv").trainable = True
    weights = model.trainable_variables
    squares, sizes = ([np.zeros(w.shape) for w in weights] for _ in range(2))
    for picture in pictures:
        for c in range(2):
            with tf.GradientTape() as tape:
                p = model(picture[None], training=False)[0]
                value = tf.math.log(p[c])
            for total, g in zip(squares, tape.gradient(value, weights), strict=True):
                total += float(p[c]) * g.numpy() ** 2 / len(pictures)
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(model(picture[None], training=False) ** 2)
        for total, g in zip(sizes, tape.gradient(value, weights), strict=True):
            total += np.abs(g.numpy()) / len(pictures)
    assert list(ewc.importances) == [w.path for w in weights]
    assert_importances(ewc, squares, rtol=1e-4, atol=1e-5)
    assert_importances(mas, sizes, rtol=1e-4, atol=1e-5)


def test_one_output_is_the_probability_of_class_1_of_two():
    """`p (1 - p) x²` in both codings; for logits `p` is their sigmoid."""
    for logits in (False, True):
        keras.utils.set_random_seed(3)
        inputs = keras.Input((5,), dtype="float64")
        activation = None if logits else "sigmoid"
        dense = keras.layers.Dense(1, activation=activation, dtype="float64", name="dense")
        model = FineTuner(inputs, dense(inputs))
        term = ElasticWeightConsolidation(from_logits=logits)
        term.consolidate(model, X)
        kernel, bias = model.get_weights()
        p = 1 / (1 + np.exp(-(X @ kernel + bias)))
        expected = [(p * (1 - p) * X**2).mean(axis=0)[:, None], (p * (1 - p)).mean(axis=0)]
        assert_importances(term, expected, rtol=1e-11, atol=0)


def test_a_label_of_probability_0_counts_nothing():
    model = softmax_regression("float32")
    model.get_layer("dense").kernel.assign(np.zeros((5, 3)))
    model.get_layer("dense").bias.assign([0.0, 1.0, -300.0])
    term = ElasticWeightConsolidation()
    term.consolidate(model, X.astype("float32"))
    assert_importances(term, fisher(model), rtol=1e-5, atol=1e-6)


def test_half_precision_keeps_small_gradients():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        inputs = keras.Input((5,))
        keras.utils.set_random_seed(3)
        body = keras.layers.Dense(4, activation="tanh", name="body")(inputs)
        model = FineTuner(inputs, keras.layers.Dense(3, "softmax", dtype="float32")(body))
    finally:
        keras.config.set_dtype_policy("float32")
    half = ElasticWeightConsolidation()
    half.consolidate(model, X)
    inputs = keras.Input((5,))
    body = keras.layers.Dense(4, activation="tanh", name="body")(inputs)
    whole = FineTuner(inputs, keras.layers.Dense(3, "softmax")(body))
    whole.set_weights(model.get_weights())
    full = ElasticWeightConsolidation()
    full.consolidate(whole, X)
    pairs = zip(half.importances.values(), full.importances.values(), strict=True)
    for one, other in pairs:  # float16 has 11 bits
        np.testing.assert_allclose(one, other, rtol=0.02, atol=0.01)


def test_tasks_add_up_online():
    """F <- 0.5 F + F_new, in the units measured, and the latest weights are the anchors."""
    model = softmax_regression()
    term = ElasticWeightConsolidation(decay=0.5)
    first = fisher(model)
    term.consolidate(model, X)
    for weight in model.weights:
        weight.assign_add(np.full(weight.shape, 0.3))
    other = 2 * X[:40]
    term.consolidate(model, other)
    second = fisher(model, x=other)
    both = [0.5 * a + b for a, b in zip(first, second, strict=True)]
    assert_importances(term, both, rtol=1e-11, atol=0)
    model.compile("sgd", "sparse_categorical_crossentropy", terms=[term])
    model.train_on_batch(X, Y)
    anchors = term.state_variables[::2]
    assert len(anchors) == 2
    again = ElasticWeightConsolidation()
    again.consolidate(model, X)
    assert again.importances.keys() == term.importances.keys()


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda t, m: t.consolidate(m, (X, Y)), "Received: a tuple"),
        (lambda t, m: t.consolidate(m, X, Y[:3]), r"Received: lengths \[3, 100\]"),
        (lambda t, m: t.consolidate(m, [(X, Y)], Y), "Received: `y` beside it"),
        (lambda t, m: t.consolidate(m, [(X, Y, Y)]), "batches with sample weights"),
        (lambda t, m: t.consolidate(m, []), "at least one example"),
        (lambda t, m: t.consolidate(m, X * np.nan), "must be finite"),
        (lambda t, m: t.consolidate(m, X, where="input.*"), "An importance is measured of weights"),
    ],
)
def test_bad_data_are_refused(act, words):
    with pytest.raises(ValueError, match=words):
        act(ElasticWeightConsolidation(), softmax_regression())


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="must be one of exact, true, empirical"):
        ElasticWeightConsolidation(labels="sampled")
    with pytest.raises(ValueError, match=r"Received: 21 classes\. Use `labels='true'`"):
        ElasticWeightConsolidation().consolidate(softmax_regression(classes=21), X)
    with pytest.raises(ValueError, match="needs the labels of the data"):
        ElasticWeightConsolidation(labels="empirical").consolidate(softmax_regression(), X)
    with pytest.raises(ValueError, match=r"whole numbers in \[0, 2\].*from 0 to 3"):
        term = ElasticWeightConsolidation(labels="empirical")
        term.consolidate(softmax_regression(), X, np.arange(100) % 4)
    inputs = keras.Input((4, 5))
    model = FineTuner(inputs, keras.layers.Dense(3)(inputs))
    with pytest.raises(ValueError, match=r"one output \(batch, classes\)"):
        ElasticWeightConsolidation().consolidate(model, np.ones((2, 4, 5)))
