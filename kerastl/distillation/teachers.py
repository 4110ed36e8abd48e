"""The teachers of a term: models that answer in inference mode, each on inputs of its own form."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl.data.passes import hash_of_arrays

Prepare = Callable[[Any], Any] | None


class Teachers:
    """Models and what makes their inputs of the student's.

    They are no part of the student: not trained, saved or counted; statistics and dropout of theirs
    stand still.

    Args:
        models: `keras.Model`, or a sequence of them.
        prepare: Function from a batch of the student's inputs to those of the teacher, of tensors;
            None for the same ones; or a sequence of these, one a teacher.

    Raises:
        TypeError: If one of `models` is no Keras model, or one of `prepare` no function.
        ValueError: If there is none, or not as many functions as models.
    """

    def __init__(self, models: Any, prepare: Prepare | Sequence[Prepare] = None) -> None:
        self.models = [models] if isinstance(models, keras.Model) else list(models)
        several = isinstance(prepare, (list, tuple))
        self._prepares: list[Any] = list(prepare) if several else [prepare] * len(self.models)
        if not self.models or len(self._prepares) != len(self.models):
            raise ValueError(
                "`teacher` must be a model or several, and `prepare` one function for all or one "
                f"each. Received: {len(self.models)} models, {len(self._prepares)} in `prepare`"
            )
        for model in self.models:
            if not isinstance(model, keras.Model):
                raise TypeError(
                    f"`teacher` must be a `keras.Model` or several. Received: {model!r}"
                )
        for one in self._prepares:
            if one is not None and not callable(one):
                raise TypeError(
                    "`prepare` must be a function from the student's inputs to the teacher's, such "
                    f"as keras.layers.Resizing(96, 96). Received: {one!r}"
                )

    def check(self, student: keras.Model) -> None:
        """Refuse a student whose inputs go to a teacher of other shapes as they are."""
        taken = _shape(student)
        for model, prepare in zip(self.models, self._prepares, strict=True):
            asked = _shape(model)
            if prepare is None and None not in (asked, taken) and not _fit(asked, taken):
                raise ValueError(
                    f"{model.name!r} teaches on inputs of shape {asked}, and the student takes "
                    f"{taken}. Give `prepare`, a function from the student's inputs to the "
                    "teacher's, such as keras.layers.Resizing(height, width)."
                )

    def answers(self, inputs: Any) -> list[Any]:
        """What each teacher gives, in inference mode."""
        return [
            model(inputs if prepare is None else prepare(inputs), training=False)
            for model, prepare in zip(self.models, self._prepares, strict=True)
        ]

    def identity(self) -> str:
        """Hash of all their weights."""
        weights = [w for model in self.models for w in model.weights]
        return hash_of_arrays([np.atleast_1d(w.numpy()) for w in weights])


def weighted_mean(each: tf.Tensor, sample_weight: Any) -> tf.Tensor:
    """The mean of `each`, `(batch, ...)`, over all of it, examples times their weights.

    As Keras does by default: weights are not divided by their sum.
    """
    if sample_weight is not None:
        weights = tf.cast(sample_weight, each.dtype)
        weights = weights[..., 0] if weights.shape.rank > each.shape.rank else weights
        while weights.shape.rank < each.shape.rank:
            weights = weights[..., None]
        each *= weights
    return tf.reduce_mean(each)


def _shape(model):
    shape = getattr(model, "input_shape", None)
    return shape if isinstance(shape, tuple) and not any(map(_is_shape, shape)) else None


def _is_shape(part):
    return isinstance(part, (tuple, list, dict))


def _fit(asked, taken):
    pairs = zip(asked, taken, strict=False)
    return len(asked) == len(taken) and all(a == b or None in (a, b) for a, b in pairs)
