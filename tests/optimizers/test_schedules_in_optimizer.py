"""Shapes inside LRMultiplier and FineTuner: as Keras's schedule, as a NumPy loop, in one trace."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import optimizers

from kerastl.optimizers import LRMultiplier
from kerastl.schedules import Constant, OneCycle, SlantedTriangular, WarmupCosine
from kerastl.training import FineTuner
from tests.optimizers.lr_multiplier_cases import gradients, train, variables
from tests.tolerances import ELEMENTWISE, EXACT, REDUCTION
from tests.training.test_fine_tuner import data, small, weights_equal

STEPS = 30
# Thirty float32 steps, each off by an ulp or two of the rate and of the momentum.
FLOAT32_STEPS = {"rtol": 2e-5, "atol": 2e-6}
LOSS = "sparse_categorical_crossentropy"


def traced(optimizer, weights, gradient_steps, jit_compile=False):
    """As `train`, in one traced function."""
    optimizer.build(weights)
    step = tf.function(lambda *grads: optimizer.apply(grads, weights), jit_compile=jit_compile)
    for grads in gradient_steps:
        step(*(tf.constant(g) for g in grads))
    return [weight.numpy() for weight in weights]


def tuned(optimizer, schedule=None, **compile_args):
    """A FineTuner after six epochs of five steps."""
    model = FineTuner.from_model(small())
    model.compile(optimizer, LOSS, **compile_args)
    if schedule is not None:
        model.set_schedule(schedule, num_steps=STEPS)
    model.fit(*data(40), batch_size=8, epochs=6, shuffle=False, verbose=0)
    return model


@pytest.mark.parametrize("inside_fit", [False, True])
def test_a_schedule_is_the_schedule_of_keras(inside_fit):
    """AdamW with decay: rate and decay both follow."""
    schedule = WarmupCosine(warmup=0.3, start=0.1)
    plain = optimizers.AdamW(0.02, weight_decay=0.1)
    scheduled = optimizers.AdamW(schedule.over(0.02, STEPS), weight_decay=0.1)
    if inside_fit:
        weights_equal(tuned(plain, schedule), tuned(scheduled), **ELEMENTWISE)
        return
    optimizer = LRMultiplier(plain)
    optimizer.set_schedule(schedule, num_steps=STEPS)
    grads = gradients(STEPS, 2)
    got = train(optimizer, variables("a/kernel", "b/kernel"), grads)
    want = train(LRMultiplier(scheduled), variables("a/kernel", "b/kernel"), grads)
    np.testing.assert_array_equal(got, want)


def test_decay_alone_follows_the_schedule():
    """By hand: with no gradient, w *= 1 - decay * rate at each step."""
    optimizer = LRMultiplier(optimizers.AdamW(0.5, weight_decay=0.5), {"a": 0.5})
    optimizer.set_schedule(SlantedTriangular(0.5, 4.0), num_steps=4)
    weights = variables("a/kernel", "b/kernel")
    before = [weight.numpy() for weight in weights]
    after = train(optimizer, weights, np.zeros((4, 2, 4, 3), "float32"))
    factors = np.array([0.25, 0.625, 1.0, 0.625])
    for got, start, multiplier in zip(after, before, (0.5, 1.0), strict=True):
        want = start * np.prod(1 - 0.5 * 0.5 * multiplier * factors)
        np.testing.assert_allclose(got, want, **ELEMENTWISE)


def one_cycle(step):
    """Rate (peak 1) and momentum of fastai's one cycle at `step` of `STEPS`, in float64."""
    p = step / STEPS
    wave = (1 + np.cos(np.pi * (p / 0.25 if p < 0.25 else (p - 0.25) / 0.75))) / 2
    low = 1 / 25 if p < 0.25 else 1e-5
    up = 1 - wave if p < 0.25 else wave
    return low + (1 - low) * up, 0.95 - 0.10 * up


def adam(weight, grads, peak, *, beta_2=0.999, epsilon=1e-7):
    """Adam as torch's OneCycleLR drives it: `beta_1` of the step, also in the bias correction.

    Kingma & Ba, 2015, algorithm 1 in the form at the end of section 2 (epsilon as in Keras), with
    `1 - beta_1_t ** t` as in torch 2 (`_single_tensor_adam`).
    """
    weight = weight.astype("float64")
    m = v = np.zeros_like(weight)
    for step, grad in enumerate(grads):
        factor, beta_1 = one_cycle(step)
        m = beta_1 * m + (1 - beta_1) * grad
        v = beta_2 * v + (1 - beta_2) * grad.astype("float64") ** 2
        scale = np.sqrt(1 - beta_2 ** (step + 1)) / (1 - beta_1 ** (step + 1))
        weight = weight - peak * factor * scale * m / (np.sqrt(v) + epsilon)
    return weight


def sgd(weight, grads, peak, *, nesterov=False):
    """SGD as Keras defines it (keras/src/optimizers/sgd.py): the velocity holds the rates."""
    weight, velocity = weight.astype("float64"), 0.0
    for step, grad in enumerate(grads):
        factor, momentum = one_cycle(step)
        velocity = momentum * velocity - peak * factor * grad
        weight = weight + (momentum * velocity - peak * factor * grad if nesterov else velocity)
    return weight


def rmsprop(weight, grads, peak, *, rho=0.9, epsilon=1e-7):
    """RMSprop with momentum as Keras defines it (keras/src/optimizers/rmsprop.py)."""
    weight, mean, velocity = weight.astype("float64"), 0.0, 0.0
    for step, grad in enumerate(grads):
        factor, momentum = one_cycle(step)
        mean = rho * mean + (1 - rho) * grad.astype("float64") ** 2
        velocity = momentum * velocity + peak * factor * grad / np.sqrt(mean + epsilon)
        weight = weight - velocity
    return weight


CYCLED = {
    "Adam": (lambda: optimizers.Adam(0.05), adam, {}),
    "SGD": (lambda: optimizers.SGD(0.05, momentum=0.5), sgd, {}),
    "Nesterov": (
        lambda: optimizers.SGD(0.05, momentum=0.5, nesterov=True),
        sgd,
        {"nesterov": True},
    ),
    "RMSprop": (lambda: optimizers.RMSprop(0.05, momentum=0.5), rmsprop, {}),
}


@pytest.mark.parametrize("run", [train, traced])
@pytest.mark.parametrize("name", CYCLED)
def test_one_cycle_with_momentum_is_the_loop_in_numpy(name, run):
    make, reference, options = CYCLED[name]
    optimizer = LRMultiplier(make(), {"body": 0.25})
    optimizer.set_schedule(OneCycle(), num_steps=STEPS)
    weights, grads = variables("body/kernel", "head/kernel"), gradients(STEPS, 2)
    starts = [weight.numpy() for weight in weights]
    got = run(optimizer, weights, grads)
    for i, multiplier in enumerate((0.25, 1.0)):
        want = reference(starts[i], grads[:, i], 0.05 * multiplier, **options)
        np.testing.assert_allclose(got[i], want, **FLOAT32_STEPS)


@pytest.mark.parametrize(
    "make",
    [
        lambda: optimizers.Adam(0.01),
        lambda: optimizers.SGD(0.01, momentum=0.9),
        lambda: optimizers.RMSprop(0.01, momentum=0.9),
        lambda: optimizers.Adamax(0.01),
        lambda: optimizers.Lamb(0.01),
        lambda: optimizers.Lion(0.01),
        lambda: optimizers.AdamW(0.01),
    ],
    ids=["Adam", "SGD", "RMSprop", "Adamax", "Lamb", "Lion", "AdamW"],
)
def test_momentum_that_stands_still_is_the_optimizers_own(make):
    """A cycle between 0.75 and 0.75 at a constant rate is the optimizer with 0.75."""
    schedule = OneCycle(start_div=1.0, end_div=1.0, momentum=(0.75, 0.75))
    plain = make()
    name = "momentum" if hasattr(plain, "momentum") else "beta_1"
    setattr(plain, name, 0.75)
    optimizer = LRMultiplier(make())
    optimizer.set_schedule(schedule, num_steps=8)
    grads = gradients(8, 1)
    want = train(plain, variables("a/kernel"), grads)
    np.testing.assert_allclose(traced(optimizer, variables("a/kernel"), grads), want, **ELEMENTWISE)


def test_no_momentum_in_the_schedule_leaves_it_alone():
    schedule = OneCycle(momentum=None)
    optimizer = LRMultiplier(optimizers.SGD(0.1, momentum=0.75))
    optimizer.set_schedule(schedule, num_steps=8)
    grads = gradients(8, 1)
    want = train(optimizers.SGD(schedule.over(0.1, 8), momentum=0.75), variables("a/kernel"), grads)
    np.testing.assert_allclose(train(optimizer, variables("a/kernel"), grads), want, **ELEMENTWISE)


def test_group_ratios_hold_at_every_step():
    """Lion moves every weight by its rate: by hand, multiplier * peak * factor."""
    schedule = OneCycle()
    optimizer = LRMultiplier(optimizers.Lion(0.01), {"body": 0.25})
    optimizer.set_schedule(schedule, num_steps=20)
    weights = [keras.Variable(np.zeros(3, "float32"), name="kernel") for _ in range(2)]
    with keras.name_scope("body"):
        weights[0] = keras.Variable(np.zeros(3, "float32"), name="kernel")
    for step in range(20):
        before = [weight.numpy() for weight in weights]
        assert optimizer.rate_now() == pytest.approx(0.01 * schedule.factor(step / 20), rel=1e-6)
        after = train(optimizer, weights, np.ones((1, 2, 3), "float32"))
        body, head = (float((b - a)[0]) for a, b in zip(after, before, strict=True))
        assert head == pytest.approx(0.01 * schedule.factor(step / 20), rel=1e-4)
        assert body / head == pytest.approx(0.25, rel=1e-4)


def test_steps_per_execution_are_exact():
    runs = [tuned("adam", OneCycle(), steps_per_execution=n) for n in (1, 3)]
    weights_equal(*runs, **ELEMENTWISE)
    assert runs[1].lr_multiplier.rate_now() == pytest.approx(1e-8)


@pytest.mark.parametrize("optimizer", ["adam", optimizers.SGD(0.1, momentum=0.9)])
def test_xla_gives_the_same(optimizer):
    config = keras.optimizers.serialize(keras.optimizers.get(optimizer))
    runs = [
        tuned(keras.optimizers.deserialize(config), OneCycle(), jit_compile=jit)
        for jit in (False, True)
    ]
    weights_equal(*runs, **REDUCTION)


def test_no_schedule_and_a_schedule_taken_back_are_todays_graph():
    model = FineTuner.from_model(small())
    model.compile(optimizers.AdamW(0.02, weight_decay=0.1), LOSS)
    model.set_schedule(OneCycle(), num_steps=10)
    model.set_schedule(None)
    model.fit(*data(40), batch_size=8, epochs=6, shuffle=False, verbose=0)
    plain = small()
    plain.compile(optimizers.AdamW(0.02, weight_decay=0.1), LOSS)
    plain.fit(*data(40), batch_size=8, epochs=6, shuffle=False, verbose=0)
    weights_equal(model, plain, **EXACT)
    weights_equal(model, tuned(optimizers.AdamW(0.02, weight_decay=0.1)), **EXACT)


def test_a_constant_schedule_is_no_schedule():
    optimizer = LRMultiplier(optimizers.AdamW(0.02, weight_decay=0.1))
    optimizer.set_schedule(Constant(), num_steps=5)
    grads = gradients(10, 1)
    want = train(optimizers.AdamW(0.02, weight_decay=0.1), variables("a/kernel"), grads)
    np.testing.assert_array_equal(train(optimizer, variables("a/kernel"), grads), want)


def test_a_schedule_between_epochs_counts_from_now():
    """Two epochs at the peak, then a cosine down over four: as the schedule written by hand."""
    schedule = WarmupCosine(warmup=0.0)
    set_late = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: (
            model.set_schedule(schedule, num_steps=20) if epoch == 2 else None
        )
    )
    model = FineTuner.from_model(small())
    model.compile(optimizers.Adam(0.02), LOSS)
    model.fit(*data(40), batch_size=8, epochs=6, shuffle=False, verbose=0, callbacks=[set_late])

    class Late(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            late = schedule.over(0.02, 20)(keras.ops.cast(step, "float32") - 10.0)
            return keras.ops.where(step < 10, 0.02, late)

        def get_config(self):
            return {}

    assert model.lr_multiplier.schedule.start == 10
    weights_equal(model, tuned(optimizers.Adam(Late())), **ELEMENTWISE)


def test_callbacks_set_the_peak():
    """Lion by hand: the peak of each epoch times the factor of each step."""
    optimizer = LRMultiplier(optimizers.Lion(1.0))
    optimizer.set_schedule(SlantedTriangular(0.5, 2.0), num_steps=4)
    weight = keras.Variable(np.zeros(3, "float32"), name="kernel")
    moved = []
    for peak in (0.1, 0.1, 0.01, 0.01):
        optimizer.learning_rate = peak
        before = weight.numpy()
        train(optimizer, [weight], np.ones((1, 1, 3), "float32"))
        moved.append(float((before - weight.numpy())[0]))
    np.testing.assert_allclose(moved, [0.05, 0.075, 0.01, 0.0075], rtol=1e-5)


def test_accumulation_counts_calls():
    """Two calls an update: an update takes the rate of its second call."""
    optimizer = LRMultiplier(optimizers.SGD(1.0, gradient_accumulation_steps=2))
    optimizer.set_schedule(SlantedTriangular(0.5, 2.0), num_steps=4)
    weight = keras.Variable(np.zeros(3, "float32"), name="kernel")
    train(optimizer, [weight], np.ones((4, 1, 3), "float32"))
    np.testing.assert_allclose(weight.numpy(), -(0.75 + 0.75), **ELEMENTWISE)
    assert optimizer.rate_now() == pytest.approx(0.5)


def test_the_schedule_is_in_the_config():
    optimizer = LRMultiplier(optimizers.Adam(0.01))
    optimizer.set_schedule(OneCycle(), start=7, num_steps=50)
    again = LRMultiplier.from_config(optimizer.get_config())
    assert again.schedule == optimizer.schedule
    assert (again.schedule.schedule, again.schedule.start, again.schedule.num_steps) == (
        OneCycle(),
        7,
        50,
    )
    assert "schedule" not in LRMultiplier(optimizers.Adam(0.01)).get_config()


def test_a_traced_step_must_be_made_anew():
    optimizer = LRMultiplier(optimizers.Adam(0.01))
    traced(optimizer, variables("a/kernel"), gradients(1, 1))
    optimizer.set_schedule(None)  # as it was
    with pytest.raises(RuntimeError, match="retraced=True"):
        optimizer.set_schedule(OneCycle(), num_steps=5)
    assert optimizer.schedule is None
    optimizer.set_schedule(OneCycle(), start=None, num_steps=5, retraced=True)
    assert optimizer.schedule.start == 1


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (optimizers.Adam(OneCycle().over(1e-3, 10)), "has a schedule of its own"),
        (optimizers.Nadam(), "momentum of Nadam cannot be cycled"),
        (optimizers.Adagrad(), "momentum of Adagrad cannot be cycled"),
        (optimizers.Muon(), "momentum of Muon cannot be cycled"),
        (optimizers.SGD(), r"SGD\(momentum=...\) above 0"),
        (optimizers.RMSprop(), r"RMSprop\(momentum=...\) above 0"),
    ],
)
def test_what_cannot_follow_is_refused(optimizer, words):
    with pytest.raises(ValueError, match=words):
        LRMultiplier(optimizer).set_schedule(OneCycle(), num_steps=10)


def test_nadam_and_sgd_follow_a_schedule_without_momentum():
    for make in (optimizers.Nadam, optimizers.SGD):
        schedule = WarmupCosine()
        optimizer = LRMultiplier(make(0.1))
        optimizer.set_schedule(schedule, num_steps=6)
        grads = gradients(6, 1)
        got = train(optimizer, variables("a/kernel"), grads)
        want = train(make(schedule.over(0.1, 6)), variables("a/kernel"), grads)
        np.testing.assert_allclose(got, want, **ELEMENTWISE)


def test_bad_arguments_are_refused():
    optimizer = LRMultiplier(optimizers.Adam(0.01))
    with pytest.raises(TypeError, match=r"one of kerastl\.schedules"):
        optimizer.set_schedule("one cycle", num_steps=10)
    with pytest.raises(ValueError, match="num_steps=None"):
        optimizer.set_schedule(OneCycle())
    with pytest.raises(ValueError, match="start=-1"):
        optimizer.set_schedule(OneCycle(), start=-1, num_steps=10)
    optimizer.set_schedule(OneCycle(), num_steps=10)
    with pytest.raises(ValueError, match=r"set_schedule\(None\)"):
        optimizer.learning_rate = OneCycle().over(1e-3, 10)
