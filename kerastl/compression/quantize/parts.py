"""Layers taken apart into steps that int8 kernels have, and the flags of copied layers."""

from collections.abc import Callable, Collection
from typing import Any

import keras
from keras import ops

from kerastl import _keras
from kerastl.graph.flags import all_leaves, training_ids


def activation(
    what: str | Callable[..., Any], name: str, trains: bool = True
) -> Callable[[Any], Any]:
    """A function from a tensor to an activation of it.

    Args:
        what: Name or callable of the activation; `silu` and `hard_sigmoid` are taken apart.
        name: String, name of the layer that gives the result.
        trains: Boolean, the flag of the new layers.
    """
    if what == "silu":
        gate = keras.layers.Activation("sigmoid", name=f"{name}_sigmoid", trainable=trains)
        product = keras.layers.Multiply(name=name, trainable=trains)
        return lambda x: product([x, gate(x)])
    if what == "hard_sigmoid":
        clip = keras.layers.ReLU(6.0, name=name, trainable=trains)
        return lambda x: ops.multiply(clip(ops.add(x, 3.0)), 1 / 6)
    return keras.layers.Activation(what, name=name, trainable=trains)


def chain(layer: keras.Layer, kind: str, count: int) -> Callable[[list[Any]], Any]:
    """A function from a list of tensors to their sum, product or mean, two at a time.

    Args:
        layer: `Add`, `Multiply` or `Average`, whose name the last step gets.
        kind: Name of its class.
        count: Int, how many tensors it takes.
    """
    step = keras.layers.Multiply if kind == "Multiply" else keras.layers.Add
    names = [f"{layer.name}_{i}" for i in range(1, count - 1)]
    steps = [step(name=name, trainable=layer.trainable) for name in (*names, layer.name)]

    def run(tensors):
        total = tensors[0]
        for joined, tensor in zip(steps, tensors[1:], strict=True):
            total = joined([total, tensor])
        return ops.multiply(total, 1 / count) if kind == "Average" else total

    return run


def scaled_and_shifted(name: str, scale: float, offset: float) -> Callable[[Any], Any]:
    """A function from a tensor to `scale * x + offset`, one step each, none for what does nothing.

    A product and a sum take int8 kernels a tenth of the time of a depthwise convolution.
    """
    steps = [keras.layers.Rescaling(scale, name=f"{name}_scale")] if scale != 1 else []
    if offset != 0 or not steps:
        steps.append(keras.layers.Rescaling(1.0, offset, name=name))

    def run(x):
        for step in steps:
            x = step(x)
        return x

    return run


def training_leaves(model: keras.Model) -> list[keras.Layer]:
    """The leaf layers of `model` that train, no parent in between hiding them."""
    visible = training_ids(model)
    return [leaf for leaf in all_leaves(model) if id(leaf) in visible]


def copy_flags(layer: keras.Layer, new: keras.Layer, training: Collection[int]) -> None:
    """Give a copy of `layer`, and all layers in it, the flags of the original.

    Args:
        layer: The original.
        new: The copy.
        training: Set of the ids of leaf layers that train.
    """
    for old, fresh in zip(_keras.with_sublayers(layer), _keras.with_sublayers(new), strict=True):
        is_leaf = not _keras.sublayers(old)
        _keras.set_own_trainable(fresh, id(old) in training if is_leaf else old.trainable)
        own = zip(
            _keras.own_trainable_variables(old),
            _keras.own_trainable_variables(fresh),
            strict=True,
        )
        for variable, copied in own:
            copied.trainable = copied.trainable and variable.trainable
