"""Learning without forgetting: a model goes on answering new inputs as it did before."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl._base import checks
from kerastl.data.passes import Passes, hash_of_arrays
from kerastl.training import FineTuner, Term, TermStep


class LearningWithoutForgetting(Term):
    """Has a model give, for the inputs of a new task, what it gave before on its old classes.

    No example of an old task is needed: the inputs of the new one are answered by the old model,
    and with `p` its probabilities and `q` those of the model in training, both of the old classes
    alone and to the power of `1 / T`, the loss has a summand

    `strength * T² * KL(p_T ‖ q_T)`

    a mean over the batch, sample weights honoured. Where the old classes are is said by `head`:

    - domain-incremental (the same classes, other inputs): nothing, all outputs are old;
    - class-incremental (a head that has grown): nothing where the old classes come first, else
      their indices. The new ones are masked;
    - task-incremental (a head for each task): the name of the layer that is the old head.

    The old model answers in inference mode and stays as it is. Where frozen layers are computed
    once, so are its answers.

    Args:
        old: `keras.Model` with the inputs of the model to train, and one output (batch, classes),
            two classes at least. It must share no weights with that: load it, or clone it before.
        strength: Float >= 0, lambda of the paper, which takes 1. 0 is off.
        temperature: Float > 0, dimensionless; the paper takes 2.
        head: Name of the layer of the model to train that gives the old classes; or the indices of
            these among its outputs; or None for the first ones.
        from_logits: Boolean, whether both models give logits; probabilities otherwise.
        name: String, the name of the metric.

    Raises:
        ValueError: If `strength` or `temperature` is out of range; in `fit`, if the two models
            share weights, or the old classes are not where `head` says.

    Example:
        >>> inputs = keras.Input((2,))
        >>> old = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(inputs))
        >>> model = FineTuner(inputs, keras.layers.Dense(3, activation="softmax")(inputs))
        >>> term = LearningWithoutForgetting(old)  # keeps classes 0 and 1
        >>> model.compile("sgd", "sparse_categorical_crossentropy", terms=[term])
        >>> sorted(model.fit(np.ones((4, 2)), np.full(4, 2), verbose=0).history)
        ['loss', 'lwf']

    References:
        Li & Hoiem, 2017, equations 2 to 4, https://arxiv.org/abs/1606.09282. There it is the
        cross-entropy without `T²`: the same gradient up to that factor.
    """

    reads_inputs = True

    def __init__(
        self,
        old: keras.Model,
        strength: float = 1.0,
        *,
        temperature: float = 2.0,
        head: str | Sequence[int] | None = None,
        from_logits: bool = False,
        name: str = "lwf",
    ) -> None:
        self.strength = checks.in_range(strength, 0.0, float("inf"), "strength")
        self.temperature = checks.in_range(temperature, 1e-3, 1e3, "temperature")
        self.from_logits, self.name = bool(from_logits), name
        self._old = old
        self.features = (head,) if isinstance(head, str) else ()
        self._classes = None
        if head is not None and not isinstance(head, str):
            self._classes = [checks.whole(int(one), 0, 2**31 - 1, "head") for one in head]

    def prepare(self, model: FineTuner) -> None:
        """Check that the old classes are there, and that the old model will stay as it is."""
        kept = {id(weight) for weight in self._old.weights}
        if shared := [w.path for w in model.weights if id(w) in kept]:
            raise ValueError(
                "The old model must have weights of its own, or it would change with the new one. "
                f"Received: {checks.listed(shared, 3)} in both. Load it from its file, or clone it "
                "before: `old = keras.models.clone_model(model)` and "
                "`old.set_weights(model.get_weights())`."
            )
        old = getattr(self._old, "output_shape", None)
        if not isinstance(old, tuple) or len(old) != 2 or (old[-1] or 0) < 2:
            raise ValueError(
                "The old model must give one tensor (batch, classes) of two classes at least. "
                f"Received: {old}"
            )
        if self.features:
            given = model.get_layer(self.features[0]).output.shape
            where = f"the layer {self.features[0]!r} gives {tuple(given)}"
        else:
            given: Any = getattr(model.output, "shape", ())
            where = f"{model.name!r} gives {tuple(given) or 'several tensors'}"
        classes = list(range(old[-1])) if self._classes is None else self._classes
        width = given[-1] if len(given) == 2 else 0
        fits = len(classes) == old[-1] and max(classes) < width
        if not fits or (self.features and width != old[-1]):
            raise ValueError(
                f"`head` must say where the {old[-1]} old classes are: a layer of as many outputs, "
                f"or {old[-1]} indices of the outputs. Received: head="
                f"{self.features[0] if self.features else self._classes!r}, and {where}."
            )

    def row_values(self, passes: Passes) -> np.ndarray:
        """The old model's answers to all examples, `(num_examples, classes)`."""
        answer = tf.function(self._answer, autograph=False)
        return np.concatenate([answer(x).numpy() for x in passes.in_order()])

    def __call__(self, step: TermStep) -> tf.Tensor:
        told = self._answer(step.inputs) if step.row_values is None else step.row_values
        old = self._softened(tf.stop_gradient(told))
        outputs = step.features[self.features[0]] if self.features else step.outputs
        if not self.features:
            classes = list(range(old.shape[-1])) if self._classes is None else self._classes
            outputs = tf.gather(outputs, classes, axis=1)
        new = self._softened(outputs)
        each = tf.reduce_sum(tf.exp(old) * (old - new), axis=-1)
        if step.sample_weight is not None:
            each *= tf.reshape(tf.cast(step.sample_weight, each.dtype), tf.shape(each))
        return self.strength * self.temperature**2 * tf.reduce_mean(each)

    def identity(self) -> dict[str, Any]:
        """As in `Term`, where the old classes are, and a hash of the old model's weights."""
        weights = [np.atleast_1d(keras.ops.convert_to_numpy(w)) for w in self._old.weights]
        head = list(self.features) or self._classes
        return {**super().identity(), "head": head, "old": hash_of_arrays(weights)}

    def _answer(self, inputs):
        return self._old(inputs, training=False)

    def _softened(self, outputs):
        """Logarithms of the probabilities at the temperature among these classes, in float32."""
        outputs = tf.cast(outputs, "float32")
        if not self.from_logits:
            outputs = tf.math.log(tf.maximum(outputs, keras.config.epsilon()))
        return tf.nn.log_softmax(outputs / self.temperature)
