"""`Distill`: a model learns what a teacher answers, and the teacher stays as it is."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl.callbacks import Resume
from kerastl.data.passes import ArrayPasses, dataset_of
from kerastl.distillation import Distill
from kerastl.freezing import freeze_to
from kerastl.training import FineTuner
from tests.callbacks.resume_cases import Kill, Killed
from tests.tolerances import EXACT, REDUCTION

L = keras.layers
# A value that is 0 in exact arithmetic is a sum of some float32 numbers near 1, each off by 6e-8.
ZERO = 1e-6


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
    model.compile(keras.optimizers.Adam(0.06), "categorical_crossentropy", terms=[term])
    model.fit(x, y, epochs=90, verbose=0)
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


def fit(model, x, y, term, *, loss="categorical_crossentropy", rate=0.1, **options):
    model.compile(keras.optimizers.SGD(rate), loss, terms=[term])
    options = {"batch_size": 24, "verbose": 0, **options}
    return model.fit(x, y, **options).history


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_a_student_with_the_weights_of_its_teacher_has_nothing_to_learn(examples, temperature):
    """Zero divergence and, at a rate of 1, zero step, wholly taught and in batches."""
    x, y = examples
    teacher, model = plain(1), plain(2)
    model.set_weights(teacher.get_weights())
    history = fit(model, x, y, Distill(teacher, 1.0, temperature=temperature), rate=1.0)
    assert abs(history["distill"][0]) <= ZERO
    assert temperature == 1 or abs(history["loss"][0]) <= ZERO
    for was, now in zip(teacher.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(now, was, rtol=0, atol=ZERO)


@pytest.mark.parametrize("temperature", [0.5, 2.0, 20.0])
def test_the_gradient_has_the_scale_of_the_temperature(examples, temperature):
    """Of logits it is `T * (q_T - p_T) / batch`, which does not vanish as T grows: by hand."""
    x, y = examples
    inputs = keras.Input((6,))
    teacher, model = (
        FineTuner(inputs, L.Dense(3, use_bias=False, name=name)(inputs)) for name in "ab"
    )
    kernel, taught = (np.asarray(m.get_weights()[0], "float64") for m in (model, teacher))
    term = Distill(teacher, 1.0, temperature=temperature, from_logits=True)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    fit(model, x, y, term, loss=loss, rate=1.0)
    p, q = (softened(np.exp(x.astype("float64") @ w), temperature) for w in (taught, kernel))
    step = x.T.astype("float64") @ (temperature * (q - p)) / len(x)
    np.testing.assert_allclose(model.get_weights()[0], kernel - step, rtol=1e-4, atol=1e-5)


def test_beside_any_hard_loss(examples):
    """Class indices train as one-hot targets do, and the squared error is no cross-entropy."""
    x, y = examples
    ends = []
    for loss, targets in (
        ("categorical_crossentropy", y),
        ("sparse_categorical_crossentropy", y.argmax(1)),
    ):
        model = plain(2)
        fit(model, x, targets, Distill(classifier(1), 0.7), loss=loss, epochs=3)
        ends.append(model.get_weights())
    for one, two in zip(*ends, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)
    model, teacher = plain(2), classifier(1)
    q, p = (m.predict(x, verbose=0).astype("float64") for m in (model, teacher))
    term = Distill(teacher, 0.7, kind="classes", temperature=2.0)
    history = fit(model, x, y, term, loss=keras.losses.CategoricalHinge(), rate=0.0)
    p_t, q_t = softened(p, 2.0), softened(q, 2.0)
    soft = 0.7 * 4 * (p_t * np.log(p_t / q_t)).sum(1).mean()
    hinge = np.maximum(1 - (y * q).sum(1) + ((1 - y) * q).max(1), 0).mean()
    assert history["loss"][0] == pytest.approx(soft + 0.3 * hinge, rel=1e-4)


def test_several_labels_are_each_a_divergence(examples):
    """T² times the mean over labels of that of each and its opposite, beside binary losses."""
    x, y = examples
    teacher, model = plain(1, "sigmoid"), plain(2, "sigmoid")
    p, q = (m.predict(x, verbose=0).astype("float64") for m in (teacher, model))
    term = Distill(teacher, 0.4, temperature=2.0)
    history = fit(model, x, y, term, loss="binary_crossentropy", rate=0.0)
    both = [softened(np.stack([z, 1 - z], -1), 2.0) for z in (p, q)]
    soft = 4 * (both[0] * np.log(both[0] / both[1])).sum(-1).mean()
    hard = -(y * np.log(q) + (1 - y) * np.log(1 - q)).mean()
    assert history["distill"][0] == pytest.approx(0.4 * soft, rel=1e-4)
    assert history["loss"][0] == pytest.approx(0.4 * soft + 0.6 * hard, rel=1e-4)


def test_numbers_are_learnt_by_their_squared_distance(examples):
    x, y = examples
    teacher, model = plain(1, "linear"), plain(2, "linear")
    p, q = (m.predict(x, verbose=0).astype("float64") for m in (teacher, model))
    w = np.random.default_rng(5).uniform(size=24)
    history = fit(model, x, y, Distill(teacher, 0.4), loss="mae", rate=0.0, sample_weight=w)
    soft, hard = (w * ((p - q) ** 2).mean(1)).mean(), (w * np.abs(y - q).mean(1)).mean()
    assert history["loss"][0] == pytest.approx(0.4 * soft + 0.6 * hard, rel=1e-4)
    with pytest.raises(ValueError, match="for probabilities"):
        fit(plain(2), x, y, Distill(teacher, temperature=2.0), loss="mse")


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_of_several_teachers_the_mean_of_probabilities_is_learnt(
    examples, from_logits, temperature
):
    x, y = examples
    activation = "linear" if from_logits else "softmax"
    teachers, model = [plain(seed, activation) for seed in (1, 3, 4)], plain(2, activation)
    *p, q = (m.predict(x, verbose=0).astype("float64") for m in (*teachers, model))
    if from_logits:
        *p, q = (softened(np.exp(z), 1) for z in (*p, q))
    p, q = softened(np.mean(p, axis=0), temperature), softened(q, temperature)
    loss = keras.losses.CategoricalCrossentropy(from_logits=from_logits)
    term = Distill(teachers, 0.5, temperature=temperature, from_logits=from_logits)
    history = fit(model, x, y, term, loss=loss, rate=0.0)
    told = temperature**2 * (p * np.log(p / q)).sum(1).mean()
    assert history["distill"][0] == pytest.approx(0.5 * told, rel=1e-4)


def test_a_teacher_of_another_size_has_its_own_preparation():
    """Bit-equal to a teacher that holds it inside; without either it is refused at the door."""
    x = np.random.default_rng(0).normal(size=(8, 6, 6, 3)).astype("float32")
    y = np.eye(2, dtype="float32")[np.arange(8) % 2]
    keras.utils.set_random_seed(1)

    def network(side, name):
        inputs = keras.Input((side, side, 3))
        pooled = L.Flatten()(L.Conv2D(2, 3)(inputs))
        return keras.Model(inputs, L.Dense(2, activation="softmax")(pooled), name=name)

    teacher, start, resizing = network(10, "large"), network(6, "small"), L.Resizing(10, 10)
    inputs, ends = keras.Input((6, 6, 3)), []
    whole = keras.Model(inputs, teacher(resizing(inputs)))
    for term in (
        Distill(teacher, prepare=resizing, temperature=2.0),
        Distill(whole, temperature=2),
    ):
        model = FineTuner.from_model(keras.models.clone_model(start))
        model.set_weights(start.get_weights())
        ends.append((fit(model, x, y, term, epochs=2, batch_size=4), model.get_weights()))
    assert ends[0][0] == ends[1][0]
    for one, two in zip(ends[0][1], ends[1][1], strict=True):
        np.testing.assert_array_equal(one, two)
    with pytest.raises(ValueError, match=r"'large' teaches on inputs of shape \(None, 10, 10, 3\)"):
        fit(model, x, y, Distill(teacher))


def test_statistics_of_the_student_move_once_a_step(examples):
    """One step by hand: `m * 0 + (1 - m) * mean of the batch`."""
    x, y = examples
    keras.utils.set_random_seed(2)
    inputs = keras.Input((6,))
    x_norm = L.BatchNormalization(name="norm", momentum=0.8)(inputs)
    model = FineTuner(inputs, L.Dense(3, activation="softmax")(x_norm))
    fit(model, x, y, Distill(classifier(1), temperature=2.0))
    moved = model.get_layer("norm").moving_mean
    np.testing.assert_allclose(moved, 0.2 * x.mean(0), **REDUCTION)


# Answers computed once.


class Counted(keras.layers.Layer):
    """Counts the examples that go through a teacher."""

    def build(self, shape):
        self.seen = self.add_weight(name="seen", initializer="zeros", trainable=False)

    def call(self, inputs):
        self.seen.assign_add(tf.cast(tf.shape(inputs)[0], "float32"))
        return inputs + 0.0 * self.seen


def counted(teacher):
    inputs = keras.Input((6,))
    return keras.Model(inputs, teacher(Counted(name="counted")(inputs)))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_answers_computed_once_are_bit_equal_to_those_of_each_step(examples, temperature):
    """Shuffled, nothing frozen, a last batch that is smaller."""
    (x, y), ends = examples, []
    for cache_frozen in ("auto", False):
        teacher, model = counted(classifier(1)), FineTuner.from_model(classifier(2))
        keras.utils.set_random_seed(4)
        model.compile(
            keras.optimizers.Adam(0.01),
            "categorical_crossentropy",
            terms=[Distill(teacher, 0.5, temperature=temperature)],
        )
        data = shuffled(x, y)
        options = {"epochs": 3, "shuffle": False, "verbose": 0}
        history = model.fit(data, cache_frozen=cache_frozen, **options).history
        ends.append((history, model.get_weights()))
        seen = float(teacher.get_layer("counted").seen)
        assert seen == (24 if cache_frozen == "auto" else 72)
    assert ends[0][0] == ends[1][0]
    for one, two in zip(ends[0][1], ends[1][1], strict=True):
        np.testing.assert_allclose(one, two, **EXACT)


def shuffled(x, y):
    return dataset_of(ArrayPasses(x, y, batch_size=7, seed=3))


def test_answers_by_row_are_those_of_their_teacher(examples):
    """However rows are shuffled, from one epoch on; others are refused."""
    (x, y), ends = examples, []
    teacher = plain(1)
    for given in (teacher, teacher.predict(x, verbose=0, batch_size=7)):
        model = plain(2)
        term = Distill(given, 0.5, temperature=2.0)
        model.compile(keras.optimizers.Adam(0.01), "categorical_crossentropy", terms=[term])
        model.fit(shuffled(x, y), epochs=1, shuffle=False, verbose=0)
        ends.append(model.get_weights())
    for one, two in zip(*ends, strict=True):
        np.testing.assert_allclose(one, two, **REDUCTION)
    with pytest.raises(ValueError, match="3 rows for 24 examples"):
        fit(plain(2), x, y, Distill(teacher.predict(x[:3], verbose=0)))
    with pytest.raises(ValueError, match="data that are read row by row"):
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
        term = Distill(teacher.predict(x, verbose=0))
        fit(plain(2), data, None, term, shuffle=False, batch_size=None)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_killed_run_goes_on_bit_for_bit(examples, tmp_path, frozen):
    def run(*callbacks, folder):
        model = FineTuner.from_model(classifier(2))
        if frozen:
            freeze_to(model, -1)
        term = Distill(classifier(1), 0.5, temperature=2.0)
        model.compile(keras.optimizers.Adam(0.01), "categorical_crossentropy", terms=[term])
        callbacks = [Resume(tmp_path / folder, every=1), *callbacks]
        history = model.fit(*examples, epochs=3, batch_size=7, verbose=0, callbacks=callbacks)
        return history.history, model.get_weights()

    whole = run(folder="whole")
    with pytest.raises(Killed):
        run(Kill(1, 1), folder="killed")
    resumed = run(folder="killed")
    assert resumed[0] == whole[0]
    for one, two in zip(whole[1], resumed[1], strict=True):
        np.testing.assert_allclose(one, two, **EXACT)


def test_refusals(examples):
    x, y = examples
    with pytest.raises(ValueError, match=r"`share` must be a number in \[0.0, 1.0\]"):
        Distill(classifier(1), 1.5)
    with pytest.raises(ValueError, match="`temperature` must be"):
        Distill(classifier(1), temperature=0.0)
    with pytest.raises(ValueError, match="`kind` must be"):
        Distill(classifier(1), kind="class")
    with pytest.raises(TypeError, match=r"must be a `keras.Model` or several"):
        Distill(["teacher"])
    with pytest.raises(ValueError, match="0 models"):
        Distill([])
    with pytest.raises(TypeError, match="`prepare` must be a function"):
        Distill(classifier(1), prepare=96)
    model = plain(2)
    model.compile("sgd", "categorical_crossentropy", terms=[Distill(classifier(1))])
    with pytest.raises(ValueError, match="mixed into targets of their shape"):
        model.fit(x, y.argmax(1), verbose=0)
    other = keras.Sequential([keras.Input((6,)), L.Dense(4)])
    model.compile("sgd", "categorical_crossentropy", terms=[Distill(other)])
    with pytest.raises(ValueError, match=r"a teacher that gives \(None, 4\)"):
        model.fit(x, y, verbose=0)
