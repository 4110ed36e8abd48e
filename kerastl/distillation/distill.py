"""Distill: a term by which a model learns what a teacher answers."""

from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from kerastl._base import checks
from kerastl.data.passes import Passes
from kerastl.distillation.teachers import Prepare, Teachers, weighted_mean
from kerastl.training import FineTuner, Term, TermStep

KINDS = ("classes", "labels", "numbers")
# Losses whose gradient is linear in the targets, so that to mix these is to mix the losses.
_LINEAR = {
    keras.losses.CategoricalCrossentropy: keras.losses.categorical_crossentropy,
    keras.losses.BinaryCrossentropy: keras.losses.binary_crossentropy,
    keras.losses.MeanSquaredError: keras.losses.mean_squared_error,
}
_OF_LABELS = ("binary_crossentropy", "binary_focal_crossentropy")
_OF_NUMBERS = ("mean_squared_error", "mean_absolute_error", "huber", "log_cosh")


class Distill(Term):
    """Has a model learn what a teacher answers, wholly or in part, beside any compiled loss.

    With `p` the teacher's and `q` the student's answers, at a temperature `T` the loss is

    `share * T² * D(p_T, q_T) + (1 - share) * compiled loss`

    with examples weighted by `sample_weight` in both, and penalties whole. `T²` keeps the gradient
    from shrinking as `1 / T²`. What `D` is, goes by what outputs are:

    - of classes `KL(p_T ‖ q_T)`, summed over classes, where `p_T` is `p` to the power of `1 / T`,
      made to sum to 1 again;
    - of several labels the same for each label and its opposite, a mean over labels;
    - of numbers the mean of `(p - q)²`, at a temperature of 1.

    At a temperature of 1, beside cross-entropy of one-hot targets or labels or the squared error,
    whose gradients are linear in the targets, the answers are mixed into the targets, with the
    same gradient: `y' = share * p + (1 - share) * y`. Metrics, evaluation and validation go by the
    given targets, and `history` shows `share * T² * D` under the term's name in any case.

    The teacher answers in inference mode, on the inputs as they were augmented for the student,
    and is no part of the model: it is not trained, saved or counted. Where inputs are the same in
    each epoch its answers are computed once, in batches as large as those of training: they are
    the same to the bit where its kernels give an example the same in any batch of that size, as
    those of TensorFlow without XLA did on CPUs. `fit(..., cache_frozen=False)` computes them in
    each step.

    Args:
        teacher: `keras.Model` with one output of the student's shape; or a sequence of such, of
            whose probabilities the mean is taken; or their answers themselves, an array with a row
            for each training example in the order of the data, which then are the answers to an
            example however it is augmented.
        share: Float in [0, 1], of what is learnt from the teacher. At 0 the term is off.
        temperature: Float in [0.001, 1000], dimensionless. Higher ones show more of what the
            teacher says of the classes that it does not choose; 2 to 4 are usual.
        from_logits: Boolean, whether both models give logits; probabilities otherwise.
        prepare: Function from a batch of the student's inputs to one of the teacher's, where these
            differ in size or scale, such as `keras.layers.Resizing(96, 96)`; or one for each
            teacher; None for the same.
        kind: What outputs are: `"classes"`, one of the last axis; `"labels"`, any number of it;
            `"numbers"`. None goes by the compiled loss: binary cross-entropy is for labels, the
            squared error and its like for numbers, any other for classes.
        name: String, the name of the metric.

    Raises:
        ValueError: If `share` or `temperature` is out of range; in `fit`, if student, teacher or
            targets have other shapes than these.

    Example:
        >>> inputs = keras.Input((2,))
        >>> teacher = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(inputs))
        >>> model = FineTuner(inputs, keras.layers.Dense(3, activation="softmax")(inputs))
        >>> term = Distill(teacher, share=0.9, temperature=2.0)
        >>> model.compile("sgd", "sparse_categorical_crossentropy", terms=[term])
        >>> history = model.fit(np.ones((4, 2)), np.array([0, 1, 2, 0]), verbose=0).history
        >>> sorted(history)
        ['distill', 'loss']

    References:
        Hinton et al., 2015, section 2, https://arxiv.org/abs/1503.02531
    """

    def __init__(
        self,
        teacher: keras.Model | Sequence[keras.Model] | np.ndarray,
        share: float = 0.5,
        *,
        temperature: float = 1.0,
        from_logits: bool = False,
        prepare: Prepare | Sequence[Prepare] = None,
        kind: Literal["classes", "labels", "numbers"] | None = None,
        name: str = "distill",
    ) -> None:
        checks.in_range(share, 0.0, 1.0, "share")
        checks.in_range(temperature, 1e-3, 1e3, "temperature")
        if kind is not None:
            checks.one_of(kind, KINDS, "kind")
        self._teachers: Any = None
        self.answers = None
        if isinstance(teacher, np.ndarray):
            self.answers = teacher.astype("float32")
        else:
            self._teachers = Teachers(teacher, prepare)
        self.share, self.temperature, self.from_logits = share, temperature, bool(from_logits)
        self.kind = kind
        self.name = name
        self._kind, self._mixes_targets = kind or "classes", False

    @property
    def is_off(self) -> bool:
        return self.share == 0

    @property
    def reads_inputs(self) -> bool:
        """Whether the teacher is given the inputs; answers that are there already need none."""
        return self._teachers is not None

    @property
    def loss_weight(self) -> float:
        """What is left to the compiled loss; mixed targets leave it whole."""
        return 1.0 if self._mixes_targets else 1.0 - self.share

    def prepare(self, model: FineTuner) -> None:
        """Check that the model and its teacher fit, and see what the compiled loss is."""
        shape = getattr(model, "output_shape", None)
        shapes = [(None, *self.answers.shape[1:])] if self.answers is not None else []
        if self._teachers is not None:
            self._teachers.check(model)
            shapes = [getattr(one, "output_shape", None) for one in self._teachers.models]
        for one in shapes:
            if not isinstance(model.output, keras.KerasTensor) or one not in (None, shape):
                raise ValueError(
                    "Teacher and student must give one tensor of the same shape, (batch, classes). "
                    f"Received: a teacher that gives {one} and {model.name!r}, which gives {shape}."
                )
        loss = _loss_of(model)
        self._kind = self.kind or _kind_of(loss)
        self._mixes_targets = self.temperature == 1 and _is_linear(loss)
        if self._kind == "numbers" and self.temperature != 1:
            raise ValueError(
                "A temperature other than 1 is for probabilities. Received: temperature="
                f"{self.temperature} for numbers. Use temperature=1."
            )
        single = self._kind == "classes" and not self._mixes_targets
        if single and shape is not None and shape[-1] == 1:
            raise ValueError(
                "The divergence of classes is for the scores of two at least. Received: "
                f"temperature={self.temperature}, outputs of shape {shape}. Say kind='labels' of a "
                "probability, kind='numbers' of a number."
            )

    def row_values(self, passes: Passes) -> np.ndarray:
        """The teacher's answers to all examples, `(num_examples, classes)`."""
        if self.answers is None:
            answer = tf.function(self._answer, autograph=False)
            return np.concatenate([answer(x).numpy() for x in passes.in_order()])
        if len(self.answers) != passes.num_examples or passes.changes_targets:
            raise ValueError(
                "Answers by row must be those to the training examples, a row each, and these must "
                f"not be mixed with one another. Received: {len(self.answers)} rows for "
                f"{passes.num_examples} examples, mixing: {passes.changes_targets}"
            )
        return self.answers

    def targets(self, step: TermStep) -> tf.Tensor | None:
        """The mixed targets, where mixing them mixes the losses."""
        if not self._mixes_targets:
            return None
        answers, y = self._probabilities(step), step.targets
        if y is None or len(y.shape) != len(answers.shape):
            raise ValueError(
                "At a temperature of 1 answers are mixed into targets of their shape, "
                f"{tuple(answers.shape)}. Received: targets of shape {getattr(y, 'shape', None)}. "
                "Use `keras.utils.to_categorical`, or make_dataset(..., num_classes=...)."
            )
        return self.share * answers + (1 - self.share) * tf.cast(y, answers.dtype)

    def __call__(self, step: TermStep) -> tf.Tensor | None:
        return None if self._mixes_targets else self._value(step)

    def shown(self, step: TermStep, value: tf.Tensor | None) -> tf.Tensor:
        """The value also where it acts through the targets."""
        return self._value(step) if value is None else value

    def identity(self) -> dict[str, Any]:
        """As in `Term`, and a hash of the teachers' weights."""
        own = {} if self._teachers is None else {"teacher": self._teachers.identity()}
        return {**super().identity(), **own}

    def _answer(self, inputs):
        """What the teacher gives, or the mean of what several do, in the same form."""
        told = self._teachers.answers(inputs)
        if len(told) == 1:
            return told[0]
        told = [tf.cast(one, "float32") for one in told]
        if not self.from_logits or self._kind == "numbers":
            return tf.add_n(told) / len(told)
        if self._kind == "labels":
            mean = tf.add_n([tf.sigmoid(one) for one in told]) / len(told)
            return _log(mean) - _log(1 - mean)
        return _log(tf.add_n([tf.nn.softmax(one) for one in told]) / len(told))

    def _answers(self, step):
        if "answers" not in step.once:
            if step.row_values is None and self._teachers is None:
                raise ValueError(
                    "Answers by row need data that are read row by row: arrays, or a dataset of "
                    "`kerastl.data.make_dataset`. Received: other data, of which nobody knows the "
                    "rows. Give the teacher itself instead."
                )
            told = self._answer(step.inputs) if step.row_values is None else step.row_values
            step.once["answers"] = tf.stop_gradient(told)
        return step.once["answers"]

    def _probabilities(self, step):
        answers = self._answers(step)
        if not self.from_logits or self._kind == "numbers":
            return answers
        return tf.sigmoid(answers) if self._kind == "labels" else tf.nn.softmax(answers)

    def _value(self, step):
        """`share * T² * D`, a scalar."""
        p, q = (tf.cast(x, "float32") for x in (self._answers(step), step.outputs))
        each = {"classes": self._of_classes, "labels": self._of_labels, "numbers": _squares}
        apart = each[self._kind](p, q)
        return self.share * self.temperature**2 * weighted_mean(apart, step.sample_weight)

    def _of_classes(self, p, q):
        """`KL(p_T ‖ q_T)`; 0 * log 0 is 0."""
        scores = [x if self.from_logits else _log(x) for x in (p, q)]
        teacher, student = (tf.nn.log_softmax(x / self.temperature) for x in scores)
        return tf.reduce_sum(tf.exp(teacher) * (teacher - student), axis=-1)

    def _of_labels(self, p, q):
        """The mean over labels of the divergence of each and its opposite."""
        scores = [x if self.from_logits else _log(x) - _log(1 - x) for x in (p, q)]
        teacher, student = (x / self.temperature for x in scores)
        each = [
            tf.sigmoid(sign * teacher)
            * (tf.math.log_sigmoid(sign * teacher) - tf.math.log_sigmoid(sign * student))
            for sign in (1.0, -1.0)
        ]
        return tf.reduce_mean(tf.add_n(each), axis=-1)


def _squares(p, q):
    return tf.reduce_mean((p - q) ** 2, axis=-1)


def _log(probabilities):
    return tf.math.log(tf.maximum(probabilities, keras.config.epsilon()))


def _loss_of(model):
    """The compiled loss of the model's one output, as a `keras.losses.Loss` or a function."""
    loss = model.loss
    if isinstance(loss, (list, tuple, dict)):
        (loss,) = loss.values() if isinstance(loss, dict) else loss
    return None if loss is None else keras.losses.get(loss)


def _is_linear(loss):
    return type(loss) in _LINEAR or loss in _LINEAR.values()


def _kind_of(loss):
    """What outputs are of which a loss of Keras's own is computed."""
    name = loss.name if isinstance(loss, keras.losses.Loss) else getattr(loss, "__name__", "")
    name = {"huber_loss": "huber"}.get(name, name)
    return "labels" if name in _OF_LABELS else "numbers" if name in _OF_NUMBERS else "classes"
