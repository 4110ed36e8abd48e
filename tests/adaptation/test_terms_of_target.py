"""What each term that sees a target domain must hold to; what each of them computes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl.adaptation import MMD, Coral, DomainAdversarial, TargetStream
from kerastl.callbacks import Resume
from kerastl.freezing import freeze_to
from kerastl.training import FineTuner, Term, TermStep
from tests.adaptation.domains import nuisance_and_error
from tests.callbacks.resume_cases import Kill, Killed
from tests.tolerances import EXACT, REDUCTION
from tests.training.terms_cases import X, assert_equal
from tests.two_devices import two_and_one

LABELS = np.arange(20) % 3
TARGET = np.random.default_rng(1).normal(1.0, 2.0, (14, 4)).astype("float32")


def small_critic(width=6):
    hidden = keras.layers.Dense(5, activation="tanh")
    return keras.Sequential([keras.Input((width,)), hidden, keras.layers.Dense(1)])


def dann(strength=1.0, **options):
    return DomainAdversarial(
        TargetStream(TARGET, 4), strength, num_steps=30, critic=small_critic(), **options
    )


def cdan(strength=1.0):
    return DomainAdversarial(
        TargetStream(TARGET, 4), strength, condition="probabilities", critic=small_critic(18)
    )


TERMS = {
    "dann": dann,
    "cdan": cdan,
    "coral": lambda strength=1.0: Coral(TargetStream(TARGET, 4), strength),
    "mmd": lambda strength=1.0: MMD(TargetStream(TARGET, 4), strength),
}


def make(terms=(), optimizer=None, plain=False, frozen=False, added=None, **compile_args):
    """With batch normalization and dropout, unless `plain`; terms, or functions that make them."""
    keras.utils.set_random_seed(1)
    terms = [term if isinstance(term, Term) else term() for term in terms]
    keras.utils.set_random_seed(1)  # whatever a critic has drawn
    x = inputs = keras.Input((4,))
    if not plain:
        x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Dense(6, activation="tanh", name="body", activity_regularizer=added)(x)
    if not plain:
        x = keras.layers.Dropout(0.3, name="dropout")(x)
    model = FineTuner(inputs, keras.layers.Dense(3, activation="softmax", name="head")(x))
    if frozen:
        freeze_to(model, -1)
    optimizer = optimizer or keras.optimizers.SGD(0.05, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", terms=terms, **compile_args)
    return model


def fitted(model, **options):
    options = {"epochs": 2, "batch_size": 5, "shuffle": False, "verbose": 0, **options}
    return model.fit(X, LABELS, **options)


def state(model):
    """All that training changes in the model, its optimizer and its terms."""
    kept = [*model.variables, *model.optimizer.variables, *model.terms.variables]
    return [keras.ops.convert_to_numpy(variable) for variable in kept]


def of_model(model):
    return [variable.numpy() for variable in model.variables]


# Off, or not listened to.


@pytest.mark.parametrize("name", TERMS)
def test_strength_0_is_bit_equal_to_no_term(name):
    plain, off = make(), make([lambda: TERMS[name](0.0)])
    assert fitted(plain).history == fitted(off).history
    assert_equal(state(plain), state(off), **EXACT)


class Deaf(DomainAdversarial):
    """Runs at a lambda of 0, which a term that is off does not."""

    is_off = False


# TensorFlow's graph optimizer orders the sum of three gradients anew where one more comes to it.
@pytest.mark.parametrize(
    "added, tolerance", [(None, EXACT), ("l2", REDUCTION)], ids=["bits", "added"]
)
def test_a_critic_that_learns_at_lambda_0_leaves_the_model_as_source_alone(added, tolerance):
    """Bit-equal, statistics and random states among it; a loss that a layer adds stays the same."""
    critic = small_critic()
    before = critic.get_weights()
    deaf = Deaf(TargetStream(TARGET, 4), 0.0, critic=critic)
    plain, model = make(added=added), make([deaf], added=added)
    fitted(plain), fitted(model)
    assert_equal(of_model(plain), of_model(model), **tolerance)
    assert all(np.any(a != b) for a, b in zip(before, critic.get_weights(), strict=True))


@pytest.mark.parametrize("name", TERMS)
def test_moving_statistics_are_those_of_the_source(name):
    """Of the first layer, which sees the inputs themselves; the body has moved otherwise."""
    plain, model = make(), make([TERMS[name]])
    fitted(plain), fitted(model)
    for statistic in ("moving_mean", "moving_variance"):
        one, two = (getattr(m.get_layer("norm"), statistic) for m in (plain, model))
        np.testing.assert_allclose(one, two, **EXACT)
    assert np.any(plain.get_layer("body").kernel.numpy() != model.get_layer("body").kernel.numpy())


# What they compute.


def test_dann_equals_the_loop_written_by_hand():
    """Equation 9: the model goes down its loss and up lambda times that of the critic."""
    keras.utils.set_random_seed(1)
    critic, stream, again = small_critic(), TargetStream(TARGET, 4), TargetStream(TARGET, 4)
    term = DomainAdversarial(stream, 0.5, num_steps=30, critic=critic)
    start = critic.get_weights()
    model = make([term], keras.optimizers.SGD(0.05), plain=True)
    history = fitted(model, epochs=1).history
    plain, other = make(plain=True), small_critic()
    other.set_weights(start)
    again.prepare(1)
    body = keras.Model(plain.input, plain.get_layer("body").output)
    values, head = [], plain.get_layer("head")
    for i, first in enumerate(range(0, 20, 5)):
        again.stage(1)
        x, y, target = X[first : first + 5], LABELS[first : first + 5], again.take()
        weights, own = plain.trainable_variables, other.trainable_variables
        with tf.GradientTape(persistent=True) as tape:
            features = body(x)
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y, head(features)))
            told = [tf.sigmoid(other(part))[:, 0] for part in (features, body(target))]
            value = -tf.reduce_mean(tf.math.log(1 - told[0])) - tf.reduce_mean(tf.math.log(told[1]))
        strength = 0.5 * (2 / (1 + np.exp(-10 * i / 30)) - 1)
        down, up = (tape.gradient(part, weights) for part in (loss, value))
        for weight, g, against in zip(weights, down, up, strict=True):
            weight.assign_sub(0.05 * (g - strength * (0 if against is None else against)))
        for weight, g in zip(own, tape.gradient(value, own), strict=True):
            weight.assign_sub(0.5 * g)  # ten times the rate
        values.append(float(value))
    np.testing.assert_allclose(history["domain_adversarial"], [np.mean(values)], **REDUCTION)
    assert_equal(of_model(model), of_model(plain), **REDUCTION)
    assert_equal(critic.get_weights(), other.get_weights(), **REDUCTION)


RNG = np.random.default_rng(2)
SOURCE_FEATURES, TARGET_FEATURES = RNG.normal(0, 1, (9, 6)), RNG.normal(3, 2, (7, 6))


def of_features(term, source, target, outputs=None, answers=()):
    """The value of `term` on features, and its gradients to those and to the model's outputs."""
    term.features, term.widths = ("body",), (6,)
    source, target, *given = (tf.constant(part, "float32") for part in (source, target, *answers))
    term.run_target = lambda step: [target, *given]
    outputs = tf.constant(0.0 if outputs is None else outputs, "float32")
    with tf.GradientTape() as tape:
        tape.watch([source, target, outputs, *given])
        value = term(TermStep(None, None, None, outputs, features={"body": source}))
    return float(value), tape.gradient(value, [source, target, outputs, *given])


def test_coral_is_the_formula_of_the_paper():
    """Equations 1 to 3, in float64; with a loop over entries."""
    covariances = []
    for features in (SOURCE_FEATURES, TARGET_FEATURES):
        n, sums = len(features), features.sum(axis=0)
        covariances.append((features.T @ features - np.outer(sums, sums) / n) / (n - 1))
    apart = covariances[0] - covariances[1]
    expected = sum(apart[i, j] ** 2 for i in range(6) for j in range(6)) / (4 * 6**2)
    value, gradients = of_features(Coral(TARGET, 3.0), SOURCE_FEATURES, TARGET_FEATURES)
    assert value == pytest.approx(3 * expected, rel=1e-5)
    assert all(np.any(g) for g in gradients[:2])
    same = np.concatenate([SOURCE_FEATURES, SOURCE_FEATURES[::-1]])
    assert of_features(Coral(TARGET), same, same[::-1] + 5)[0] == pytest.approx(0, abs=1e-9)


def mmd(source, target):
    """In float64, pair by pair."""
    both = np.concatenate([source, target])
    pairs = [np.sum((a - b) ** 2) for i, a in enumerate(both) for b in both[:i]]
    median = np.median(pairs)

    def mean_kernel(one, two):
        each = [np.sum((a - b) ** 2) / median for a in one for b in two]
        return np.mean([sum(np.exp(-d / u) for u in (0.25, 0.5, 1, 2, 4)) for d in each])

    across = mean_kernel(source, target)
    return mean_kernel(source, source) + mean_kernel(target, target) - 2 * across


@pytest.mark.parametrize("far", [0.0, 1000.0])
def test_mmd_is_the_discrepancy_of_the_paper(far):
    """Also far from the origin: 1e-3 for features that float32 holds to 6e-5 there."""
    source, target = SOURCE_FEATURES + far, TARGET_FEATURES + far
    value, gradients = of_features(MMD(TARGET, 2.0), source, target)
    assert value == pytest.approx(2 * mmd(source, target), rel=1e-3 if far else 1e-5)
    assert all(np.any(g) and np.all(np.isfinite(g)) for g in gradients[:2])
    assert of_features(MMD(TARGET), source, source)[0] == pytest.approx(0, abs=1e-5)


def test_cdan_is_the_formula_of_the_paper_and_answers_have_no_gradient():
    """Products and weights in float64; the critic is linear."""
    rng = np.random.default_rng(3)
    answers = [rng.dirichlet(np.ones(3), size=num) for num in (9, 7)]
    kernel, sides = rng.normal(0, 0.1, (18, 1)), []
    for i, (f, g) in enumerate(zip((SOURCE_FEATURES, TARGET_FEATURES), answers, strict=True)):
        logits = np.einsum("nf,nc->nfc", f, g).reshape(len(f), 18) @ kernel
        weight = 1 + np.exp(np.sum(g * np.log(g), axis=1))
        each = np.log1p(np.exp(-logits if i else logits))[:, 0]
        sides.append(np.sum(weight * each) / np.sum(weight))
    critic = keras.Sequential([keras.Input((18,)), keras.layers.Dense(1, use_bias=False)])
    critic.set_weights([kernel])
    for condition, given in (("probabilities", answers), ("logits", list(map(np.log, answers)))):
        term = DomainAdversarial(TARGET, 0.5, condition=condition, critic=critic)
        value, gradients = of_features(term, SOURCE_FEATURES, TARGET_FEATURES, given[0], given[1:])
        assert value == pytest.approx(sum(sides), rel=1e-5)
        assert np.any(gradients[0]) and np.any(gradients[1])
        assert gradients[2:] == [None, None]


# Ways to run a step, a kill, and what is saved.


@pytest.mark.slow_but("dann-kill0", "mmd-kill1")
@pytest.mark.parametrize("kill", [(0, 2), (1, 0)], ids=["kill0", "kill1"])
@pytest.mark.parametrize("name", TERMS)
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, name, kill):
    """The critic, its optimizer, lambda and the position in the target's data among it."""

    def run(*callbacks, folder):
        model = make([TERMS[name]], keras.optimizers.Adam(0.01))
        callbacks = [Resume(tmp_path / folder, every=1), *callbacks]
        history = fitted(model, callbacks=callbacks, shuffle=True)
        return history.history, state(model)

    whole = run(folder="whole")
    with pytest.raises(Killed):
        run(Kill(*kill), folder="killed")
    resumed = run(folder="killed")
    assert resumed[0] == whole[0]
    assert_equal(whole[1], resumed[1], **EXACT)


def test_a_checkpoint_with_another_target_or_critic_is_refused(tmp_path):
    fitted(make([dann]), epochs=1, callbacks=[Resume(tmp_path)])
    others = {
        "target/0": DomainAdversarial(TARGET + 1, num_steps=30, critic=small_critic()),
        "critic/0/1": DomainAdversarial(TargetStream(TARGET, 4), num_steps=30),
        "optimizer/learning_rate": dann(optimizer=keras.optimizers.SGD(0.25, momentum=0.9)),
    }
    for where, other in others.items():
        with pytest.raises(ValueError, match=f"`terms/0/{where}`"):
            fitted(make([other]), epochs=1, callbacks=[Resume(tmp_path)])


@pytest.mark.slow_but("dann-jit", "dann-steps")
@pytest.mark.parametrize(
    "settings",
    [{"jit_compile": True}, {"steps_per_execution": 3}, {"run_eagerly": True}],
    ids=["jit", "steps", "eager"],
)
@pytest.mark.parametrize("name", TERMS)
def test_every_mode_of_execution(name, settings):
    models = [
        make([TERMS[name]], plain=True, **mode) for mode in (settings, {"jit_compile": False})
    ]
    for model in models:
        fitted(model)
    # Sums in another order in each of eight steps.
    assert_equal(*map(state, models), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["cdan", "mmd"])
def test_frozen_layers_are_run_and_the_term_is_named(name):
    history = fitted(make([TERMS[name]], frozen=True))
    assert not any(row["cached"] for row in history.frozen_features)
    term = "domain_adversarial" if name == "cdan" else "mmd"
    with pytest.raises(ValueError, match=f"once, but the term '{term}' reads"):
        fitted(make([TERMS[name]], frozen=True), cache_frozen=True)


def test_the_critic_learns_ten_times_as_fast_and_is_no_part_of_the_model(tmp_path):
    term = dann()
    adam = keras.optimizers.Adam(0.002, beta_1=0.8, use_ema=True, gradient_accumulation_steps=2)
    model = make([term], adam)
    count = len(model.weights)
    fitted(model)
    config = term.optimizer.get_config()
    assert config["learning_rate"] == pytest.approx(0.02) and config["beta_1"] == 0.8
    assert not config["use_ema"] and config["gradient_accumulation_steps"] is None
    assert len(model.weights) == count
    learnt = {id(variable) for variable in model.terms.variables}
    assert {id(variable) for variable in term.critic.variables} <= learnt
    model.save(tmp_path / "model.keras")
    assert len(keras.models.load_model(tmp_path / "model.keras").weights) == count


def test_evaluation_leaves_lambda_and_the_position_alone():
    term = dann()
    model = make([term])
    fitted(model, validation_data=(X, LABELS))
    assert [int(v) for v in term.state_variables] == [8, 8]
    model.evaluate(X, LABELS, verbose=0)
    assert [int(v) for v in term.state_variables] == [8, 8]
    model.compile("sgd", "sparse_categorical_crossentropy", terms=[term])
    assert [int(v) for v in term.state_variables] == [0, 0]


def test_layers_may_be_named_and_two_terms_have_a_stream_each():
    named = Coral(TARGET, features=["norm", "body"]), DomainAdversarial(TARGET, features="norm")
    history = fitted(make(named), epochs=1).history
    assert sorted(history) == ["coral", "domain_adversarial", "loss"]
    assert all(np.isfinite(values).all() for values in history.values())


@pytest.mark.slow
def test_two_devices_equal_one(tmp_path):
    """MirroredStrategy over two logical CPUs: each replica has its half of both batches."""
    program = """
        from tests.adaptation.test_terms_of_target import dann, fitted, make, of_model

        def train():
            model = make([dann], plain=True)
            (term,) = model.terms
            history = fitted(model, batch_size=10).history
            told = [np.array(history[name]) for name in ("loss", "domain_adversarial")]
            return [*of_model(model), *term.critic.get_weights(), *told]
        """
    two, one = two_and_one(program, tmp_path)
    assert_equal(two, one, **REDUCTION)


def check_nuisance(seed):
    before, error_before = nuisance_and_error(seed, 0.0)
    after, error = nuisance_and_error(seed, 1.0)
    assert error_before > 0.05 and error < 0.05
    assert after < 0.15 * before


@pytest.mark.parametrize("seed", [0, 1])
def test_a_model_comes_to_leave_a_nuisance_out(seed):
    check_nuisance(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_a_model_comes_to_leave_a_nuisance_out_by_other_seeds(seed):
    check_nuisance(seed)


# Refusals.


@pytest.mark.parametrize("made, match", [
    (lambda: dann(-1.0), "`strength` must be a number"),
    (lambda: Coral(TARGET, -1.0), "`strength` must be a number"),
    (lambda: MMD(TARGET, -1.0), "`strength` must be a number"),
    (lambda: dann(condition="probs"), "`condition` must be one of probabilities, logits"),
    (lambda: dann(features=["norm", "body"]), "must be one layer. Received: norm, body"),
])  # fmt: skip
def test_settings_out_of_range_are_refused_at_the_door(made, match):
    with pytest.raises(ValueError, match=match):
        made()


@pytest.mark.parametrize("term, match", [
    (lambda: DomainAdversarial(TARGET, critic=small_critic(7)), r"\(batch, 6\).* \(None, 7\)"),
    (lambda: Coral(TARGET, features="bodi"), "Closest: 'body'"),
    (lambda: Coral(TARGET[:, :3]), "shape"),
    (lambda: Coral(TARGET[:0]), "0 rows"),
])  # fmt: skip
def test_what_does_not_fit_the_model_is_refused(term, match):
    with pytest.raises(ValueError, match=match):
        fitted(make([term()], plain=True))


def test_features_that_are_no_vectors_or_not_to_be_found_are_refused():
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(2, 3, name="conv")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = FineTuner(inputs, keras.layers.Dense(2)(x))
    model.compile("sgd", "mse", terms=[MMD(np.ones((4, 4, 4, 3)), features="conv")])
    with pytest.raises(ValueError, match=r"'conv', which gives .*Name the pooling"):
        model.fit(np.ones((4, 4, 4, 3)), np.ones((4, 2)), verbose=0)
    model = FineTuner(inputs, x)
    with pytest.raises(ValueError, match=r"must be named, as in features='pool'.*ends in"):
        model.compile("sgd", "mse", terms=[MMD(np.ones((4, 4, 4, 3)))])
