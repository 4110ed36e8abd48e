"""SamePairs: a term that draws the features of one class together, and those of two apart."""

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from kerastl._base import checks
from kerastl.training.probe.head import name_before_head
from kerastl.training.terms import Term, TermStep

if TYPE_CHECKING:
    from kerastl.training.fine_tuner import FineTuner


class SamePairs(Term):
    """Has features say by their direction which examples are of one class.

    Of all pairs of a batch, with `c` the cosine of the angle between the features of both,

    `strength * (mean of (1 - c)² over pairs of one class + mean of c² over pairs of two) / 2`

    so that both kinds count alike, however many there are of each; a kind that is not there counts
    nothing. That is the loss of SetFit, which draws as many pairs of one kind as of the other; here
    a batch of `n` examples gives all its `n (n - 1) / 2` pairs at the cost of `n`. The compiled
    loss is left out: the head learns nothing by this term and is solved when the training is over
    (`strategies.few_shot`).

    Args:
        strength: Float >= 0, dimensionless. At 0 the term is off.
        name: String, the name of the metric.

    Raises:
        ValueError: If `strength` is out of range; in `compile`, if the model does not end in a
            Dense on one vector an example; in `fit`, if targets are neither class indices nor
            one-hot rows.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from kerastl import FineTuner
        >>> inputs = keras.Input((2,))
        >>> features = keras.layers.Dense(3, name="features")(inputs)
        >>> model = FineTuner(inputs, keras.layers.Dense(2, activation="softmax")(features))
        >>> model.compile("sgd", "categorical_crossentropy", terms=[SamePairs()])
        >>> history = model.fit(np.ones((4, 2)), np.eye(2)[[0, 1, 1, 0]], verbose=0).history
        >>> sorted(history)
        ['loss', 'same_pairs']

    References:
        Tunstall et al., 2022, section 3.1 (SetFit), https://arxiv.org/abs/2209.11055;
        Reimers & Gurevych, 2019, https://arxiv.org/abs/1908.10084
    """

    loss_weight = 0.0

    def __init__(self, strength: float = 1.0, *, name: str = "same_pairs") -> None:
        self.strength = checks.in_range(strength, 0.0, 1e6, "strength")
        self.name = name

    def begin(self, model: "FineTuner") -> None:
        """Find the features: what the head reads, before its dropout."""
        self.features = (name_before_head(model),)

    def __call__(self, step: TermStep) -> tf.Tensor:
        (features,) = step.features.values()
        return self.strength * pair_loss(features, _same(step.targets))


def pair_loss(features: Any, same: Any) -> tf.Tensor:
    """The loss of `SamePairs` at strength 1, a scalar tensor.

    Args:
        features: Float tensor `(batch, width)`.
        same: Boolean tensor `(batch, batch)`, whether two examples are of one class.

    Example:
        >>> float(pair_loss([[1.0, 0.0], [0.0, 1.0]], [[True, True], [True, True]]))
        0.5
    """
    unit = tf.math.l2_normalize(tf.cast(features, "float32"), axis=-1)
    cosines = tf.matmul(unit, unit, transpose_b=True)
    # Each pair once or twice is the same mean; an example beside itself is no pair.
    others = 1.0 - tf.eye(tf.shape(cosines)[0])
    together = tf.cast(same, "float32") * others
    parts = (together, tf.square(1.0 - cosines)), (others - together, tf.square(cosines))
    return 0.5 * tf.add_n([
        tf.math.divide_no_nan(tf.reduce_sum(kind * away), tf.reduce_sum(kind))
        for kind, away in parts
    ])  # fmt: skip


def _same(targets):
    """Whether two examples of a batch are of one class, `(batch, batch)`."""
    targets = tf.convert_to_tensor(targets)
    if targets.shape.rank == 2 and targets.shape[-1] != 1:
        targets = tf.argmax(targets, axis=-1)
    elif targets.shape.rank == 2:
        targets = targets[:, 0]
    if targets.shape.rank != 1:
        raise ValueError(
            "Pairs of one class are told by class indices or one-hot rows. Received: targets of "
            f"shape {tuple(targets.shape)}"
        )
    return targets[:, None] == targets[None, :]
