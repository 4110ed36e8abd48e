"""Penalties with importances: nothing before a task, a pull towards it after, and a way on."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl.callbacks import GradualUnfreezing, Resume
from kerastl.continual import (
    L2SP,
    ElasticWeightConsolidation,
    MemoryAwareSynapses,
    SynapticIntelligence,
)
from kerastl.freezing import freeze_to, unfreeze
from kerastl.training import FineTuner
from tests.callbacks.resume_cases import Kill, Killed
from tests.tolerances import ELEMENTWISE, EXACT, REDUCTION
from tests.training.terms_cases import X, assert_equal, weights
from tests.two_devices import two_and_one

Y = np.arange(20) % 3
OTHER = -Y % 3


def make(terms=(), optimizer=None, frozen=False, **options):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    x = keras.layers.Dense(6, activation="tanh", name="body")(inputs)
    head = keras.layers.Dense(3, activation="softmax", name="head", dtype="float32")
    model = FineTuner(inputs, head(x))
    if frozen:
        freeze_to(model, -1)
    compiled(model, terms, optimizer, **options)
    return model


def compiled(model, terms=(), optimizer=None, **options):
    optimizer = optimizer or keras.optimizers.SGD(0.1, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", terms=terms, **options)


def fitted(model, y=Y, **options):
    options = {"epochs": 3, "batch_size": 5, "shuffle": False, "verbose": 0, **options}
    return model.fit(X, y, **options)


def ewc(**options):
    return ElasticWeightConsolidation(**options)


def mas(**options):
    return MemoryAwareSynapses(**options)


def si(**options):
    return SynapticIntelligence(**options)


def consolidated(term, model):
    """`term` after the first task, on which SI must have been from its first step on."""
    if isinstance(term, SynapticIntelligence):
        compiled(model, [term])
        fitted(model, epochs=1)
        term.consolidate(model)
    else:
        fitted(model, epochs=1)
        term.consolidate(model, X)
    return term


TERMS = [ewc, mas, si]


@pytest.mark.parametrize("make_term", TERMS)
def test_strength_0_is_bit_equal_to_no_term(make_term):
    ends = []
    for terms in ((), [make_term(strength=0.0)]):
        model = make(terms)
        ends.append((fitted(model).history, weights(model)))
    assert ends[0][0] == ends[1][0]
    assert_equal(ends[0][1], ends[1][1], **EXACT)


@pytest.mark.parametrize("proximal", [True, False])
@pytest.mark.parametrize("make_term", TERMS)
def test_the_penalty_is_0_at_the_anchor_and_its_gradient_off_it(make_term, proximal):
    """`strength F (w - anchor)` and half of it times the distance, in float64 by hand."""
    model = make()
    term = consolidated(make_term(strength=0.7, proximal=proximal), model)
    anchors = weights(model)
    rate = 1e-3
    ends = []
    for terms in ([], [term]):
        for weight, anchor in zip(model.weights, anchors, strict=True):
            weight.assign(anchor)
        compiled(model, terms, keras.optimizers.SGD(rate))
        values = model.train_on_batch(X, Y, return_dict=True)  # makes the anchors
        for weight, anchor in zip(model.weights, anchors, strict=True):
            weight.assign(anchor + 0.5)
        values = values.get(term.name), model.train_on_batch(X, Y, return_dict=True).get(term.name)
        ends.append((values, weights(model)))
    importances = list(term.importances.values())
    assert np.concatenate([one.ravel() for one in importances]).mean() == pytest.approx(1.0)
    assert ends[1][0][0] == 0.0
    value = sum(0.7 / 2 * (one * 0.25).sum() for one in importances)
    assert ends[1][0][1] == pytest.approx(value, rel=1e-5)
    for plain, drawn, anchor, one in zip(ends[0][1], ends[1][1], anchors, importances, strict=True):
        factor = rate * 0.7 * one
        implicit, explicit = (plain + factor * anchor) / (1 + factor), plain - factor * 0.5
        expected = implicit if proximal else explicit
        np.testing.assert_allclose(drawn, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make_term", TERMS)
def test_a_huge_strength_is_finite_and_stays(make_term):
    model = make()
    term = consolidated(make_term(strength=1e6), model)
    anchors = weights(model)
    compiled(model, [term])
    history = fitted(model, OTHER, epochs=5).history
    assert np.isfinite(history["loss"]).all()
    for weight, anchor, one in zip(weights(model), anchors, term.importances.values(), strict=True):
        matters = one > 1e-2
        np.testing.assert_allclose(weight[matters], anchor[matters], atol=1e-3)


@pytest.mark.slow_but("si")
@pytest.mark.parametrize("make_term", TERMS)
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, make_term):
    def run(*callbacks, folder):
        model = make()
        term = consolidated(make_term(strength=2.0), model)
        freeze_to(model, -1)
        compiled(model, [term, L2SP(0.1)])
        callbacks = [GradualUnfreezing({0: "head", 1: 2}), Resume(tmp_path / folder), *callbacks]
        history = fitted(model, OTHER, callbacks=callbacks, shuffle=True).history
        return history, [*weights(model), *(v.numpy() for v in model.terms.variables)]

    whole = run(folder="whole")
    with pytest.raises(Killed):
        run(Kill(2, 1), folder="killed")
    resumed = run(folder="killed")
    assert resumed[0] == whole[0]
    assert_equal(whole[1], resumed[1], **EXACT)


def test_synaptic_intelligence_equals_the_loop_written_by_hand():
    """Zenke et al., 2017, equations 3 to 5: paths of a plain run, in float64."""
    model, term = make(), si(strength=1.0, xi=0.1)
    start = [w.astype("float64") for w in weights(model)]
    compiled(model, [term])
    plain = make()
    fitted(model, epochs=2)
    paths = [np.zeros(w.shape) for w in start]
    for _ in range(2):
        for at in range(0, 20, 5):
            before = weights(plain)
            with_tape = gradients(plain, X[at : at + 5], Y[at : at + 5])
            plain.train_on_batch(X[at : at + 5], Y[at : at + 5])
            for path, g, w, b in zip(paths, with_tape, weights(plain), before, strict=True):
                path -= g * (w.astype("float64") - b)
    assert_equal(weights(model), weights(plain), **EXACT)  # nothing is held before a task is done
    term.consolidate(model)
    measured = [
        np.maximum(path, 0) / ((w - s) ** 2 + 0.1)
        for path, w, s in zip(paths, weights(plain), start, strict=True)
    ]
    mean = np.concatenate([one.ravel() for one in measured]).mean()
    for got, want in zip(term.importances.values(), measured, strict=True):
        np.testing.assert_allclose(got, want / mean, rtol=1e-3, atol=1e-4)


def gradients(model, x, y):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y, model(x)))
    return [g.numpy().astype("float64") for g in tape.gradient(loss, model.trainable_variables)]


def test_the_path_of_a_step_skipped_for_overflow_is_0():
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=3e38)
    term = si()
    model = make([term], optimizer)
    model.train_on_batch(1e3 * X, Y)
    assert all(not v.numpy().any() for v in term.state_variables[2::3])


def test_cached_equals_uncached():
    ends = []
    for cache_frozen in (True, False):
        model = make(frozen=True)
        term = ewc(strength=3.0)
        term.consolidate(model, X)
        compiled(model, [term, si()])
        history = fitted(model, OTHER, cache_frozen=cache_frozen)
        if cache_frozen:
            assert all(row["cached"] for row in history.frozen_features)
        ends.append(weights(model))
    assert_equal(*ends, **REDUCTION)


def test_what_thaws_must_have_been_consolidated():
    model = make(frozen=True)
    term = ewc()
    term.consolidate(model, X)
    unfreeze(model, "body")
    compiled(model, [term])
    with pytest.raises(ValueError, match=r"'body/kernel', which did not train when 'ewc'"):
        fitted(model)
    freeze_to(model, -1)
    term.consolidate(model, X, where=slice(None))
    compiled(model, [term])
    callbacks = [GradualUnfreezing({0: "head", 1: 2})]
    fitted(model, OTHER, callbacks=callbacks)
    assert len(term.state_variables) == 8


def test_a_new_head_is_free():
    """Of another model on the same body: it has no anchor, and no part in the penalty."""
    model = make()
    term = consolidated(ewc(strength=1e6), model)
    body = weights(model)[:2]
    head = keras.layers.Dense(2, activation="softmax", name="other")
    other = FineTuner(model.input, head(model.get_layer("body").output))
    before = head.kernel.numpy()
    compiled(other, [term], keras.optimizers.SGD(0.1))
    fitted(other, Y % 2, epochs=20)
    assert len(term.state_variables) == 4
    assert np.abs(head.kernel.numpy() - before).max() > 0.01
    assert_equal(weights(other)[:2], body, rtol=0, atol=0.05)


def test_a_training_that_goes_on_takes_up_a_second_task():
    """Without another `compile`: the variables of the step are given the new numbers."""
    model = make()
    term = consolidated(ewc(strength=1.0), model)
    compiled(model, [term])
    fitted(model, OTHER, epochs=1)
    term.consolidate(model, -X)
    now = weights(model)
    assert_equal([v.numpy() for v in term.state_variables[::2]], now, **EXACT)
    held = [v.numpy() for v in term.state_variables[1::2]]
    assert_equal(held, list(term.importances.values()), **ELEMENTWISE)


@pytest.mark.slow
def test_two_devices_equal_one(tmp_path):
    program = """
        from tests.continual.test_consolidated import OTHER, X, compiled, ewc, fitted, make, si

        def train():
            model, terms = make(), [ewc(strength=2.0), si(strength=1.0)]
            terms[0].consolidate(model, X)
            compiled(model, terms)
            fitted(model, OTHER, batch_size=10)
            terms[1].consolidate(model)
            compiled(model, terms)
            fitted(model, batch_size=10)
            return [v.numpy() for v in [*model.weights, *model.terms.variables]]
        """
    two, one = two_and_one(program, tmp_path)
    assert_equal(two, one, rtol=1e-4, atol=1e-5)


def test_what_comes_too_early_is_refused():
    with pytest.raises(RuntimeError, match="ElasticWeightConsolidation has no anchors yet"):
        fitted(make([ewc()]))
    with pytest.raises(RuntimeError, match="SynapticIntelligence measures while a model trains"):
        si().consolidate(make())
    term = consolidated(mas(), make())
    with pytest.raises(ValueError, match="must be trained with weights that were consolidated"):
        fitted(make([term]))
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    with pytest.raises(ValueError, match="gradient_accumulation_steps=2"):
        fitted(make([si()], optimizer))
