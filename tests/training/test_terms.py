"""Terms of the loss add up, are nothing at strength 0, and go on after a kill."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl.callbacks import GradualUnfreezing, Resume, lr_find
from kerastl.training import FineTuner, Term
from tests.callbacks.resume_cases import Kill, Killed
from tests.tolerances import ELEMENTWISE, EXACT, REDUCTION
from tests.training.terms_cases import (
    Critic,
    Likes,
    LikesByRow,
    Size,
    X,
    Y,
    assert_equal,
    fitted,
    make,
    weights,
)
from tests.two_devices import two_and_one


def test_equals_the_loop_written_by_hand():
    """Loss, value of the term, weights, and what the critic learns."""
    term = Critic()
    model = make([term])
    history = fitted(model, epochs=1).history
    plain, kernel = make(), tf.Variable(np.ones((2, 1), "float32"))
    sgd, adam = keras.optimizers.SGD(0.1, momentum=0.9), keras.optimizers.Adam(0.1)
    sgd.build(plain.trainable_variables)
    adam.build([kernel])
    losses, values, path = [], [], 0.0
    for start in range(0, 20, 5):
        x, y = X[start : start + 5], Y[start : start + 5]
        with tf.GradientTape() as tape:
            error = plain(x) - y
            value = tf.reduce_mean(tf.math.log(1 + tf.exp(error @ kernel)))
            loss = tf.reduce_mean(error**2) + value
        gradients = tape.gradient(loss, [*plain.trainable_variables, kernel])
        sgd.apply(gradients[:-1], plain.trainable_variables)
        adam.apply(gradients[-1:], [kernel])
        losses.append(float(loss)), values.append(float(value))
        path += sum(float(tf.reduce_sum(g**2)) for g in gradients[:-1])
    np.testing.assert_allclose(history["loss"], [np.mean(losses)], **REDUCTION)
    np.testing.assert_allclose(history["critic"], [np.mean(values)], **REDUCTION)
    assert_equal(weights(model), weights(plain), **REDUCTION)
    np.testing.assert_allclose(term.kernel, kernel, **REDUCTION)
    np.testing.assert_allclose(term.path, path, **REDUCTION)


def test_strength_0_is_bit_equal_to_no_term():
    ends = []
    for terms in ((), [Size(0.0)]):
        model = make(terms)
        ends.append((fitted(model).history, weights(model)))
    assert ends[0][0] == ends[1][0]
    assert_equal(ends[0][1], ends[1][1], **EXACT)


def test_two_terms_equal_their_sum():
    one, two = make([Size(0.75)]), make([Size(0.5), Size(0.25, name="more")])
    sums = [fitted(model).history for model in (one, two)]
    np.testing.assert_allclose(sums[0]["loss"], sums[1]["loss"], **REDUCTION)
    np.testing.assert_allclose(
        sums[0]["size"], np.add(sums[1]["size"], sums[1]["more"]), **REDUCTION
    )
    assert_equal(weights(one), weights(two), **REDUCTION)


def test_validation_knows_nothing_of_terms():
    model = make([Size(0.5)])
    history = fitted(model, validation_data=(X, Y)).history
    assert sorted(history) == ["loss", "size", "val_loss"]
    assert history["val_loss"][-1] == pytest.approx(np.mean((model.predict(X) - Y) ** 2), rel=1e-5)
    assert model.evaluate(X, Y, verbose=0, return_dict=True).keys() == {"loss"}
    assert model.test_on_batch(X, Y, return_dict=True).keys() == {"loss"}
    assert model.train_on_batch(X, Y, return_dict=True).keys() == {"loss", "size"}


def test_one_batch_at_a_time_equals_fit():
    one, two = make([Critic()]), make([Critic()])
    fitted(one, epochs=1)
    for start in range(0, 20, 5):
        two.train_on_batch(X[start : start + 5], Y[start : start + 5])
    assert_equal(weights(one), weights(two), **EXACT)


def test_regularization_keeps_its_weight_beside_a_share_of_the_loss():
    """Half of the compiled loss, all of the regularization: by hand."""

    class Half(Size):
        loss_weight = 0.5

    inputs = keras.Input((4,))
    model = FineTuner(inputs, keras.layers.Dense(2, kernel_regularizer="l2")(inputs))
    model.compile(keras.optimizers.SGD(0.0), "mse", terms=[Half(0.5)])
    history = model.fit(X, Y, batch_size=20, verbose=0).history
    outputs, kernel = model.predict(X, verbose=0), model.weights[0].numpy()
    error, size = np.mean((outputs - Y) ** 2), np.mean(outputs**2)
    expected = 0.5 * error + 0.01 * np.sum(kernel**2) + 0.5 * size
    assert history["loss"][0] == pytest.approx(expected, rel=1e-5)


# Frozen layers computed once.


def test_a_term_that_reads_inputs_trains_without_a_cache():
    history = fitted(make([Likes()], frozen=True))
    assert not any(row["cached"] for row in history.frozen_features)
    assert "the term 'likes' reads the inputs" in history.frozen_features[0]["reason"]
    with pytest.raises(ValueError, match="once, but the term 'likes' reads the inputs"):
        fitted(make([Likes()], frozen=True), cache_frozen=True)


@pytest.mark.parametrize("term", [Size, LikesByRow, Critic])
def test_cached_equals_uncached(term):
    ends = []
    for cache_frozen in (True, False):
        model = make([term()], frozen=True)
        history = fitted(model, cache_frozen=cache_frozen, epochs=4, validation_data=(X, Y))
        if cache_frozen:
            assert all(row["cached"] for row in history.frozen_features)
        ends.append((history.history, weights(model)))
    for name, values in ends[0][0].items():
        np.testing.assert_allclose(values, ends[1][0][name], **REDUCTION)
    assert_equal(ends[0][1], ends[1][1], **REDUCTION)


def test_values_by_row_are_computed_once_and_ride_through_a_thaw():
    calls = []

    class Counts(LikesByRow):
        def row_values(self, passes):
            calls.append(passes)
            return super().row_values(passes)

    model = make([Counts()])
    callbacks = [GradualUnfreezing({0: "head", 3: 2})]
    history = fitted(model, epochs=5, callbacks=callbacks, shuffle=True)
    assert [row["cached"] for row in history.frozen_features] == [True] * 3 + [False] * 2
    assert len(calls) == 1


# Going on after a kill.


@pytest.mark.parametrize("kill", [(0, 2), (1, 0), (2, 3)])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, kill):
    """With a critic, its optimizer and its state, and values by row."""

    def run(*callbacks, folder):
        terms = [Critic(), LikesByRow()]
        model = make(terms, keras.optimizers.Adam(0.01), frozen=True)
        callbacks = [Resume(tmp_path / folder, every=1), *callbacks]
        history = fitted(model, callbacks=callbacks, shuffle=True)
        state = [v.numpy() for v in (*model.variables, *model.optimizer.variables)]
        return history.history, [*state, *(v.numpy() for v in model.terms.variables)]

    whole = run(folder="whole")
    with pytest.raises(Killed):
        run(Kill(*kill), folder="killed")
    resumed = run(folder="killed")
    assert resumed[0] == whole[0]
    assert_equal(whole[1], resumed[1], **EXACT)


def test_a_checkpoint_with_other_terms_is_refused(tmp_path):
    fitted(make([Size(0.5)]), callbacks=[Resume(tmp_path)])
    with pytest.raises(ValueError, match=r"`terms/0/strength` .in the checkpoint 0.5, now 0.25."):
        fitted(make([Size(0.25)]), callbacks=[Resume(tmp_path)])
    with pytest.raises(ValueError, match="`terms/0`"):
        fitted(make(), callbacks=[Resume(tmp_path)])


def test_the_lr_finder_puts_back_what_terms_learnt():
    term = Critic()
    model = make([term])
    fitted(model, epochs=1)
    before = [v.numpy() for v in model.terms.variables]
    lr_find(model, X, Y, num_steps=20, batch_size=5)
    assert_equal(before, [v.numpy() for v in model.terms.variables], **EXACT)


def test_a_model_is_saved_without_its_terms(tmp_path):
    model = make([Critic()])
    fitted(model)
    count = len(model.weights)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert len(loaded.weights) == count and not loaded.terms
    assert_equal(weights(model), weights(loaded), **EXACT)
    model.export(tmp_path / "served", verbose=False)


# Ways to run a step.


@pytest.mark.parametrize(
    "settings",
    [{"jit_compile": True}, {"steps_per_execution": 4}, {"run_eagerly": True}],
    ids=str,
)
def test_every_mode_of_execution(settings):
    models = [make([Size(), Critic()], **mode) for mode in (settings, {"jit_compile": False})]
    losses = [fitted(model).history["critic"] for model in models]
    np.testing.assert_allclose(*losses, **REDUCTION)
    assert_equal(weights(models[0]), weights(models[1]), rtol=1e-4, atol=1e-5)


def test_gradient_accumulation_takes_the_gradient_of_the_terms_too():
    """Four batches of 5 rows are one of 20: all means are over equal numbers of rows."""
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=4)
    one, two = make([Size()], optimizer), make([Size()], keras.optimizers.SGD(0.1))
    fitted(one)
    fitted(two, batch_size=20)
    assert_equal(weights(one), weights(two), **REDUCTION)


def test_loss_scale_leaves_gradients_of_the_terms_as_they_are():
    """Powers of two, so that scaling and unscaling is exact; also for a critic's own optimizer."""
    ends = []
    for scale in (False, True):
        optimizer = keras.optimizers.SGD(0.1)
        if scale:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, dynamic_growth_steps=3)
        term = Critic()
        model = make([term, Size()], optimizer)
        fitted(model)
        ends.append([*weights(model), term.kernel.numpy(), term.path.numpy()])
    assert_equal(*ends, **ELEMENTWISE)


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        term = Critic()
        model = make([term, Size()])
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        history = fitted(model, epochs=8).history
    finally:
        keras.config.set_dtype_policy("float32")
    assert history["loss"][-1] < history["loss"][0] and float(term.path) > 0
    assert not np.array_equal(term.kernel, np.ones((2, 1)))


@pytest.mark.slow
def test_two_devices_equal_one(tmp_path):
    """MirroredStrategy over two logical CPUs: weights, critic, and the terms' metrics."""
    program = """
        from kerastl.continual import L2SP
        from tests.training.terms_cases import Critic, Size, fitted, make, weights

        def train():
            term = Critic()
            model = make([Size(), term, L2SP(0.5, 0.25)])
            history = fitted(model, batch_size=10, validation_data=None).history
            told = [np.array(history[name]) for name in ("loss", "size", "critic", "l2_sp")]
            return [*weights(model), term.kernel.numpy(), *told]
        """
    two, one = two_and_one(program, tmp_path)
    assert_equal(two, one, **REDUCTION)


# Refusals.


class Named(Term):
    def __init__(self, name="named"):
        self.name = name


@pytest.mark.parametrize(
    ("terms", "error", "words"),
    [
        (["l2"], TypeError, "must be a list of kerastl's terms"),
        ([Size(), Size()], ValueError, "a name of its own"),
        ([Named("loss")], ValueError, "a name of its own"),
    ],
)
def test_bad_terms_are_refused_at_the_door(terms, error, words):
    with pytest.raises(error, match=words):
        make(terms)


def test_a_value_by_row_is_refused():
    class ByRow(Term):
        def __call__(self, step):
            return tf.reduce_mean(step.outputs, axis=1)

    with pytest.raises(ValueError, match="must be a scalar, the mean over the batch"):
        fitted(make([ByRow()]))


def test_own_variables_need_an_optimizer():
    term = Critic()
    term.optimizer = None
    with pytest.raises(ValueError, match="needs an optimizer for them"):
        fitted(make([term]))


def test_two_terms_that_give_targets_are_refused():
    class Shifted(Named):
        def targets(self, step):
            return step.targets + 1

    with pytest.raises(ValueError, match=r"One term can give the targets of the loss.*one, two"):
        fitted(make([Shifted("one"), Shifted("two")]))


def test_the_name_of_a_compiled_metric_is_taken():
    inputs = keras.Input((4,))
    model = FineTuner(inputs, keras.layers.Dense(2)(inputs))
    with pytest.raises(ValueError, match=r"name of a compiled metric.*'mae'"):
        model.compile("sgd", "mse", metrics=["mae"], terms=[Size(name="mae")])
    with pytest.raises(ValueError, match="'own'"):
        metric = keras.metrics.MeanAbsoluteError(name="own")
        model.compile("sgd", "mse", metrics=[metric], terms=[Size(name="own")])


def test_a_single_term_is_taken_and_what_is_none_is_refused():
    inputs = keras.Input((4,))
    model = FineTuner(inputs, keras.layers.Dense(2)(inputs))
    model.compile("sgd", "mse", terms=Size())
    assert [term.name for term in model.terms] == ["size"]
    with pytest.raises(TypeError, match="Received: 'l2_sp'"):
        model.compile("sgd", "mse", terms="l2_sp")


def test_what_a_term_is_tells_settings_of_its_class_and_arrays_apart():
    class Mild(Size):
        strength = 1.0

        def __init__(self, array=(0.0,)):
            self.array = np.array(array)

    class Strong(Mild):
        strength = 9.0

    assert Mild().identity() == Mild().identity()
    assert Mild().identity()["strength"] != Strong().identity()["strength"]
    assert Mild([1.0]).identity() != Mild([2.0]).identity()
