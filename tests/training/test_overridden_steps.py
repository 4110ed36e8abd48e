"""A subclass that overrides what Keras lets it override trains as in Keras, without a cache."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl.training import FineTuner
from tests import tolerances


def overriding(base):
    """Subclasses of `base`, each with one method of its own that reads the inputs."""

    class OwnLoss(base):
        """Keras's documented `compute_loss(x, y, y_pred)`, with a part that reads the inputs."""

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            error = keras.ops.mean((y - y_pred) ** 2)
            return error + keras.ops.mean(x[:, :1] * y_pred)

    class OwnStep(base):
        def train_step(self, data):
            x, y = data
            return super().train_step((x, y + keras.ops.mean(x, axis=1, keepdims=True)))

    class OwnCall(base):
        def call(self, inputs, training=None, mask=None):
            return super().call(inputs, training=training) + keras.ops.mean(inputs)

    class OwnLoop(base):
        """Keras's guide: a `train_step` written out, and a `test_step` that is Keras's own."""

        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            for metric in self.metrics:
                metric.update_state(loss)
            return {metric.name: metric.result() for metric in self.metrics}

    class OwnTestStep(base):
        def test_step(self, data):
            x, y = data
            return super().test_step((x, y + keras.ops.max(x)))

    class OwnMetrics(base):
        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            said = super().compute_metrics(x, y, y_pred, sample_weight)
            return {**said, "largest_input": keras.ops.max(x)}

    return {
        "compute_loss": OwnLoss,
        "train_step": OwnStep,
        "call": OwnCall,
        "test_step": OwnTestStep,
        "compute_metrics": OwnMetrics,
        "own_loop": OwnLoop,
    }


OURS, STOCK = overriding(FineTuner), overriding(keras.Model)
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(16, 4)).astype("float32"), RNG.normal(size=(16, 2)).astype("float32")


def make(cls):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    x = keras.layers.Dense(6, activation="tanh", name="body")(inputs)
    model = cls(inputs, keras.layers.Dense(2, name="head")(x))
    model.get_layer("body").trainable = False
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


def losses(cls, **options):
    return make(cls).fit(
        X, Y, epochs=3, batch_size=4, validation_data=(X, Y), shuffle=False, verbose=0, **options
    )


@pytest.mark.slow_but("compute_loss", "call")
@pytest.mark.parametrize("method", OURS)
def test_losses_are_those_of_keras_and_those_without_a_cache(method):
    history, plain = losses(OURS[method]), losses(OURS[method], cache_frozen=False)
    assert history.history == plain.history
    assert not any(row["cached"] for row in history.frozen_features)
    stock = losses(STOCK[method]).history
    assert history.history.keys() == stock.keys()
    for name, values in stock.items():
        np.testing.assert_allclose(history.history[name], values, **tolerances.REDUCTION)


@pytest.mark.parametrize("method", OURS)
def test_evaluate_and_predict_agree_with_keras(method):
    ours, stock = make(OURS[method]), make(STOCK[method])
    told, asked = ours.evaluate(X, Y, verbose=0), stock.evaluate(X, Y, verbose=0)
    np.testing.assert_allclose(told, asked, **tolerances.REDUCTION)
    answers = ours.predict(X, verbose=0)
    np.testing.assert_allclose(answers, stock.predict(X, verbose=0), **tolerances.REDUCTION)
    if method in ("call", "train_step", "own_loop"):  # which leave the loss of evaluation as it is
        assert told == pytest.approx(float(np.mean((answers - Y) ** 2)), rel=1e-5)


@pytest.mark.parametrize("method", OURS)
def test_a_cache_that_is_asked_for_is_refused_by_name(method):
    name = "train_step" if method == "own_loop" else method
    with pytest.raises(ValueError, match=f"has its own `{name}`"):
        losses(OURS[method], cache_frozen=True)


def test_a_subclass_that_overrides_none_of_them_is_cached():
    class Named(FineTuner):
        """Nothing of its own."""

    assert all(row["cached"] for row in losses(Named).frozen_features)


def test_evaluation_runs_a_call_of_its_own():
    model = make(OURS["call"])
    error = float(np.mean((model.predict(X, verbose=0) - Y) ** 2))
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(error, rel=1e-5)
    assert error != pytest.approx(make(FineTuner).evaluate(X, Y, verbose=0), rel=1e-3)


class LossOfFour(FineTuner):
    """As Keras documented it before 3.3: without `training`."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        return keras.ops.mean((y - y_pred) ** 2)


def test_a_loss_without_the_argument_training():
    own, compiled = losses(LossOfFour).history, losses(FineTuner, cache_frozen=False).history
    np.testing.assert_allclose(own["loss"], compiled["loss"], **tolerances.REDUCTION)
    np.testing.assert_allclose(own["val_loss"], compiled["val_loss"], **tolerances.REDUCTION)


def test_a_method_set_on_the_object_counts():
    model = make(FineTuner)
    assert model.reads_inputs is None
    model.compute_loss = lambda *args, **kwargs: 0.0
    assert "`compute_loss`" in model.reads_inputs
