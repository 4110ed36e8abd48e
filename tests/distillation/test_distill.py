"""`Distill`: a model learns what a teacher answers, and the teacher stays as it is."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl.distillation import Distill
from kerastl.freezing import freeze_to
from kerastl.training import FineTuner
from tests.tolerances import REDUCTION

L = keras.layers


def classifier(seed, activation="softmax"):
    """A network whose answers in training are others than in inference."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6,))
    x = L.BatchNormalization(name="norm")(L.Dense(8, activation="relu", name="low")(inputs))
    return keras.Model(inputs, L.Dense(3, activation=activation, name="head")(L.Dropout(0.5)(x)))


def plain(seed, activation="softmax"):
    """A student without anything random, for comparison with formulas."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6,))
    x = L.Dense(8, activation="relu", name="low")(inputs)
    return FineTuner(inputs, L.Dense(3, activation=activation, name="head")(x))


@pytest.fixture
def examples():
    rng = np.random.default_rng(0)
    y = np.eye(3, dtype="float32")[rng.integers(0, 3, 24)]
    return rng.normal(size=(24, 6)).astype("float32"), y


def softened(scores, temperature):
    """Float64 probabilities to the power of 1 / T, normalized."""
    powers = np.asarray(scores, "float64") ** (1 / temperature)
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_the_loss_is_cross_entropy_with_both_mixed(examples, share):
    """And the metric is share * KL, in float64 by hand."""
    x, y = examples
    teacher, model = classifier(1), plain(2)
    p, q = (np.asarray(m.predict(x, verbose=0), "float64") for m in (teacher, model))
    model.compile(
        keras.optimizers.SGD(0.0), "categorical_crossentropy", terms=[Distill(teacher, share)]
    )
    history = model.fit(x, y, batch_size=24, validation_data=(x, y), verbose=0).history
    target = share * p + (1 - share) * y
    assert history["loss"][0] == pytest.approx(-(target * np.log(q)).sum(1).mean(), rel=1e-5)
    assert history["val_loss"][0] == pytest.approx(-(y * np.log(q)).sum(1).mean(), rel=1e-5)
    divergence = (p * (np.log(p) - np.log(q))).sum(1).mean()
    assert history["distill"][0] == pytest.approx(share * divergence, rel=1e-4)


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_at_a_temperature_it_is_the_divergence_with_its_square(examples, from_logits, weighted):
    """share * T² * KL(p_T || q_T) + (1 - share) * cross-entropy, in float64 by hand."""
    (x, y), share, temperature = examples, 0.3, 2.5
    activation = "linear" if from_logits else "softmax"
    teacher, model = classifier(1, activation), plain(2, activation)
    p, q = (
        np.exp(s) / np.exp(s).sum(1, keepdims=True) if from_logits else s
        for s in (np.asarray(m.predict(x, verbose=0), "float64") for m in (teacher, model))
    )
    term = Distill(teacher, share, temperature=temperature, from_logits=from_logits)
    loss = keras.losses.CategoricalCrossentropy(from_logits=from_logits)
    model.compile(keras.optimizers.SGD(0.0), loss, terms=[term])
    w = np.random.default_rng(5).uniform(size=24) if weighted else np.ones(24)
    sample_weight = w if weighted else None
    history = model.fit(x, y, sample_weight=sample_weight, batch_size=24, verbose=0).history
    p_t, q_t = softened(p, temperature), softened(q, temperature)
    soft = temperature**2 * (w * (p_t * (np.log(p_t) - np.log(q_t))).sum(1)).mean()
    hard = (w * -(y * np.log(q)).sum(1)).mean()
    assert history["distill"][0] == pytest.approx(share * soft, rel=1e-4)
    assert history["loss"][0] == pytest.approx(share * soft + (1 - share) * hard, rel=1e-4)


def test_gradients_at_both_kinds_of_temperature_agree_near_1(examples):
    """At T = 1 mixing targets has the gradient of the divergence; T = 1.0001 is next to it."""
    x, y = examples
    ends = []
    for temperature in (1.0, 1.0001):
        model = plain(2)
        term = Distill(classifier(1), 0.7, temperature=temperature)
        model.compile(keras.optimizers.SGD(0.5), "categorical_crossentropy", terms=[term])
        model.fit(x, y, batch_size=24, epochs=5, verbose=0)
        ends.append(model.get_weights())
    for one, two in zip(*ends, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)


def test_it_equals_a_subclass_with_mixed_targets_bit_for_bit(examples):
    """What it stands for: a model whose `compute_loss` mixes the teacher's answers in."""
    x, y = examples
    teacher = classifier(1)

    class Taught(FineTuner):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            if training:
                answers = tf.stop_gradient(teachers[0](x, training=False))
                y = 0.4 * answers + (1 - 0.4) * tf.cast(y, answers.dtype)
            return super().compute_loss(x, y, y_pred, sample_weight, training=training)

    teachers, ends = [teacher], []
    for kind, terms in ((Taught, []), (FineTuner, [Distill(teacher, 0.4)])):
        model = kind.from_model(classifier(2))
        keras.utils.set_random_seed(4)
        loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
        model.compile(keras.optimizers.AdamW(0.01), loss, terms=terms)
        history = model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0).history
        ends.append((history["loss"], model.get_weights()))
    assert ends[0][0] == ends[1][0]
    for one, two in zip(ends[0][1], ends[1][1], strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_share_of_0_is_bit_equal_to_no_teacher(examples):
    ends = []
    for terms in ([], [Distill(classifier(1), 0.0, temperature=2.0)]):
        model = FineTuner.from_model(classifier(2))
        model.compile(keras.optimizers.Adam(0.01), "categorical_crossentropy", terms=terms)
        keras.utils.set_random_seed(4)
        ends.append((model.fit(*examples, epochs=2, verbose=0).history, model.get_weights()))
    assert ends[0][0] == ends[1][0]
    for one, two in zip(ends[0][1], ends[1][1], strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_it_trains_the_student_and_no_teacher(examples, temperature):
    teacher, model = classifier(1), FineTuner.from_model(classifier(2))
    count, before = len(model.weights), [w.copy() for w in teacher.get_weights()]
    start = model.get_weights()
    term = Distill(teacher, 1.0, temperature=temperature)
    model.compile(
        keras.optimizers.Adam(0.01), "categorical_crossentropy", metrics=["accuracy"], terms=[term]
    )
    model.fit(*examples, epochs=2, verbose=0)
    assert len(model.weights) == count
    for old, new in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)  # dropout and statistics inert, too
    assert any((old != new).any() for old, new in zip(start, model.get_weights(), strict=True))


def test_wholly_taught_labels_do_not_matter_and_metrics_go_by_them(examples):
    x, y = examples
    ends, accuracies = [], []
    for labels in (y, np.roll(y, 2, axis=1)):
        model = FineTuner.from_model(classifier(2))
        model.compile(
            keras.optimizers.SGD(0.1),
            "categorical_crossentropy",
            metrics=["accuracy"],
            terms=[Distill(classifier(1), 1.0)],
        )
        keras.utils.set_random_seed(4)
        history = model.fit(x, labels, batch_size=24, shuffle=False, verbose=0).history
        ends.append(model.get_weights())
        accuracies.append(history["accuracy"][0])
    for one, two in zip(*ends, strict=True):
        np.testing.assert_array_equal(one, two)
    assert accuracies[0] != accuracies[1]


@pytest.mark.slow_but("3.0")
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_a_student_comes_to_answer_as_its_teacher(examples, temperature):
    x, y = examples
    teacher, model = classifier(1), FineTuner.from_model(classifier(2))
    apart = np.abs(teacher.predict(x, verbose=0) - model.predict(x, verbose=0)).mean()
    term = Distill(teacher, 1.0, temperature=temperature)
    model.compile(keras.optimizers.Adam(0.02), "categorical_crossentropy", terms=[term])
    model.fit(x, y, epochs=200, verbose=0)
    near = np.abs(teacher.predict(x, verbose=0) - model.predict(x, verbose=0)).mean()
    assert near < 0.5 * apart


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_frozen_body_is_computed_once_and_taught_the_same(examples, temperature):
    x, y = examples
    found = []
    for cache_frozen in (True, False):
        model = plain(2)
        freeze_to(model, -1)
        model.compile(
            keras.optimizers.SGD(0.1),
            "categorical_crossentropy",
            terms=[Distill(classifier(1), 0.5, temperature=temperature)],
        )
        history = model.fit(
            x, y, epochs=3, batch_size=5, shuffle=False, verbose=0, cache_frozen=cache_frozen
        )
        assert not cache_frozen or all(row["cached"] for row in history.frozen_features)
        found.append([history.history["loss"], history.history["distill"], *model.get_weights()])
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(one, two, **REDUCTION)


def test_refusals(examples):
    x, y = examples
    with pytest.raises(ValueError, match=r"`share` must be a number in \[0.0, 1.0\]"):
        Distill(classifier(1), 1.5)
    with pytest.raises(ValueError, match="`temperature` must be"):
        Distill(classifier(1), temperature=0.0)
    model = plain(2)
    model.compile("sgd", "sparse_categorical_crossentropy", terms=[Distill(classifier(1))])
    with pytest.raises(ValueError, match="mixed into one-hot targets"):
        model.fit(x, y.argmax(1), verbose=0)
    other = keras.Sequential([keras.Input((6,)), L.Dense(4)])
    model.compile("sgd", "categorical_crossentropy", terms=[Distill(other)])
    with pytest.raises(ValueError, match=r"a teacher that gives \(None, 4\)"):
        model.fit(x, y, verbose=0)
