"""DistillFeatures: a term by which layers of a model learn what those of a teacher give."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl import _keras
from kerastl._base import checks
from kerastl.distillation.teachers import Prepare, Teachers, weighted_mean
from kerastl.training import FineTuner, Term, TermStep


class DistillFeatures(Term):
    """Has layers of a model give what layers of a teacher give.

    `strength * sum over pairs of mean((W f_student + b - f_teacher)²)`

    the mean over all axes but the batch, then over the batch with examples times their sample
    weights. Positions of a sequence that the student's Keras mask leaves out do not count. `W` and
    `b`, the projector, act on the last axis and are there only where widths differ. They train in
    the same step by an optimizer of their own, are kept in checkpoints, and are no part of the
    model. Use it beside the compiled loss, and beside `Distill` if you like.

    The teacher runs in inference mode in each step and is not changed. Since its features are
    computed of the inputs of the step, frozen layers of the student are not computed once.

    Args:
        teacher: `keras.Model`.
        layers: Dict from the name of a layer or operation of the student, as `step.features` of a
            `Term` has them, to one of the teacher. Both give channels last, and positions of the
            same shape, `(batch, ..., channels)`.
        strength: Float >= 0. At 0 the term is off.
        prepare: As in `Distill`.
        optimizer: Keras optimizer of the projectors. None is `Adam(1e-3)`.
        seed: Int, of the kernels that projectors begin with.
        name: String, the name of the metric.

    Raises:
        ValueError: If `strength` is below 0 or `layers` is empty; if the teacher has no layer of a
            name; in `fit`, if the student has none, or positions differ.

    Example:
        >>> inputs = keras.Input((2,))
        >>> wide = keras.layers.Dense(8, activation="relu", name="wide")(inputs)
        >>> teacher = keras.Model(inputs, keras.layers.Dense(3)(wide))
        >>> thin = keras.layers.Dense(4, activation="relu", name="thin")(inputs)
        >>> model = FineTuner(inputs, keras.layers.Dense(3)(thin))
        >>> term = DistillFeatures(teacher, {"thin": "wide"}, strength=0.1)
        >>> model.compile("sgd", "mse", terms=[term])
        >>> history = model.fit(np.ones((4, 2)), np.ones((4, 3)), verbose=0).history
        >>> [variable.numpy().shape for variable in term.trainable_variables]
        [(4, 8), (8,)]

    References:
        Romero et al., 2015, equation 3 (there half of the sum of squares, and a projector with a
        nonlinearity), https://arxiv.org/abs/1412.6550
    """

    reads_inputs = True

    def __init__(
        self,
        teacher: keras.Model,
        layers: Mapping[str, str],
        strength: float = 1.0,
        *,
        prepare: Prepare = None,
        optimizer: Any = None,
        seed: int = 0,
        name: str = "distill_features",
    ) -> None:
        checks.in_range(strength, 0.0, float("inf"), "strength")
        self._teacher = LayerTeacher(teacher, layers, prepare)
        self.layers, self.strength, self.seed = dict(layers), strength, seed
        self._optimizer: Any = keras.optimizers.get(optimizer or keras.optimizers.Adam(1e-3))
        self.features = tuple(self.layers)
        self.name = name
        self._projectors = {}  # by the student's layer: kernel and bias

    @property
    def optimizer(self) -> Any:
        """The optimizer of the projectors, new each time: one belongs to its variables."""
        return type(self._optimizer).from_config(self._optimizer.get_config())

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """The projectors' kernels `(channels, channels of the teacher)` and biases."""
        return [variable for projector in self._projectors.values() for variable in projector]

    def begin(self, model: FineTuner) -> None:
        """Forget the projectors of a training before this `compile`."""
        self._projectors = {}

    def prepare(self, model: FineTuner) -> None:
        """Make a projector where widths differ."""
        if self._projectors:
            return
        self._teacher.check(model)
        rng = np.random.default_rng(self.seed)
        for name, (student, teacher) in self._teacher.shapes(model).items():
            if len(student) != len(teacher) or not _alike(student[1:-1], teacher[1:-1]):
                raise ValueError(
                    "Layers must give features at the same positions, (batch, ..., channels). "
                    f"Received: {name!r} of the student gives {student}, and {self.layers[name]!r} "
                    f"of the teacher {teacher}. Name other layers, or use `DistillAttention`, "
                    "whose maps may be of different sizes."
                )
            if student[-1] != teacher[-1]:
                limit = np.sqrt(6 / (student[-1] + teacher[-1]))  # Glorot's
                kernel = rng.uniform(-limit, limit, (student[-1], teacher[-1]))
                self._projectors[name] = (
                    keras.Variable(kernel.astype("float32"), name="projector_kernel"),
                    keras.Variable(np.zeros(teacher[-1], "float32"), name="projector_bias"),
                )

    def __call__(self, step: TermStep) -> tf.Tensor:
        apart = []
        for name, wanted in self._teacher.features(step.inputs).items():
            given = tf.cast(step.features[name], "float32")
            if name in self._projectors:
                kernel, bias = self._projectors[name]
                given = tf.tensordot(given, kernel.value, 1) + bias.value
            each = tf.reduce_mean((given - wanted) ** 2, axis=-1)
            mask = _keras.get_keras_mask(step.features[name])
            apart.append(weighted_mean(_over_positions(each, mask), step.sample_weight))
        return self.strength * tf.reduce_sum(tf.stack(apart))

    def identity(self) -> dict[str, Any]:
        """As in `Term`, with the pairs of layers and a hash of the teacher's weights."""
        own = {"layers": self.layers, "teacher": self._teacher.identity()}
        return {**super().identity(), **own, "optimizer": type(self._optimizer).__name__}


class LayerTeacher:
    """A teacher of which some layers are read.

    Args:
        model: `keras.Model`, functional or Sequential.
        layers: Dict from the name of a layer of the student to one of `model`.
        prepare: As in `Teachers`.
    """

    def __init__(
        self, model: keras.Model, layers: Mapping[str, str], prepare: Prepare = None
    ) -> None:
        if not isinstance(layers, Mapping) or not layers:
            raise ValueError(
                "`layers` must be a dict from a layer of the student to one of the teacher, such "
                f"as {{'block_3': 'block_12'}}. Received: layers={layers!r}"
            )
        graph: Any = model
        known = {one.name: one for one in getattr(graph, "operations", graph.layers)}
        for name in layers.values():
            if name not in known:
                raise ValueError(
                    f"`layers` must name layers of the teacher {model.name!r}. Received: {name!r}. "
                    f"Closest: {checks.closest(name, list(known))}. Of models within it, "
                    "`kerastl.flatten(teacher)` shows the layers."
                )
        self._outputs = {name: known[of].output for name, of in layers.items()}
        self._teachers = Teachers(keras.Model(graph.input, list(self._outputs.values())), prepare)

    def check(self, student: keras.Model) -> None:
        """Refuse a student whose inputs the teacher does not take."""
        self._teachers.check(student)

    def shapes(self, student: FineTuner) -> dict[str, tuple[Any, Any]]:
        """Dict from each layer of the student to its shape and that of the teacher's."""
        known = {one.name: one for one in student.operations}
        return {
            name: (tuple(known[name].output.shape), tuple(output.shape))
            for name, output in self._outputs.items()
        }

    def features(self, inputs: Any) -> dict[str, tf.Tensor]:
        """Dict from each layer of the student to what the teacher's gives, float32."""
        (told,) = self._teachers.answers(inputs)
        told = [tf.stop_gradient(tf.cast(one, "float32")) for one in keras.tree.flatten(told)]
        return dict(zip(self._outputs, told, strict=True))

    def identity(self) -> str:
        """Hash of the weights that are read."""
        return self._teachers.identity()


def _over_positions(each, mask):
    """The mean of `each`, `(batch, ...)`, over positions: `(batch,)`; masked ones left out."""
    axes = list(range(1, each.shape.rank))
    if not axes:
        return each
    if mask is None:
        return tf.reduce_mean(each, axis=axes)
    counts = tf.cast(mask, each.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(each * counts, axes), tf.reduce_sum(counts, axes))


def _alike(ones, others):
    return all(a == b or None in (a, b) for a, b in zip(ones, others, strict=True))
