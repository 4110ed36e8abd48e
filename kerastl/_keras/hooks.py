"""A method of one layer object, with something put around it: how an adapter reaches its layer.

Keras 3.15.1 locks the trackers of a layer once it is built, and the query of an attention layer
lies inside such a layer, so that nothing can be put in its place. `Operation.__call__` looks
`self.call` up on the instance, though, so an instance attribute decides what is computed. It is
written into `__dict__`, past Keras's `__setattr__`, so that the layer's config, weights and
trackers are what they were. This file can go when Keras lets a layer inside a built one be wrapped.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras

from kerastl._keras.layers import with_sublayers


class Hook:
    """Stands in the place of a method of a layer and runs what was put around it.

    Args:
        layer: Layer.
        name: String, the name of the method.

    Attributes:
        around: List of `(owner, function)`; the first is innermost. A function is called with
            what it is put around, and then as the method is.
    """

    def __init__(self, layer: keras.Layer, name: str) -> None:
        self.original = getattr(type(layer), name).__get__(layer)
        self.around: list[tuple[Any, Callable[..., Any]]] = []
        functools.update_wrapper(self, self.original, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = self.original
        for _, function in self.around:
            call = functools.partial(function, call)
        return call(*args, **kwargs)


def put_around(layer: keras.Layer, name: str, function: Callable[..., Any], owner: Any) -> None:
    """Have `layer` run `function(method, *args, **kwargs)` for its method `name`.

    Args:
        layer: Built layer.
        name: String, such as `"call"`. Of a layer that `quantize` changed, `"call"` means
            `quantized_call`, which Keras runs in its place; if it is quantized later, its next
            call is refused, since `function` would not be run.
        function: What is run.
        owner: What `take_away` and `owners_on` know it by.
    """
    if name == "call":
        if getattr(layer, "quantization_mode", None) is None:
            _put(layer, "quantized_call", functools.partial(_quantized_since, layer), owner)
        else:
            name = "quantized_call"
    _put(layer, name, function, owner)


def _put(layer, name, function, owner):
    hook = layer.__dict__.get(name)
    if hook is None:
        hook = layer.__dict__[name] = Hook(layer, name)
    hook.around.append((owner, function))


def _quantized_since(layer, call, *args, **kwargs):
    raise RuntimeError(
        f"{layer.name!r} was quantized after an adapter was added to it, which learnt beside other "
        "weights. Load the base again and quantize it before adding the adapter, or merge for "
        "good (`kerastl.peft.unload(model, merge=True)`) and quantize then."
    )


def take_away(layer: keras.Layer, owner: Any) -> None:
    """Undo every `put_around` of `owner` on `layer`; without any, the class decides again."""
    for name, hook in _hooks(layer):
        hook.around = [pair for pair in hook.around if pair[0] is not owner]
        if not hook.around:
            del layer.__dict__[name]


def owners_on(layer: Any) -> list[Any]:
    """The owners of what is put around methods of `layer` itself, each once, innermost first."""
    owners = [owner for _, hook in _hooks(layer) for owner, _ in hook.around]
    return list({id(owner): owner for owner in owners}.values())


def owners_within(layer: Any) -> list[Any]:
    """As `owners_on`, of `layer` and of all layers inside it."""
    owners = [owner for inner in with_sublayers(layer) for owner in owners_on(inner)]
    return list({id(owner): owner for owner in owners}.values())


def _hooks(layer):
    return [(name, value) for name, value in vars(layer).items() if type(value) is Hook]


@contextlib.contextmanager
def without_activation(layer: keras.Layer) -> Iterator[Callable[..., Any]]:
    """Have `layer` leave out its activation meanwhile; gives that, to be computed afterwards.

    What is added to a product belongs before it. The public attribute would go through Keras's
    `__setattr__`, which a locked tracker may refuse.
    """
    activation = layer.activation
    if activation in (None, keras.activations.linear):
        yield keras.activations.linear
        return
    layer.__dict__["activation"] = keras.activations.linear
    try:
        yield activation
    finally:
        layer.__dict__["activation"] = activation


class _Running(threading.local):
    training = False


_RUNNING = _Running()


@contextlib.contextmanager
def adapters_training(training: bool) -> Iterator[None]:
    """Tell adapters whether they train meanwhile, in this thread.

    A convolution is not told: its `call` takes no `training`, and what Keras keeps of the call
    around it is what the layer before was told.
    """
    before, _RUNNING.training = _RUNNING.training, training
    try:
        yield
    finally:
        _RUNNING.training = before


def are_adapters_training() -> bool:
    """What `adapters_training` says now; False outside of it."""
    return _RUNNING.training
