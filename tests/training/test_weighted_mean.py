"""A loss with `reduction="mean_with_sample_weight"`: one mean over all of an optimizer step."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import optimizers

from kerastl import FineTuner, callbacks
from kerastl.continual import L2SP
from kerastl.freezing import freeze
from kerastl.training import Term
from tests.callbacks.resume_cases import Kill, Killed
from tests.tolerances import REDUCTION
from tests.two_devices import two_and_one

RATE = 0.5
LENGTH, WIDTH, CLASSES = 5, 3, 4


def cross_entropy(reduction="mean_with_sample_weight"):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)


def identity(shape, dtype=None):
    return np.eye(*shape, dtype=dtype)


def network(regularizer=None):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((LENGTH, WIDTH))
    body = keras.layers.Dense(WIDTH, name="body", kernel_initializer=identity)(inputs)
    head = keras.layers.Dense(CLASSES, name="head", kernel_regularizer=regularizer)
    model = FineTuner(inputs, head(body))
    freeze(model, "body")
    return model


def compiled(cycle=None, optimizer=None, loss=None, regularizer=None, **kwargs):
    model = network(regularizer)
    made = optimizers.SGD(RATE, momentum=0.5, gradient_accumulation_steps=cycle)
    kwargs = {"jit_compile": False, **kwargs}
    model.compile(optimizer or made, loss or cross_entropy(), **kwargs)
    return model


def examples(rows=4):
    """Rows of very unequal weights, and one without any."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, LENGTH, WIDTH)).astype("float32")
    y = rng.integers(0, CLASSES, (rows, LENGTH))
    weights = rng.uniform(0.5, 2, (rows, LENGTH)) * (
        np.arange(LENGTH) < rng.integers(1, 6, rows)[:, None]
    )
    weights[1] = 0
    return x, y, weights.astype("float32")


def gradient(x, y, weights, kernel, bias):
    """Loss and gradients of `sum(w * l) / sum(w)`, in float64."""
    logits = x.astype("float64") @ kernel + bias
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    losses = -np.log(np.take_along_axis(shares, y[..., None], -1))[..., 0]
    total = weights.sum(dtype="float64")
    error = (shares - np.eye(CLASSES)[y]) * weights[..., None] / total
    loss = (weights * losses).sum() / total
    return loss, np.einsum("rtw,rtc->wc", x, error), error.sum((0, 1))


def reference(steps, penalties=(0.0, 0.0)):
    """The weights after `steps`, a batch each, and their losses: SGD with momentum in float64.

    `penalties` are by how much of themselves kernel and bias are drawn to 0.
    """
    kernel, bias = (np.asarray(w, "float64") for w in network().get_layer("head").get_weights())
    momenta, losses = [np.zeros_like(kernel), np.zeros_like(bias)], []
    for batch in steps:
        loss, of_kernel, of_bias = gradient(*batch, kernel, bias)
        losses.append(loss)
        step = of_kernel + penalties[0] * kernel, of_bias + penalties[1] * bias
        momenta = [0.5 * m - RATE * g for m, g in zip(momenta, step, strict=True)]
        kernel, bias = kernel + momenta[0], bias + momenta[1]
    return [kernel, bias], losses


def assert_head(model, expected):
    for value, wanted in zip(model.get_layer("head").get_weights(), expected, strict=True):
        np.testing.assert_allclose(value, wanted, **REDUCTION)


def fitted(model, data=None, batch=4, epochs=1, **kwargs):
    x, y, weights = examples() if data is None else data
    settings = {"shuffle": False, "verbose": 0, "cache_frozen": False, **kwargs}
    return model.fit(x, y, batch, epochs, sample_weight=weights, **settings)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(("cycle", "batch"), [(None, 4), (2, 2), (4, 1)])
def test_four_rows_are_one_step_however_they_come(cycle, batch, cached):
    """Against float64: two steps of 4 rows, and the loss of the epoch by weights."""
    model = compiled(cycle)
    history = fitted(model, batch=batch, epochs=2, cache_frozen=cached).history
    expected, losses = reference([examples()] * 2)
    assert_head(model, expected)
    np.testing.assert_allclose(history["loss"], losses, **REDUCTION)


@pytest.mark.parametrize(
    "mode", [{"jit_compile": True}, {"steps_per_execution": 4}, {"run_eagerly": True}], ids=str
)
def test_every_mode_of_execution(mode):
    model = compiled(4, **mode)
    fitted(model, batch=1, epochs=2)
    assert_head(model, reference([examples()] * 2)[0])


def test_the_mean_of_means_is_another_number():
    """So that the test above can tell: Keras's own accumulation is far from the reference."""
    model = keras.Model(*(lambda m: (m.input, m.output))(network()))
    model.compile(optimizers.SGD(RATE, gradient_accumulation_steps=4), cross_entropy())
    x, y, weights = examples()
    model.fit(x, y, 1, sample_weight=weights, shuffle=False, verbose=0)
    (kernel, _), _ = reference([examples()])
    assert np.abs(model.get_layer("head").get_weights()[0] - kernel).max() > 0.01


@pytest.mark.parametrize(("cycle", "batch"), [(None, 4), (2, 2), (4, 1)])
def test_penalties_keep_their_weight(cycle, batch):
    """`0.01 * w**2` of a regularizer, `0.3 / 2 * w**2` of a term: by no row's weight."""
    terms = [L2SP(0.3, strength_new=0.3, proximal=False)]
    model = compiled(cycle, regularizer=keras.regularizers.L2(0.01), terms=terms)
    history = fitted(model, batch=batch, epochs=2).history
    expected, losses = reference([examples()] * 2, (0.02 + 0.3, 0.3))
    assert_head(model, expected)
    kernel, bias = reference([examples()], (0.32, 0.3))[0]
    penalty = 0.16 * (kernel**2).sum() + 0.15 * (bias**2).sum()
    np.testing.assert_allclose(history["loss"][1], losses[1] + penalty, **REDUCTION)


@pytest.mark.parametrize("cycle", [None, 2])
def test_a_step_without_weight_is_a_step_of_gradient_zero(cycle):
    x, y, weights = examples()
    model = compiled(cycle)
    before = model.get_layer("head").get_weights()
    history = fitted(model, (x, y, 0 * weights), batch=4 // (cycle or 1)).history
    assert history["loss"] == [0.0]
    for value, old in zip(model.get_layer("head").get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, old)


def test_a_skipped_batch_is_no_part_of_its_cycle():
    """A loss scale of 2^120 and inputs of 1e4 overflow once; it is halved, and the rest counts."""
    x, y, weights = examples(5)
    x[0] *= 1e4
    inner = optimizers.SGD(RATE, momentum=0.5, gradient_accumulation_steps=2)
    model = compiled(optimizer=optimizers.LossScaleOptimizer(inner, 2.0**120))
    fitted(model, (x, y, weights), batch=1)
    assert model.lr_multiplier.iterations == 2
    steps = [tuple(part[rows] for part in (x, y, weights)) for rows in ([1, 2], [3, 4])]
    assert_head(model, reference(steps)[0])


def test_evaluation_and_weights_of_classes():
    """Batches of 3 and 1 rows, of other weights; Keras multiplies class weights by row."""
    x, y, weights = examples()
    model = compiled(metrics=[])
    kernel, bias = model.get_layer("head").get_weights()
    got = model.evaluate(x, y, batch_size=3, sample_weight=weights, verbose=0)
    np.testing.assert_allclose(got, gradient(x, y, weights, kernel, bias)[0], **REDUCTION)

    rows = keras.Input((WIDTH,))
    model = FineTuner(rows, model.get_layer("head")(rows))
    model.compile(optimizers.SGD(RATE, gradient_accumulation_steps=4), cross_entropy())
    by_class = {label: 1.0 + label for label in range(CLASSES)}
    x, y = x[:, 0], y[:, 0]
    model.fit(x, y, 1, class_weight=by_class, shuffle=False, verbose=0)
    _, of_kernel, of_bias = gradient(x[:, None], y[:, None], 1.0 + y[:, None], kernel, bias)
    assert_head(model, [kernel - RATE * of_kernel, bias - RATE * of_bias])


class Level(Term):
    """Draws a number of its own to 1, by an SGD of its own: it takes a step with each batch."""

    name, optimizer = "level", "sgd"

    def begin(self, model):
        self.level = keras.Variable(0.0)

    @property
    def trainable_variables(self):
        return [self.level]

    def __call__(self, step):
        return 0.5 * tf.square(self.level - 1.0)


def test_a_term_with_weights_of_its_own_trains_them_by_batch():
    """`1 - 0.99**4` after four batches, whatever the cycle is: SGD of rate 0.01 by hand."""
    for cycle in (None, 4):
        term = Level()
        fitted(compiled(cycle, terms=[term]), batch=1)
        np.testing.assert_allclose(float(term.level), 1 - 0.99**4, **REDUCTION)


def test_a_run_that_stops_within_a_cycle_goes_on_bit_for_bit(tmp_path):
    whole = compiled(4)
    fitted(whole, examples(8), batch=1, callbacks=[callbacks.Resume(tmp_path / "a")])
    with pytest.raises(Killed):
        stops = [callbacks.Resume(tmp_path / "b", every=1), Kill(0, 2)]
        fitted(compiled(4), examples(8), batch=1, callbacks=stops)
    resumed, again = compiled(4), callbacks.Resume(tmp_path / "b", every=1)
    fitted(resumed, examples(8), batch=1, callbacks=[again])
    assert again.began_at[0] == 0 and again.began_at[1] in (2, 3)
    assert_head(resumed, whole.get_layer("head").get_weights())
    for value, expected in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_other_losses_are_keras_own_to_the_bit():
    """No variable more, no loss of another number: cycles of a plain mean."""
    ours = compiled(2, loss=cross_entropy("sum_over_batch_size"))
    stock = keras.Model(*(lambda m: (m.input, m.output))(network()))
    stock.get_layer("body").trainable = False
    stock.compile(
        optimizers.SGD(RATE, momentum=0.5, gradient_accumulation_steps=2),
        cross_entropy("sum_over_batch_size"),
        jit_compile=False,
    )
    x, y, weights = examples()
    history = fitted(ours, batch=1).history
    expected = stock.fit(x, y, 1, sample_weight=weights, shuffle=False, verbose=0).history
    assert history == expected
    assert not any("cycle_weight" in v.path for v in ours.optimizer.variables)
    for value, wanted in zip(ours.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_array_equal(value, wanted)


TWO = """
import keras
from tests.training import test_weighted_mean as cases

def train():
    found = []
    for cycle, batch, scaled in ((None, 4, False), (2, 2, True)):
        optimizer = cases.optimizers.SGD(cases.RATE, gradient_accumulation_steps=cycle)
        if scaled:
            optimizer = cases.optimizers.LossScaleOptimizer(optimizer, 8.0)
        terms = [cases.L2SP(0.3, strength_new=0.3, proximal=False)]
        penalty = keras.regularizers.L2(0.01)
        model = cases.compiled(optimizer=optimizer, regularizer=penalty, terms=terms)
        history = cases.fitted(model, batch=batch, epochs=2).history
        found += [*model.get_layer("head").get_weights(), history["loss"]]
        x, y, weights = cases.examples()
        loss = model.evaluate(x, y, batch, sample_weight=weights, verbose=0)
        found.append(loss[0] if isinstance(loss, list) else loss)
    return found
"""


def test_two_devices_are_one(tmp_path):
    """The rows of a batch are halved among them: weights of replicas, one of them perhaps 0."""
    for got, wanted in zip(*two_and_one(TWO, tmp_path), strict=True):
        np.testing.assert_allclose(got, wanted, **REDUCTION)
