"""A layer that turns gradients around, by a strength that grows with training."""

from typing import Any

import keras
import tensorflow as tf

from kerastl._base import checks


@keras.saving.register_keras_serializable(package="kerastl")
class GradientReversal(keras.layers.Layer):
    """The identity whose gradient is multiplied by `-lambda`.

    What learns behind it, such as a critic that tells two domains apart, learns as it would without
    it; what learns before it learns to make that hard. With `p` the share of `num_steps` that is
    done, from 0 to 1,

    `lambda(p) = strength * (2 / (1 + exp(-gamma * p)) - 1)`

    so that a critic which knows nothing yet is not listened to. A step is a call in training. Their
    number is a weight of the layer, which does not train: it is saved with the model and in
    checkpoints, and stands still in evaluation.

    Args:
        strength: Float >= 0, dimensionless, lambda at the end.
        num_steps: Int > 0, steps from `p` = 0 to 1; lambda stays at its end after them. None has
            lambda be `strength` from the start.
        gamma: Float > 0, dimensionless, how fast lambda rises.

    Raises:
        ValueError: If one of these is out of range.

    Input shape:
        Any.

    Output shape:
        That of the input.

    Example:
        >>> reversal, x = GradientReversal(0.5), tf.constant([1.0, 2.0])
        >>> with tf.GradientTape() as tape:
        ...     tape.watch(x)
        ...     y = tf.reduce_sum(reversal(x, training=True))
        >>> float(y), tape.gradient(y, x).numpy().tolist()
        (3.0, [-0.5, -0.5])

    References:
        Ganin et al., 2016, sections 4 and 5.2.2, https://arxiv.org/abs/1505.07818
    """

    def __init__(
        self,
        strength: float = 1.0,
        num_steps: int | None = None,
        *,
        gamma: float = 10.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.strength = checks.in_range(strength, 0.0, 1e6, "strength")
        self.num_steps = num_steps
        if num_steps is not None:
            checks.whole(num_steps, 1, 2**53, "num_steps")
        self.gamma = checks.in_range(gamma, 1e-6, 1e6, "gamma")
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        self.steps_done: Any = self.add_weight(
            shape=(),
            dtype="int64",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
            name="steps_done",
        )
        super().build(input_shape)

    @property
    def current_strength(self) -> tf.Tensor:
        """Lambda of the next step, a float32 scalar tensor; the layer is built."""
        if self.num_steps is None:
            return tf.constant(self.strength, "float32")
        done = tf.cast(tf.convert_to_tensor(self.steps_done), "float32")
        progress = tf.minimum(done / self.num_steps, 1.0)
        # tanh(x / 2) is 2 / (1 + exp(-x)) - 1, and loses no digits near 0.
        return self.strength * tf.tanh(0.5 * self.gamma * progress)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if not training:
            return inputs
        outputs = _reversed(tf.convert_to_tensor(inputs), self.current_strength)
        self.steps_done.assign_add(1)
        return outputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        own = {"strength": self.strength, "num_steps": self.num_steps, "gamma": self.gamma}
        return {**super().get_config(), **own}


@tf.custom_gradient
def _reversed(inputs, strength):
    def gradient(upstream):
        return -tf.cast(strength, upstream.dtype) * upstream, None

    return tf.identity(inputs), gradient
