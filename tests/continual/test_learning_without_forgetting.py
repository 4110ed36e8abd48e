"""Learning without forgetting: the old answers to new inputs, on the old classes alone."""

import keras
import numpy as np
import pytest

from kerastl.callbacks import Resume
from kerastl.continual import LearningWithoutForgetting
from kerastl.freezing import freeze_to
from kerastl.training import FineTuner
from tests.callbacks.resume_cases import Kill, Killed
from tests.tolerances import EXACT, REDUCTION
from tests.training.terms_cases import X, assert_equal, weights

Y = np.arange(20) % 3


def network(classes=3, *, seed=1, logits=False, model=FineTuner):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,))
    x = keras.layers.Dense(6, activation="tanh", name="body")(inputs)
    activation = None if logits else "softmax"
    return model(inputs, keras.layers.Dense(classes, activation=activation, name="head")(x))


def old_model(classes=3, **options):
    return network(classes, seed=7, model=keras.Model, **options)


def compiled(model, terms=(), rate=0.1):
    model.compile(keras.optimizers.SGD(rate), "sparse_categorical_crossentropy", terms=terms)
    return model


def fitted(model, **options):
    options = {"epochs": 2, "batch_size": 5, "shuffle": False, "verbose": 0, **options}
    return model.fit(X, Y, **options)


def divergence(old, new, temperature, sample_weight=1.0):
    """`T² * mean KL` of softened probabilities in float64: Hinton et al., 2015, section 2."""
    old, new = (np.asarray(p, "float64") ** (1 / temperature) for p in (old, new))
    old, new = (p / p.sum(axis=1, keepdims=True) for p in (old, new))
    each = (old * np.log(old / new)).sum(axis=1)
    return temperature**2 * (sample_weight * each).mean()


def test_the_value_is_that_of_the_formula():
    """At a rate of 0, with sample weights."""
    old, model = old_model(), network()
    compiled(model, [LearningWithoutForgetting(old, 0.7, temperature=3.0)], rate=0.0)
    weight = np.linspace(0.1, 2.0, 20)
    value = fitted(model, epochs=1, batch_size=20, sample_weight=weight).history["lwf"][0]
    expected = 0.7 * divergence(old.predict(X), model.predict(X), 3.0, weight)
    assert value == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("head", [None, [4, 0, 2]])
def test_a_head_that_has_grown_is_masked(head):
    """The first three of five classes, or three that are named; both of them made to sum to 1."""
    old, model = old_model(logits=True), network(5, logits=True)
    term = LearningWithoutForgetting(old, head=head, from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), "mse", terms=[term])
    value = model.fit(X, np.zeros((20, 5)), 20, verbose=0).history["lwf"][0]
    columns = head or [0, 1, 2]
    new = np.exp(model.predict(X)[:, columns])
    assert value == pytest.approx(divergence(np.exp(old.predict(X)), new, 2.0), rel=1e-4)


def test_a_head_of_its_own():
    """With two heads on one body the old one is told by name; its answers are held."""
    keras.utils.set_random_seed(1)
    old, inputs = old_model(), keras.Input((4,))
    x = keras.layers.Dense(6, activation="tanh", name="body")(inputs)
    heads = [keras.layers.Dense(3, "softmax", name=name)(x) for name in ("new", "before")]
    model = FineTuner(inputs, heads)
    for name, of_old in (("body", "body"), ("before", "head")):
        model.get_layer(name).set_weights(old.get_layer(of_old).get_weights())
    apart = []
    for strength in (0.0, 5.0):
        start = model.get_weights()
        model.get_layer("before").trainable = strength > 0  # nothing trains it else
        term = LearningWithoutForgetting(old, strength, head="before")
        losses = ["sparse_categorical_crossentropy", None]
        model.compile(keras.optimizers.SGD(0.5), losses, terms=[term])
        model.fit(X, [Y, Y], 5, epochs=20, verbose=0)
        apart.append(np.abs(model.predict(X)[1] - old.predict(X)).mean())
        model.set_weights(start)
    assert apart[1] < apart[0] / 3


def test_a_model_that_answers_as_before_is_not_pulled():
    """Weights of the old model: value 0 and gradient 0, but for rounding."""
    old = old_model()
    ends = []
    for terms in ([], [LearningWithoutForgetting(old, 3.0)]):
        model = compiled(network(), terms)
        model.set_weights(old.get_weights())
        values = model.train_on_batch(X, Y, return_dict=True)
        ends.append(weights(model))
    assert abs(values["lwf"]) < 1e-6
    assert_equal(*ends, **REDUCTION)


def test_strength_0_is_bit_equal_to_no_term():
    ends = []
    for terms in ((), [LearningWithoutForgetting(old_model(), 0.0)]):
        model = compiled(network(), terms)
        ends.append((fitted(model).history, weights(model)))
    assert ends[0][0] == ends[1][0]
    assert_equal(ends[0][1], ends[1][1], **EXACT)


def test_cached_equals_uncached():
    ends = []
    for cache_frozen in (True, False):
        model = network()
        freeze_to(model, -1)
        compiled(model, [LearningWithoutForgetting(old_model())])
        history = fitted(model, cache_frozen=cache_frozen)
        assert all(bool(row["cached"]) == cache_frozen for row in history.frozen_features)
        ends.append((history.history["lwf"], weights(model)))
    np.testing.assert_allclose(ends[0][0], ends[1][0], **REDUCTION)
    assert_equal(ends[0][1], ends[1][1], **REDUCTION)


def test_a_killed_run_goes_on_bit_for_bit(tmp_path):
    def run(*callbacks, folder, seed=7):
        old = network(seed=seed, model=keras.Model)
        model = compiled(network(), [LearningWithoutForgetting(old)])
        callbacks = [Resume(tmp_path / folder), *callbacks]
        return fitted(model, callbacks=callbacks, shuffle=True).history, weights(model)

    whole = run(folder="whole")
    with pytest.raises(Killed):
        run(Kill(1, 1), folder="killed")
    with pytest.raises(ValueError, match="`terms/0/old`"):
        run(folder="killed", seed=8)
    resumed = run(folder="killed")
    assert resumed[0] == whole[0]
    assert_equal(whole[1], resumed[1], **EXACT)


def test_refusals():
    model = network()
    cases = [
        (LearningWithoutForgetting(keras.Model(model.input, model.output)), "weights of its own"),
        (LearningWithoutForgetting(old_model(4)), r"the 4 old classes.*head=None.*\(None, 3\)"),
        (LearningWithoutForgetting(old_model(), head=[0, 1]), r"3 indices.*head=\[0, 1\]"),
        (LearningWithoutForgetting(old_model(), head="body"), r"'body' gives \(None, 6\)"),
        (LearningWithoutForgetting(old_model(1)), "two classes at least"),
    ]
    for term, words in cases:
        compiled(model, [term])
        with pytest.raises(ValueError, match=words):
            fitted(model)
    with pytest.raises(ValueError, match="`temperature` must be a number in"):
        LearningWithoutForgetting(old_model(), temperature=0.0)
