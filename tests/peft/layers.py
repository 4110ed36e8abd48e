"""Single layers with an adapter of a method, without a model around them."""

import contextlib

import keras
import numpy as np

from kerastl import _keras


def scattered(layer, seed=0):
    """A built layer, or adapter, with weights of which no two are alike."""
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        if weight.trainable and weight.dtype == "float32":
            weight.assign(0.3 * rng.normal(size=weight.shape))
    return layer


def dense(inputs=5, outputs=4, **kwargs):
    layer = keras.layers.Dense(outputs, **kwargs)
    layer.build((None, inputs))
    return scattered(layer)


@contextlib.contextmanager
def acting(adapter):
    """Have `adapter` act on its layer meanwhile."""
    for layer, method, function in adapter.hooks():
        _keras.put_around(layer, method, function, adapter)
    try:
        yield
    finally:
        for layer, *_ in adapter.hooks():
            _keras.take_away(layer, adapter)


def merged(adapter, inputs):
    """What the layer gives without its adapter, which is merged meanwhile."""
    pairs = [(variable, np.asarray(value)) for variable, value in adapter.merged()]
    before = [variable.numpy() for variable, _ in pairs]
    for variable, value in pairs:
        variable.assign(value)
    outputs = np.asarray(adapter.beside.layer(inputs))
    for (variable, _), value in zip(pairs, before, strict=True):
        variable.assign(value)
    return outputs


def through(adapter, inputs):
    """What the layer gives with its adapter."""
    with acting(adapter):
        return np.asarray(adapter.beside.layer(inputs))


def double(variable):
    return np.asarray(variable).astype("float64")
