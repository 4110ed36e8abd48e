"""Two domains that differ in a nuisance, and small models that may or may not look at it."""

import keras
import numpy as np

from kerastl.adaptation import DomainAdversarial, TargetStream
from kerastl.training import FineTuner


def two_domains(seed):
    """`(x, y)` of a source and of a target: in the source the nuisance tells the class, too.

    The first number tells the class by itself: at a spread of 0.4 one in 160 is on the wrong side.
    In the target the nuisance tells nothing and is elsewhere.
    """
    rng = np.random.default_rng(seed)
    domains = []
    for num, share, shift in ((1000, 1.0, 0.0), (600, 0.0, 2.0)):
        y = rng.integers(0, 2, num)
        side = 2.0 * y - 1.0
        signal = side + rng.normal(0, 0.4, num)
        nuisance = share * side + shift + rng.normal(0, 0.4, num)
        domains.append((np.stack([signal, nuisance], axis=1).astype("float32"), y))
    return domains


def nuisance_and_error(seed, strength):
    """The size of the weights on the nuisance, and the share of errors on the target."""
    keras.utils.set_random_seed(seed)
    (x, y), (target, truth) = two_domains(seed)
    inputs = keras.Input((2,))
    features = keras.layers.Dense(2, use_bias=False, name="features")(inputs)
    model = FineTuner(inputs, keras.layers.Dense(2, activation="softmax", name="head")(features))
    hidden = keras.layers.Dense(32, activation="relu")
    critic = keras.Sequential([keras.Input((2,)), hidden, keras.layers.Dense(1)])
    stream = TargetStream(target, batch_size=30)
    term = DomainAdversarial(stream, strength, num_steps=400, critic=critic)
    model.compile(
        keras.optimizers.SGD(0.02),
        "sparse_categorical_crossentropy",
        terms=[term],
        steps_per_execution=20,
    )
    model.fit(x, y, batch_size=50, epochs=20, verbose=0)
    error = np.mean(model.predict(target, verbose=0).argmax(1) != truth)
    return np.linalg.norm(model.get_layer("features").kernel.numpy()[1]), error
