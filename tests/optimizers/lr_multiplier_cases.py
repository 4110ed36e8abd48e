"""What the tests of LRMultiplier share: a table of optimizers, variables, gradients, steps."""

import contextlib

import keras
import numpy as np
from keras import optimizers

# name -> a function of the rate (and base arguments) that makes the optimizer.
OPTIMIZERS = {
    "SGD": optimizers.SGD,
    "momentum": lambda rate, **base: optimizers.SGD(rate, momentum=0.9, **base),
    "Nesterov": lambda rate, **base: optimizers.SGD(rate, momentum=0.9, nesterov=True, **base),
    "Adam": optimizers.Adam,
    "AMSGrad": lambda rate, **base: optimizers.Adam(rate, amsgrad=True, **base),
    "AdamW": lambda rate, weight_decay=None, **base: optimizers.AdamW(
        rate, weight_decay=weight_decay or 0.0, **base
    ),
    "Adamax": optimizers.Adamax,
    "Nadam": optimizers.Nadam,
    "RMSprop centred": lambda rate, **base: optimizers.RMSprop(
        rate, centered=True, momentum=0.5, **base
    ),
    "Adagrad": optimizers.Adagrad,
    "Adadelta": optimizers.Adadelta,
    "Lion": optimizers.Lion,
    "Lamb": optimizers.Lamb,
    "Adafactor": optimizers.Adafactor,
    "Muon": lambda rate, weight_decay=None, **base: optimizers.Muon(
        rate, weight_decay=weight_decay, adam_weight_decay=weight_decay, rms_rate=None, **base
    ),
}


class Groups:
    """The least that LRMultiplier asks of layer groups: names and the variables of each."""

    def __init__(self, groups):
        self.groups = groups

    def __contains__(self, name):
        return name in self.groups

    def items(self):
        return self.groups.items()

    def variables(self, name):
        return list(self.groups[name])


def variables(*names, shape=(4, 3), seed=0):
    """A variable for each path, each with its own values."""
    made = []
    for index, name in enumerate(names):
        *layers, last = name.split("/")
        value = np.random.default_rng(seed + index).normal(size=shape)
        with contextlib.ExitStack() as scopes:
            for layer in layers or ["model"]:
                scopes.enter_context(keras.name_scope(layer))
            made.append(keras.Variable(value, name=last, dtype=keras.config.floatx()))
    return made


def gradients(steps, count, shape=(4, 3), seed=100):
    """`steps` lists of `count` gradients."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(steps, count, *shape)).astype(keras.config.floatx())


def train(optimizer, weights, gradient_steps):
    """Apply each step's gradients to `weights`; return their values at the end."""
    for step in gradient_steps:
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in step], weights)
    return [weight.numpy() for weight in weights]


def state(optimizer):
    """All state of `optimizer`, in its order."""
    return [variable.numpy() for variable in optimizer.variables]
