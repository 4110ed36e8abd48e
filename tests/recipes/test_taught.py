"""`Taught`: a model learns what a teacher answers, and the teacher stays as it is."""

import dataclasses

import keras
import numpy as np
import pytest

from kerastl.recipes import CompressSettings
from kerastl.recipes.finished import load_run
from kerastl.recipes.stages import StageJob, retrain
from kerastl.recipes.taught import Taught
from kerastl.training import FineTuner
from tests.recipes.compress_cases import FAST, read, write_run

L = keras.layers


def classifier(seed):
    """A network whose answers in training are others than in inference."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6,))
    x = L.BatchNormalization(name="norm")(L.Dense(8, activation="relu", name="low")(inputs))
    return keras.Model(inputs, L.Dense(3, activation="softmax", name="head")(L.Dropout(0.5)(x)))


@pytest.fixture
def examples():
    rng = np.random.default_rng(0)
    return rng.normal(size=(24, 6)).astype("float32"), np.eye(3, dtype="float32")[
        rng.integers(0, 3, 24)
    ]


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_the_loss_is_cross_entropy_with_both_mixed(examples, share):
    x, y = examples
    teacher = classifier(1)
    taught = Taught.by(teacher, classifier(2), share)
    taught.compile("sgd", "categorical_crossentropy")
    scores = np.random.default_rng(3).dirichlet(np.ones(3), 24).astype("float32")
    target = share * teacher.predict(x, verbose=0) + (1 - share) * y
    expected = -(target * np.log(scores)).sum(1).mean()
    assert float(taught.compute_loss(x, y, scores)) == pytest.approx(expected, rel=1e-5)
    labels_alone = -(y * np.log(scores)).sum(1).mean()
    evaluated = float(taught.compute_loss(x, y, scores, training=False))
    assert evaluated == pytest.approx(labels_alone, rel=1e-5)


def test_it_trains_the_model_it_shares_weights_with_and_no_teacher(examples):
    teacher, model = classifier(1), classifier(2)
    taught = Taught.by(teacher, model, 1.0)
    assert len(taught.weights) == len(model.weights)
    before = [w.copy() for w in teacher.get_weights()], [w.copy() for w in model.get_weights()]
    taught.compile(keras.optimizers.Adam(0.01), "categorical_crossentropy", metrics=["accuracy"])
    taught.fit(*examples, epochs=2, verbose=0)
    for old, new in zip(before[0], teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)  # dropout and statistics inert, too
    assert any((old != new).any() for old, new in zip(before[1], model.get_weights(), strict=True))


def test_taught_alone_labels_do_not_matter_and_metrics_go_by_them(examples):
    x, y = examples
    ends, accuracies = [], []
    for labels in (y, np.roll(y, 2, axis=1)):
        model = classifier(2)
        taught = Taught.by(classifier(1), model, 1.0)
        taught.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy", metrics=["accuracy"])
        keras.utils.set_random_seed(4)
        history = taught.fit(x, labels, epochs=1, batch_size=24, shuffle=False, verbose=0).history
        ends.append(model.get_weights())
        accuracies.append(history["accuracy"][0])
    for one, two in zip(*ends, strict=True):
        np.testing.assert_array_equal(one, two)
    assert accuracies[0] != accuracies[1]


def test_a_pupil_comes_to_answer_as_its_teacher(examples):
    x, y = examples
    teacher, model = classifier(1), classifier(2)
    apart = np.abs(teacher.predict(x, verbose=0) - model.predict(x, verbose=0)).mean()
    taught = Taught.by(teacher, model, 1.0)
    taught.compile(keras.optimizers.Adam(0.02), "categorical_crossentropy")
    taught.fit(x, y, epochs=200, verbose=0)
    near = np.abs(teacher.predict(x, verbose=0) - model.predict(x, verbose=0)).mean()
    assert near < 0.5 * apart


def test_stages_learn_from_the_teacher_by_the_share_asked_for(tmp_path):
    """On wrong labels, a network that listens to its teacher stays right."""
    data, run = write_run(tmp_path)
    examples = read(run, data)
    wrong = examples.train.with_targets((np.asarray(examples.train.targets) + 1) % 3)
    examples = dataclasses.replace(examples, train=wrong)
    agreement = {}
    for share in (0.0, 1.0):
        model, teacher = (FineTuner.from_model(load_run(run).model) for _ in range(2))
        config = CompressSettings(prune=0.5, seed=0, distill=share, **{**FAST, "epochs": 6})
        retrain(model, StageJob(examples, config, teacher))
        pixels = examples.train.inputs()
        answers = [m.predict(pixels, verbose=0).argmax(1) for m in (model, teacher)]
        agreement[share] = (answers[0] == answers[1]).mean()
    assert agreement[1.0] > 0.9 > agreement[0.0]
