"""Small terms with all that a term may have, and a small model to train with them."""

import keras
import numpy as np
import tensorflow as tf

from kerastl.freezing import freeze_to
from kerastl.training import FineTuner, Term

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 4)).astype("float32")
Y = RNG.normal(size=(20, 2)).astype("float32")


class Size(Term):
    """The mean square of the outputs."""

    def __init__(self, strength=0.5, name="size"):
        self.strength, self.name = strength, name

    def __call__(self, step):
        return self.strength * tf.reduce_mean(step.outputs**2)


class Critic(Term):
    """Trainable parts of its own, state, and a hook after the step.

    A linear critic tells targets from outputs; `path` sums what training gradients and steps were,
    as synaptic intelligence does.
    """

    name = "critic"

    def __init__(self, rate=0.1):
        self.optimizer = keras.optimizers.Adam(rate)
        self.kernel = self.path = None

    @property
    def trainable_variables(self):
        return [] if self.kernel is None else [self.kernel]

    @property
    def state_variables(self):
        return [] if self.path is None else [self.path]

    def prepare(self, model):
        if self.kernel is None:
            self.kernel = keras.Variable(np.ones((2, 1), "float32"), name="kernel")
            self.path = keras.Variable(
                np.zeros(()), trainable=False, aggregation="only_first_replica", name="path"
            )

    def __call__(self, step):
        told = tf.matmul(step.outputs - step.targets, self.kernel.value)
        return tf.reduce_mean(tf.nn.softplus(told))

    def after_step(self, step):
        norms = [tf.reduce_sum(g**2) for _, g in step.gradients if g is not None]
        self.path.assign_add(tf.add_n(norms))


class Likes(Term):
    """Reads the inputs: outputs shall be near a fixed function of them."""

    name = "likes"
    reads_inputs = True

    def __call__(self, step):
        return tf.reduce_mean((step.outputs - self.of(step)) ** 2)

    def of(self, step):
        return tf.sin(step.inputs[:, :2])


class LikesByRow(Likes):
    """The same, with values by row that keep the cache."""

    def row_values(self, passes):
        return {"sines": np.concatenate([np.sin(x[:, :2]) for x in passes.in_order()])}

    def of(self, step):
        return super().of(step) if step.row_values is None else step.row_values["sines"]


def make(terms=(), optimizer=None, frozen=False, **compile_args):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    x = keras.layers.Dense(6, activation="tanh", name="body")(inputs)
    model = FineTuner(inputs, keras.layers.Dense(2, name="head", dtype="float32")(x))
    if frozen:
        freeze_to(model, -1)
    optimizer = optimizer or keras.optimizers.SGD(0.1, momentum=0.9)
    model.compile(optimizer, "mse", terms=terms, **compile_args)
    return model


def fitted(model, **options):
    options = {"epochs": 3, "batch_size": 5, "shuffle": False, "verbose": 0, **options}
    return model.fit(X, Y, **options)


def weights(model):
    return [weight.numpy() for weight in model.weights]


def assert_equal(one, two, **tolerance):
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, **tolerance)
