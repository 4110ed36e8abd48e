"""Attention layers of Keras and KerasHub: the method that computes with keys and values.

Keras 3.15.1 and KerasHub 0.32 project queries, keys and values in `call`, turn them by their
positions, put them into a cache, and hand them to `_compute_attention`, which has no public name.
What is put before keys and values there has no position and is in no cache. This file can go when
attention layers take keys and values from outside.
"""

import inspect
from typing import Any

import keras

from kerastl._keras.layers import kernel_of, sublayers, with_sublayers

COMPUTE_ATTENTION = "_compute_attention"
_ARGUMENTS = ["query", "key", "value", "attention_mask"]
_OPTIONS = {"training", "return_attention_scores", "use_causal_mask"}


def attention_layers(layer: keras.Layer) -> list[keras.Layer]:
    """The attention layers at or below `layer` whose keys and values can be added to.

    Their `_compute_attention` must take `(query, key, value, attention_mask)`: one that also asks
    where in a cache it is, such as Qwen's, counts the keys itself.
    """
    return [one for one in with_sublayers(layer) if _is_open(one)]


def _is_open(layer):
    method = getattr(type(layer), COMPUTE_ATTENTION, None)
    if method is None or key_of(layer) is None:
        return False
    names = list(inspect.signature(method).parameters)[1:]
    return names[:4] == _ARGUMENTS and set(names[4:]) <= _OPTIONS


def attention_arguments(
    attention: keras.Layer, *args: Any, **kwargs: Any
) -> inspect.BoundArguments:
    """The arguments of a call of its `_compute_attention` by their names, `attention_mask` too."""
    method = getattr(type(attention), COMPUTE_ATTENTION).__get__(attention)
    given = inspect.signature(method).bind(*args, **kwargs)
    given.apply_defaults()
    return given


def key_of(attention: keras.Layer) -> Any:
    """The layer that makes the keys of `attention`, or None where there is none by that name."""
    return _part(attention, "key")


def key_and_value_shapes(
    attention: keras.Layer,
) -> tuple[int, tuple[int, int], tuple[int, int]]:
    """Features that `attention` reads, and `(heads, size)` of its keys and of its values."""
    width, *keys = kernel_of(_part(attention, "key")).shape
    _, *values = kernel_of(_part(attention, "value")).shape
    return width, (keys[0], keys[1]), (values[0], values[1])


def _part(attention, name):
    found = [one for one in sublayers(attention) if one.name == name]
    fits = bool(found) and isinstance(found[0], keras.layers.EinsumDense)
    return found[0] if fits and len(kernel_of(found[0]).shape) == 3 else None
