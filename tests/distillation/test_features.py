"""`DistillFeatures` and `DistillAttention`: layers learn from a teacher's layers."""

import keras
import numpy as np
import pytest

from kerastl.callbacks import Resume
from kerastl.distillation import Distill, DistillAttention, DistillFeatures
from kerastl.training import FineTuner
from tests.callbacks.resume_cases import Kill, Killed
from tests.tolerances import EXACT, REDUCTION
from tests.two_devices import two_and_one

L = keras.layers
RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 8, 8, 3)).astype("float32")
Y = np.eye(2, dtype="float32")[RNG.integers(0, 2, 12)]
W = RNG.uniform(size=12).astype("float32")
ZERO = 1e-6  # as in test_distill.py


def network(seed, width, *, strides=1, kind=FineTuner):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 3))
    x = L.Conv2D(width, 3, strides=strides, padding="same", activation="tanh", name="maps")(inputs)
    x = L.GlobalAveragePooling2D(name="pool")(x)
    return kind(inputs, L.Dense(2, activation="softmax", name="head")(x))


def gives(model, name):
    model = keras.Model(model.inputs, model.get_layer(name).output)
    return model.predict(X, verbose=0).astype("float64")


def fit(model, terms, rate=0.1, **options):
    model.compile(keras.optimizers.SGD(rate), "categorical_crossentropy", terms=terms)
    options = {"batch_size": 12, "shuffle": False, "verbose": 0, **options}
    return model.fit(X, Y, **options).history


@pytest.mark.parametrize("name", ["maps", "pool"])
def test_features_of_one_width_are_compared_as_they_are(name):
    """In float64 by hand, with sample weights."""
    teacher, model = network(1, 4, kind=keras.Model), network(2, 4)
    squares = (gives(model, name) - gives(teacher, name)) ** 2
    term = DistillFeatures(teacher, {name: name}, 0.5)
    history = fit(model, [term], 0.0, sample_weight=W)
    value = 0.5 * (W * squares.reshape(12, -1).mean(1)).mean()
    assert history["distill_features"][0] == pytest.approx(value, rel=1e-5)
    assert term.trainable_variables == []


def test_a_projector_makes_up_for_other_widths_and_trains():
    """A step of its own optimizer by hand; the model holds nothing of it, and the teacher stays."""
    teacher, model = network(1, 6, kind=keras.Model), network(2, 4)
    before, count = teacher.get_weights(), len(model.weights)
    term = DistillFeatures(teacher, {"pool": "pool"}, 2.0, optimizer=keras.optimizers.SGD(0.3))
    given, wanted = gives(model, "pool"), gives(teacher, "pool")
    model.compile(keras.optimizers.SGD(0.0), "categorical_crossentropy", terms=[term])
    term.prepare(model)
    kernel, bias = (np.asarray(v.numpy(), "float64") for v in term.trainable_variables)
    model.fit(X, Y, batch_size=12, verbose=0)
    apart = given @ kernel + bias - wanted
    slope = 2.0 * 2 * apart / apart.size
    after = [v.numpy() for v in term.trainable_variables]
    np.testing.assert_allclose(after[0], kernel - 0.3 * given.T @ slope, **REDUCTION)
    np.testing.assert_allclose(after[1], bias - 0.3 * slope.sum(0), **REDUCTION)
    assert len(model.weights) == count
    for was, now in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)


def attention(maps):
    flat = (maps**2).sum(-1).reshape(len(maps), -1)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def test_attention_is_the_distance_of_normalized_squares():
    """In float64 by hand, with sample weights; widths differ."""
    teacher, model = network(1, 6, kind=keras.Model), network(2, 4)
    apart = attention(gives(model, "maps")) - attention(gives(teacher, "maps"))
    history = fit(model, [DistillAttention(teacher, {"maps": "maps"}, 3.0)], 0.0, sample_weight=W)
    value = 3.0 / 2 * (W * (apart**2).sum(1)).mean()
    assert history["distill_attention"][0] == pytest.approx(value, rel=1e-5)


def test_attention_of_a_larger_map_is_resized():
    """To half of each side, bilinearly: the mean of the four in the middle of each two by two."""
    teacher, model = network(1, 6, kind=keras.Model), network(2, 4, strides=2)
    theirs = (gives(teacher, "maps") ** 2).sum(-1)
    halved = theirs.reshape(12, 4, 2, 4, 2).mean((2, 4))
    wanted = attention(np.sqrt(halved)[..., None])
    apart = attention(gives(model, "maps")) - wanted
    history = fit(model, [DistillAttention(teacher, {"maps": "maps"}, 2.0)], 0.0)
    assert history["distill_attention"][0] == pytest.approx((apart**2).sum(1).mean(), rel=1e-5)


@pytest.mark.parametrize("term", [DistillFeatures, DistillAttention])
def test_a_student_with_the_weights_of_its_teacher_has_nothing_to_learn(term):
    """The value and its gradient are zero: the step is that of the compiled loss alone."""
    teacher, ends = network(1, 4, kind=keras.Model), []
    for terms in ([], [term(teacher, {"maps": "maps"}, 5.0)]):
        model = network(2, 4)
        model.set_weights(teacher.get_weights())
        history = fit(model, terms, 1.0)
        ends.append(model.get_weights())
    assert abs(history[terms[0].name][0]) <= ZERO
    for one, two in zip(*ends, strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=ZERO)


@pytest.mark.parametrize("term", [DistillFeatures, DistillAttention])
def test_strength_0_is_bit_equal_to_no_teacher(term):
    ends = []
    for terms in ([], [term(network(1, 6), {"maps": "maps"}, 0.0)]):
        model = network(2, 4)
        ends.append((fit(model, terms, epochs=2, batch_size=5), model.get_weights()))
    assert ends[0][0] == ends[1][0]
    for one, two in zip(ends[0][1], ends[1][1], strict=True):
        np.testing.assert_array_equal(one, two)


def all_terms(teacher):
    return [
        Distill(teacher, 0.5, temperature=2.0),
        DistillFeatures(teacher, {"pool": "pool"}, 0.5),
        DistillAttention(teacher, {"maps": "maps"}, 0.5),
    ]


def test_terms_add_up_and_a_killed_run_goes_on_bit_for_bit(tmp_path):
    """Projectors and their optimizer are in the checkpoints; the loss is the sum of all."""

    def run(*callbacks, folder):
        model, terms = network(2, 4), all_terms(network(1, 6))
        callbacks = [Resume(tmp_path / folder, every=1), *callbacks]
        history = fit(model, terms, epochs=3, batch_size=5, callbacks=callbacks, shuffle=True)
        return history, [v.numpy() for v in (*model.variables, *model.terms.variables)]

    whole = run(folder="whole")
    with pytest.raises(Killed):
        run(Kill(1, 1), folder="killed")
    resumed = run(folder="killed")
    assert resumed[0] == whole[0] and len(whole[0]) == 4
    for one, two in zip(whole[1], resumed[1], strict=True):
        np.testing.assert_allclose(one, two, **EXACT)
    model, teacher = network(2, 4), network(1, 6)
    q, y = model.predict(X, verbose=0), Y
    hard = 0.5 * -(y * np.log(q)).sum(1).mean()
    told = fit(model, all_terms(teacher), 0.0)
    parts = ("distill", "distill_features", "distill_attention")
    assert told["loss"][0] == pytest.approx(hard + sum(told[name][0] for name in parts), rel=1e-5)


@pytest.mark.parametrize("settings", [{"jit_compile": True}, {"steps_per_execution": 2}], ids=str)
def test_other_ways_to_run_a_step(settings):
    ends = []
    for mode in (settings, {"jit_compile": False}):
        model = network(2, 4)
        terms = all_terms(network(1, 6))
        model.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy", terms=terms, **mode)
        model.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0)
        ends.append(model.get_weights())
    for one, two in zip(*ends, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_two_devices_equal_one(tmp_path):
    """MirroredStrategy over two logical CPUs: answers by row, projectors, and the metrics."""
    program = """
        from tests.distillation.test_features import all_terms, fit, network

        def train():
            model, terms = network(2, 4), all_terms(network(1, 6))
            told = fit(model, terms, epochs=2, batch_size=4)
            projectors = [v.numpy() for v in terms[1].trainable_variables]
            return [*model.get_weights(), *projectors, *map(np.array, told.values())]
        """
    two, one = two_and_one(program, tmp_path)
    for left, right in zip(two, one, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


def test_padded_positions_do_not_count():
    """Ids 0 are masked by the embedding: the mean is over the others, by hand."""
    ids = np.array([[1, 2, 0, 0], [3, 1, 2, 0]])

    def encoder(seed):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((4,), dtype="int32")
        x = L.Embedding(5, 3, mask_zero=True, name="tokens")(inputs)
        return FineTuner(inputs, L.Dense(2)(L.GlobalAveragePooling1D()(x)))

    teacher, model = encoder(1), encoder(2)
    tables = [
        np.asarray(m.get_layer("tokens").get_weights()[0], "float64") for m in (model, teacher)
    ]
    squares = ((tables[0][ids] - tables[1][ids]) ** 2).mean(-1)
    real = ids > 0
    value = ((squares * real).sum(1) / real.sum(1)).mean()
    term = DistillFeatures(teacher, {"tokens": "tokens"})
    model.compile(keras.optimizers.SGD(0.0), "mse", terms=[term])
    history = model.fit(ids, np.ones((2, 2)), verbose=0).history
    assert history["distill_features"][0] == pytest.approx(value, rel=1e-5)


def test_refusals():
    teacher = network(1, 6)
    for kind in (DistillFeatures, DistillAttention):
        with pytest.raises(ValueError, match="`strength` must be"):
            kind(teacher, {"maps": "maps"}, -1.0)
        with pytest.raises(ValueError, match="`layers` must be a dict"):
            kind(teacher, {})
        with pytest.raises(ValueError, match=r"Received: 'map'. Closest: 'maps'"):
            kind(teacher, {"maps": "map"})
        with pytest.raises(ValueError, match=r"must name layers of .* Received: 'nope'"):
            fit(network(2, 4), [kind(teacher, {"nope": "maps"})])
    with pytest.raises(ValueError, match="features at the same positions"):
        fit(network(2, 4, strides=2), [DistillFeatures(teacher, {"maps": "maps"})])
    with pytest.raises(ValueError, match=r"must name layers that give maps"):
        fit(network(2, 4), [DistillAttention(teacher, {"pool": "pool"})])
