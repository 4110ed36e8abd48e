"""Lists, tuples and dicts of inputs and targets, also of one, train as with `keras.Model`."""

import functools

import keras
import numpy as np
import pytest

from kerastl import callbacks, plans
from kerastl.data.passes import ArrayPasses
from kerastl.training import FineTuner, Term
from tests.tolerances import EXACT

# Keras's, of a list where it expects a tensor and of names.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception encountered",
    "ignore:The structure of `inputs`",
    "ignore:When providing `inputs` as a dict",
)

RNG = np.random.default_rng(0)
A, B, C = (RNG.normal(size=(22, 4)).astype("float32") for _ in range(3))
Y, Z = A.sum(1, keepdims=True), B.sum(1, keepdims=True)
WEIGHTS = RNG.uniform(size=22).astype("float32")
OPTIONS = {"batch_size": 5, "epochs": 3, "shuffle": False, "verbose": 0}


def inputs_of(kind):
    """The inputs of a model and what they are fed."""
    a, b, c = (keras.Input((4,), name=name) for name in "abc")
    return {
        "bare": (a, A),
        "list": ([a, b], [A, B]),
        "list fed a tuple": ([a, b], (A, B)),
        "list fed a dict": ([a, b], {"a": A, "b": B}),
        "list of one": ([a], [A]),
        "bare fed a list": (a, [A]),
        "tuple": ((a, b), (A, B)),
        "dict": ({"a": a, "b": b}, {"a": A, "b": B}),
        "nested": ([a, [b, c]], [A, [B, C]]),
        "dict of lists": ({"p": [a, b], "q": c}, {"p": [A, B], "q": C}),
    }[kind]


def outputs_of(kind, features):
    """The outputs of a model, their losses and their targets."""
    u, v = (keras.layers.Dense(1, name=name)(features) for name in "uv")
    return {
        "bare": (u, "mse", Y),
        "list": ([u, v], ["mse", "mae"], [Y, Z]),
        "list fed a tuple": ([u, v], ["mse", "mae"], (Y, Z)),
        "list fed a dict": ([u, v], {"u": "mse", "v": "mae"}, {"u": Y, "v": Z}),
        "list of one": ([u], ["mse"], [Y]),
        "list of one fed bare": ([u], "mse", Y),
        "bare fed a list": (u, "mse", [Y]),
        "tuple": ((u, v), ["mse", "mae"], (Y, Z)),
        "dict": ({"m": u, "n": v}, {"m": "mse", "n": "mae"}, {"m": Y, "n": Z}),
        "dict of lists": ({"m": [u, v]}, {"m": ["mse", "mae"]}, {"m": [Y, Z]}),
    }[kind]


PAIRS = [
    ("list", "list"),
    ("list of one", "list of one"),
    ("bare fed a list", "bare fed a list"),
    ("tuple", "tuple"),
    ("dict", "dict"),
    ("nested", "dict of lists"),
    ("dict of lists", "list of one fed bare"),
    ("list fed a tuple", "list fed a tuple"),
    ("list fed a dict", "list fed a dict"),
]
FEW = [PAIRS[1], PAIRS[5]]


def made(cls, pair):
    """A compiled model with a frozen layer, its inputs and its targets."""
    keras.utils.set_random_seed(0)
    inputs, x = inputs_of(pair[0])
    body = keras.layers.Dense(5, activation="tanh", name="block1_body", trainable=False)
    parts = [body(part) for part in keras.tree.flatten(inputs)]
    features = keras.layers.Concatenate()(parts) if len(parts) > 1 else parts[0]
    features = keras.layers.Dense(4, name="block2_body")(features)
    outputs, loss, y = outputs_of(pair[1], features)
    model = cls(inputs, outputs)
    metrics = [loss] if isinstance(loss, str) else keras.tree.map_structure(lambda _: "mse", loss)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=metrics)
    return model, x, y


def trained(cls, pair, **options):
    """History, evaluation and weights after `fit`, validation data being those of training."""
    model, x, y = made(cls, pair)
    history = model.fit(x, y, validation_data=(x, y), **OPTIONS, **options)
    weights = [variable.numpy() for variable in model.variables]
    return history, model.evaluate(x, y, batch_size=5, verbose=0), weights


@functools.cache
def with_keras(pair):
    return trained(keras.Model, pair)


def check_same(mine, theirs):
    assert mine[0].history == theirs[0].history
    assert mine[1] == theirs[1]
    for a, b in zip(mine[2], theirs[2], strict=True):
        np.testing.assert_allclose(a, b, **EXACT)


@pytest.mark.slow_but("pair0", "pair4", "pair8")
@pytest.mark.parametrize("pair", PAIRS)
def test_fit_and_evaluate_are_those_of_keras(pair):
    cached = trained(FineTuner, pair)
    check_same(cached, with_keras(pair))
    assert [said["cached"] for said in cached[0].frozen_features] == [True, True, True]


@pytest.mark.parametrize("pair", FEW)
def test_read_by_passes_it_is_the_same(pair, tmp_path):
    """A callback that goes on has `fit` read arrays pass by pass; else Keras reads them."""
    resume = callbacks.Resume(tmp_path)
    mine = trained(FineTuner, pair, callbacks=[resume], cache_frozen=False)
    check_same(mine, with_keras(pair))
    check_same(trained(FineTuner, pair, cache_frozen=False), with_keras(pair))


def test_a_killed_run_goes_on_to_the_same_end(tmp_path):
    pair = PAIRS[5]

    class Killed(BaseException):
        pass

    class Kills(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.optimizer.iterations == 7:
                raise Killed

    with pytest.raises(Killed):
        trained(FineTuner, pair, callbacks=[callbacks.Resume(tmp_path, every=1), Kills()])
    resume = callbacks.Resume(tmp_path, every=1)
    check_same(trained(FineTuner, pair, callbacks=[resume]), with_keras(pair))
    assert resume.began_at == (1, 1)


def unfreezing():
    return callbacks.GradualUnfreezing({0: 1, 2: 2})


def plan():
    phases = [plans.Phase(2, train="head"), plans.Phase(1, train=2)]
    return callbacks.FollowPlan(plans.TransferPlan(phases))


@pytest.mark.parametrize(("pair", "thaws"), [(PAIRS[0], unfreezing), (PAIRS[5], plan)])
def test_a_thaw_amid_fit_is_the_same_cached_or_not(pair, thaws):
    cached = trained(FineTuner, pair, callbacks=[thaws()])
    check_same(cached, trained(FineTuner, pair, callbacks=[thaws()], cache_frozen=False))
    said = [row["cached"] for row in cached[0].frozen_features]
    assert said[:2] == [True, True] and len(said) == 3


@pytest.mark.parametrize("pair", FEW)
def test_single_batches_are_those_of_keras(pair):
    told = []
    for cls in (keras.Model, FineTuner):
        model, x, y = made(cls, pair)
        told.append([model.train_on_batch(x, y), model.train_on_batch(x, y)])
        told[-1].append(model.test_on_batch(x, y))
    assert told[0] == told[1]


@pytest.mark.parametrize(("pair", "each"), [(PAIRS[0], False), (PAIRS[5], True)])
def test_weights_of_examples_are_those_of_keras(pair, each):
    """One array for all outputs, or one for each."""
    histories = []
    for cls, options in ((keras.Model, {}), (FineTuner, {"cache_frozen": True})):
        model, x, y = made(cls, pair)
        weights = keras.tree.map_structure(lambda _: WEIGHTS, y) if each else WEIGHTS
        options |= {"sample_weight": weights, "validation_data": (x, y, weights), **OPTIONS}
        histories.append(model.fit(x, y, **options).history)
    assert histories[0] == histories[1]


@pytest.mark.parametrize("epochs", [1, 2])
def test_weights_of_another_structure_are_refused_in_words(epochs):
    model, x, y = made(FineTuner, ("bare", "dict"))
    with pytest.raises(ValueError, match="The two structures did not match"):
        model.fit(x, y, sample_weight=[WEIGHTS, WEIGHTS], epochs=epochs, verbose=0)


def test_lists_in_values_by_row_stay_apart():
    """tf.data would make one tensor of a list."""
    seen = []

    class Two(Term):
        name = "two"
        reads_inputs = True

        def row_values(self, passes):
            return [np.arange(22.0), np.zeros((22, 3))]

        def __call__(self, step):
            seen.append([tuple(part.shape[1:]) for part in step.row_values])
            return 0.0 * keras.ops.sum(step.outputs)

    model, x, y = made(FineTuner, ("list", "bare"))
    model.compile("sgd", "mse", terms=[Two()])
    model.fit(x, y, cache_frozen=True, **OPTIONS)
    assert seen and all(shapes == [(), (3,)] for shapes in seen)


def test_passes_give_tuples_for_lists():
    passes = ArrayPasses([A, [B]], [Y, Z], batch_size=22)
    (a, (b,)), (y, z) = next(iter(passes.epoch(0)))
    for given, wanted in zip((a, b, y, z), (A, B, Y, Z), strict=True):
        np.testing.assert_array_equal(given, wanted)
