"""Readers and makers of a graph drawn by hand, and the graph made again."""

import keras
import numpy as np
import pytest
from keras import layers

from kerastl.graph.index import GraphIndex
from kerastl.graph.rewrite import copy_of, copy_weights, rebuilt


@pytest.fixture
def graph():
    """inputs → low → {relu, twice = relu + relu}; low is called again on the sum, an output."""
    inputs = keras.Input((3,), name="inputs")
    low = layers.Dense(3, name="low")
    first = low(inputs)
    relu = layers.ReLU(name="relu")(first)
    both = layers.Add(name="twice")([relu, relu])
    again = low(both)
    last = layers.Activation("tanh", name="last")(again)
    return GraphIndex(keras.Model(inputs, [both, last])), (inputs, first, relu, both, again, last)


def names(calls):
    return [call and call.operation.name for call in calls]


def test_who_makes_and_who_reads(graph):
    index, (inputs, first, relu, both, again, last) = graph
    assert names(index.nodes) == ["low", "relu", "twice", "low", "last"]
    assert id(inputs) not in index.makers
    made = [index.makers[id(x)] for x in (first, relu, both, again, last)]
    assert made == index.nodes
    read = [names(index.readers[id(x)]) for x in (inputs, first, relu, both, again, last)]
    # `twice` reads `relu` two times and is listed once; None is an output of the model.
    assert read == [["low"], ["relu"], ["twice"], ["low", None], ["last"], [None]]
    assert [len(index.calls[id(node.operation)]) for node in index.nodes] == [2, 1, 1, 2, 1]


def test_sole_reader_and_follower(graph):
    index, _ = graph
    sole = [index.sole_reader(node) for node in index.nodes]
    assert names(sole) == ["relu", "twice", None, "last", None]
    # `low` is called twice, so nothing follows it in every sense.
    assert names(map(index.follower, index.nodes)) == [None, "twice", None, None, None]


def test_a_copy_computes_the_same_with_layers_of_its_own(graph):
    index, _ = graph
    copies = {}

    def place(node, args, kwargs):
        layer = node.operation
        new = copies.setdefault(id(layer), copy_of(layer))
        return new(*args, **kwargs)

    made = rebuilt(index, place)
    for layer in index.model.layers:
        new = made.get_layer(layer.name)
        assert new is not layer
        copy_weights(layer, new)
    assert names(GraphIndex(made).nodes) == names(index.nodes)
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    for old, new in zip(index.model(x), made(x), strict=True):
        np.testing.assert_array_equal(old, new)


def test_inputs_may_be_changed_on_their_way_in(graph):
    index, _ = graph
    made = rebuilt(
        index,
        lambda node, args, kwargs: node.operation(*args, **kwargs),
        entrance=lambda old, new: layers.Rescaling(2.0, name=f"{old.name}_doubled")(new),
    )
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    for old, new in zip(index.model(2 * x), made(x), strict=True):
        np.testing.assert_array_equal(old, new)
