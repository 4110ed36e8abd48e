"""A model that learns what another one answers."""

import tensorflow as tf

from kerastl.training import FineTuner


class Taught(FineTuner):
    """A `FineTuner` whose targets in training are a teacher's answers, wholly or in part.

    `y' = share * teacher(x) + (1 - share) * y`: for cross-entropy the gradient is that of
    `share * KL(teacher ‖ model) + (1 - share) * CE(y, model)`, at a temperature of 1. Metrics,
    evaluation and validation go by the true labels.

    The teacher answers in inference mode, on the pictures as they were augmented for the pupil, and
    is no part of this model: it is not trained, saved or counted.

    Attributes:
        lessons: Pair of a function from a batch of inputs to the teacher's probabilities, and the
            share in (0, 1]; or None, for a `FineTuner` like any other.

    References:
        Hinton et al., 2015, section 2, https://arxiv.org/abs/1503.02531
    """

    lessons = None

    @classmethod
    def by(cls, teacher, model, share):
        """`model`, its layers and weights shared, that learns from `teacher` in `fit`.

        Args:
            teacher: Keras model with the inputs and outputs of `model`.
            model: Functional Keras model of probabilities.
            share: Float in (0, 1].
        """
        taught = cls.from_model(model)
        # In a function, since Keras makes a model that is an attribute a part of this one.
        taught.lessons = (lambda x: teacher(x, training=False), share)
        return taught

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss, in training that of `y` and the teacher's answers, mixed."""
        if training and self.lessons is not None:
            answer, share = self.lessons
            answers = tf.stop_gradient(answer(x))
            y = share * answers + (1 - share) * tf.cast(y, answers.dtype)
        return super().compute_loss(x, y, y_pred, sample_weight, training=training)
