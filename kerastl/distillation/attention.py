"""DistillAttention: a term by which a model looks where its teacher looks."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from kerastl._base import checks
from kerastl.distillation.features import LayerTeacher
from kerastl.distillation.teachers import Prepare, weighted_mean
from kerastl.training import FineTuner, Term, TermStep


class DistillAttention(Term):
    """Attention transfer: maps of a model are strong where those of a teacher are.

    The attention of a map `F`, `(batch, height, width, channels)`, is the sum of its squares over
    channels, `Q = sum_c F_c²`, as one vector of its positions. With those of student and teacher

    `strength / 2 * sum over pairs of ‖Q_S / ‖Q_S‖ - Q_T / ‖Q_T‖‖²`

    averaged over the batch, examples times their sample weights. Widths do not matter; where sizes
    differ, the teacher's attention is resized to the student's, bilinearly. It departs from the
    paper's equation 2 in that the norm of the difference is squared, as in its authors' code: the
    norm itself has no gradient where both agree.

    The teacher runs in inference mode in each step and is not changed. Since its maps are computed
    of the inputs of the step, frozen layers of the student are not computed once.

    Args:
        teacher: `keras.Model`.
        layers: Dict from the name of a layer or operation of the student to one of the teacher.
            Both give maps with channels last.
        strength: Float >= 0, beta of the paper, which takes 1000 divided by the number of positions
            (and by the batch size, over which a mean is taken here). At 0 the term is off.
        prepare: As in `Distill`.
        name: String, the name of the metric.

    Raises:
        ValueError: If `strength` is below 0 or `layers` is empty; if the teacher has no layer of a
            name; in `fit`, if the student has none, or one gives no maps.

    Example:
        >>> import numpy as np
        >>> inputs = keras.Input((8, 8, 3))
        >>> maps = keras.layers.Conv2D(6, 3, name="many")(inputs)
        >>> teacher = keras.Model(inputs, keras.layers.GlobalMaxPooling2D()(maps))
        >>> maps = keras.layers.Conv2D(2, 3, strides=2, name="few")(inputs)
        >>> outputs = keras.layers.Dense(1)(keras.layers.GlobalMaxPooling2D()(maps))
        >>> model = FineTuner(inputs, outputs)
        >>> terms = [DistillAttention(teacher, {"few": "many"}, strength=10.0)]
        >>> model.compile("sgd", "mse", terms=terms)
        >>> data = np.random.default_rng(0).normal(size=(4, 8, 8, 3)), np.ones((4, 1))
        >>> model.fit(*data, verbose=0).history["distill_attention"][0] > 0
        True

    References:
        Zagoruyko & Komodakis, 2017, equation 2, https://arxiv.org/abs/1612.03928
    """

    reads_inputs = True

    def __init__(
        self,
        teacher: keras.Model,
        layers: Mapping[str, str],
        strength: float = 1.0,
        *,
        prepare: Prepare = None,
        name: str = "distill_attention",
    ) -> None:
        checks.in_range(strength, 0.0, float("inf"), "strength")
        self._teacher = LayerTeacher(teacher, layers, prepare)
        self.layers, self.strength = dict(layers), strength
        self.features = tuple(self.layers)
        self.name = name

    def prepare(self, model: FineTuner) -> None:
        """Check that all layers give maps."""
        self._teacher.check(model)
        for name, shapes in self._teacher.shapes(model).items():
            if any(len(shape) != 4 for shape in shapes):
                raise ValueError(
                    "`layers` must name layers that give maps, (batch, height, width, channels). "
                    f"Received: {name!r} of the student gives {shapes[0]}, and "
                    f"{self.layers[name]!r} of the teacher {shapes[1]}."
                )

    def __call__(self, step: TermStep) -> tf.Tensor:
        apart = []
        for name, wanted in self._teacher.features(step.inputs).items():
            own = _attention(tf.cast(step.features[name], "float32"))
            theirs = _attention(wanted)
            if own.shape[1:3] != theirs.shape[1:3] or None in own.shape[1:3]:
                theirs = tf.image.resize(theirs, tf.shape(own)[1:3])
            difference = _normalized(own) - _normalized(theirs)
            apart.append(weighted_mean(tf.reduce_sum(difference**2, axis=-1), step.sample_weight))
        return self.strength / 2 * tf.reduce_sum(tf.stack(apart))

    def identity(self) -> dict[str, Any]:
        """As in `Term`, with the pairs of layers and a hash of the teacher's weights."""
        own = {"layers": self.layers, "teacher": self._teacher.identity()}
        return {**super().identity(), **own}


def _attention(maps):
    """Squares summed over channels: `(batch, height, width, 1)`."""
    return tf.reduce_sum(maps**2, axis=-1, keepdims=True)


def _normalized(attention):
    """As vectors of positions, `(batch, height * width)`, of length 1; none where all is 0."""
    flat = tf.reshape(attention, (tf.shape(attention)[0], -1))
    return tf.math.l2_normalize(flat, axis=-1)
