"""Distill: a term by which a model learns what a teacher answers."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl._base import checks
from kerastl.data.passes import Passes, hash_of_arrays
from kerastl.training import FineTuner, Term, TermStep


class Distill(Term):
    """Has a model learn what a teacher answers, wholly or in part.

    At a temperature of 1 the teacher's answers are mixed into the targets of the compiled loss,
    which must be linear in them, as `CategoricalCrossentropy` is:

    `y' = share * teacher(x) + (1 - share) * y`

    At another temperature `T` the loss is, with `p` the teacher's and `q` the student's
    probabilities, each to the power of `1 / T` and made to sum to 1 again,

    `share * T² * KL(p_T ‖ q_T) + (1 - share) * compiled loss`

    the divergence summed over classes and averaged over the batch, sample weights honoured. `T²`
    keeps the gradient from shrinking as `1 / T²`. In both, metrics, evaluation and validation go by
    the given targets, and `history` shows the divergence times its factors under the term's name.

    The teacher answers in inference mode, on the inputs as they were augmented for the student,
    and is no part of the model: it is not trained, saved or counted. Where the student's frozen
    layers are computed once, so are its answers.

    Args:
        teacher: `keras.Model` with the inputs of the student and one output of its shape.
        share: Float in [0, 1], of what is learnt from the teacher. At 0 the term is off.
        temperature: Float > 0, dimensionless. Higher ones show more of what the teacher says of
            the classes that it does not choose; 2 to 4 are usual.
        from_logits: Boolean, whether both models give logits; probabilities otherwise.
        name: String, the name of the metric.

    Raises:
        ValueError: If `share` or `temperature` is out of range; in `fit`, if student, teacher or
            targets have other shapes than these.

    Example:
        >>> inputs = keras.Input((2,))
        >>> teacher = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(inputs))
        >>> model = FineTuner(inputs, keras.layers.Dense(3, activation="softmax")(inputs))
        >>> model.compile("sgd", "categorical_crossentropy", terms=[Distill(teacher, share=0.9)])
        >>> history = model.fit(np.ones((4, 2)), np.eye(3)[[0, 1, 2, 0]], verbose=0).history
        >>> sorted(history)
        ['distill', 'loss']

    References:
        Hinton et al., 2015, section 2, https://arxiv.org/abs/1503.02531
    """

    reads_inputs = True

    def __init__(
        self,
        teacher: keras.Model,
        share: float = 0.5,
        *,
        temperature: float = 1.0,
        from_logits: bool = False,
        name: str = "distill",
    ) -> None:
        checks.in_range(share, 0.0, 1.0, "share")
        checks.in_range(temperature, 1e-3, 1e3, "temperature")
        self._teacher = teacher
        self.share, self.temperature, self.from_logits = share, temperature, bool(from_logits)
        self.name = name

    @property
    def is_off(self) -> bool:
        return self.share == 0

    @property
    def loss_weight(self) -> float:
        """What is left to the compiled loss; mixed targets leave it whole."""
        return 1.0 if self._mixes_targets else 1.0 - self.share

    def prepare(self, model: FineTuner) -> None:
        """Check that the model and its teacher give one tensor of the same shape."""
        shapes = [getattr(m, "output_shape", None) for m in (self._teacher, model)]
        if not isinstance(model.output, keras.KerasTensor) or shapes[0] not in (None, shapes[1]):
            raise ValueError(
                "Teacher and student must give one tensor of the same shape, (batch, classes). "
                f"Received: a teacher that gives {shapes[0]} and {model.name!r}, which gives "
                f"{shapes[1]}."
            )

        if not self._mixes_targets and shapes[1] is not None and shapes[1][-1] == 1:
            raise ValueError(
                "A temperature other than 1 is for the scores of classes, two at least. Received: "
                f"temperature={self.temperature}, outputs of shape {shapes[1]}. Use temperature=1."
            )

    def row_values(self, passes: Passes) -> np.ndarray:
        """The teacher's answers to all examples, `(num_examples, classes)`."""
        answer = tf.function(self._answer, autograph=False)
        return np.concatenate([answer(x).numpy() for x in passes.in_order()])

    def targets(self, step: TermStep) -> tf.Tensor | None:
        """The mixed targets, at a temperature of 1."""
        if not self._mixes_targets:
            return None
        answers, y = self._probabilities(step), step.targets
        if y is None or len(y.shape) != len(answers.shape):
            raise ValueError(
                "At a temperature of 1 answers are mixed into one-hot targets of their shape, "
                f"{tuple(answers.shape)}. Received: targets of shape {getattr(y, 'shape', None)}. "
                "Use `keras.utils.to_categorical`, or make_dataset(..., num_classes=...)."
            )
        return self.share * answers + (1 - self.share) * tf.cast(y, answers.dtype)

    def __call__(self, step: TermStep) -> tf.Tensor | None:
        return None if self._mixes_targets else self._divergence(step)

    def shown(self, step: TermStep, value: tf.Tensor | None) -> tf.Tensor:
        """The divergence, also where it acts through the targets; of one number, the distance."""
        if value is None and step.outputs.shape[-1] == 1:
            apart = tf.cast(self._answers(step), "float32") - tf.cast(step.outputs, "float32")
            return self.share * tf.reduce_mean(tf.abs(apart))
        return self._divergence(step) if value is None else value

    def identity(self) -> dict[str, Any]:
        """As in `Term`, and a hash of the teacher's weights."""
        weights = [np.atleast_1d(w.numpy()) for w in self._teacher.weights]
        return {**super().identity(), "teacher": hash_of_arrays(weights)}

    @property
    def _mixes_targets(self):
        return self.temperature == 1

    def _answer(self, inputs):
        return self._teacher(inputs, training=False)

    def _answers(self, step):
        if "answers" not in step.once:
            told = self._answer(step.inputs) if step.row_values is None else step.row_values
            step.once["answers"] = tf.stop_gradient(told)
        return step.once["answers"]

    def _probabilities(self, step):
        answers = self._answers(step)
        return tf.nn.softmax(answers) if self.from_logits else answers

    def _divergence(self, step):
        """`share * T² * KL`, a scalar; 0 * log 0 is 0."""
        teacher, student = (self._softened(x) for x in (self._answers(step), step.outputs))
        each = tf.reduce_sum(tf.exp(teacher) * (teacher - student), axis=-1)
        if step.sample_weight is not None:
            each *= _of_rank(tf.cast(step.sample_weight, each.dtype), each.shape.rank)
        return self.share * self.temperature**2 * tf.reduce_mean(each)

    def _softened(self, outputs):
        """Logarithms of probabilities at the temperature, in float32."""
        outputs = tf.cast(outputs, "float32")
        if not self.from_logits:
            outputs = tf.math.log(tf.maximum(outputs, keras.config.epsilon()))
        return tf.nn.log_softmax(outputs / self.temperature)


def _of_rank(weights, rank):
    """Sample weights `(batch,)` or `(batch, 1)`, to be multiplied with values of `rank` axes."""
    weights = weights[..., 0] if weights.shape.rank > rank else weights
    while weights.shape.rank < rank:
        weights = weights[..., None]
    return weights
