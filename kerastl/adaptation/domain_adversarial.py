"""DomainAdversarial: a term by which features come to hide which domain they are of."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from kerastl._base import checks
from kerastl.adaptation.reversal import GradientReversal
from kerastl.adaptation.target_term import TargetTerm
from kerastl.training import FineTuner, TermStep

_FASTER = 10.0  # than the model a critic learns


class DomainAdversarial(TargetTerm):
    """Has a model learn features that do not tell a source domain from a target domain: DANN.

    A critic `D` learns to say of features `f` which domain they are of, and through a
    `GradientReversal` the model learns to leave it in the dark. Source is what `fit` is given, with
    labels; the target has none. The term, which `history` shows under its name, is

    `mean over the source of -log(1 - D(f)) + mean over the target of -log D(f)`

    `2 log 2`, 1.386, where the critic knows nothing. The critic learns by its gradient with a rate
    of its own, the model by `-lambda` times it. The critic is in checkpoints of
    `callbacks.Resume`, with its optimizer, and no part of the model.

    With a `condition` it is CDAN: the critic sees the product of each feature with each class
    probability of the model, `f ⊗ g`, and an example counts by `1 + exp(-H(g))`, its entropy being
    `H(g)`, so that what the model is sure of counts more; within a domain these weights are divided
    by their mean. As in the program of its authors neither the weights nor `g` have a gradient.

    What runs on the target and what it leaves alone, batch normalization above all, is told in
    `TargetTerm`. Sample weights are for the compiled loss. There are no labels to choose settings
    by: see `class_ami` and `batch_nuclear_norm`.

    Args:
        target: Unlabelled inputs of the target domain: arrays, a `tf.data.Dataset` of batches, or
            a `TargetStream`.
        strength: Float >= 0, dimensionless, lambda at the end. At 0 the term is off.
        num_steps: Int > 0, steps in which lambda rises from 0 as in `GradientReversal`, usually all
            of the training; None has it be `strength` from the start.
        condition: None, or `"probabilities"` or `"logits"`: what the model gives, for CDAN.
        features: Name of the layer whose features the critic sees, one vector an example. Empty is
            what the last Dense reads, before its dropout.
        critic: Functional or Sequential `keras.Model` from `(batch, width)` to `(batch, 1)`, the
            logit of being of the target; for CDAN its width is that of the features times the
            number of classes. None makes one of two hidden layers of 256 units.
        optimizer: Keras optimizer of the critic, not yet built. None takes one as the model's, at
            ten times the rate that it has when `fit` begins, which suits the small rates of
            fine-tuning; a schedule is not followed. From scratch, where the model learns as fast as
            it can, give one of the model's rate, or the critic does not settle.
        name: String, the name of the metric.

    Raises:
        ValueError: If a setting is out of range or the target empty; in `fit`, if the features are
            no vectors, or the critic does not take them.

    Example:
        >>> import numpy as np
        >>> inputs = keras.Input((2,))
        >>> body = keras.layers.Dense(3, name="body")(inputs)
        >>> model = FineTuner(inputs, keras.layers.Dense(1)(body))
        >>> term = DomainAdversarial(np.ones((5, 2)), num_steps=10, features="body")
        >>> model.compile("sgd", "mse", terms=[term])
        >>> sorted(model.fit(np.ones((4, 2)), np.ones(4), verbose=0).history)
        ['domain_adversarial', 'loss']

    References:
        Ganin et al., 2016, equation 9, https://arxiv.org/abs/1505.07818;
        Long et al., 2018, section 3 (CDAN), https://arxiv.org/abs/1705.10667
    """

    def __init__(
        self,
        target: Any,
        strength: float = 1.0,
        *,
        num_steps: int | None = None,
        condition: str | None = None,
        features: str | Sequence[str] = (),
        critic: keras.Model | None = None,
        optimizer: keras.optimizers.Optimizer | None = None,
        name: str = "domain_adversarial",
    ) -> None:
        self.reversal = GradientReversal(strength, num_steps, dtype="float32")
        if condition is not None:
            checks.one_of(condition, ("probabilities", "logits"), "condition")
        self.num_steps, self.condition = num_steps, condition
        super().__init__(target, strength, features, name)
        if len(self.features) > 1:
            raise ValueError(
                "`features` of a DomainAdversarial must be one layer. "
                f"Received: {checks.listed(self.features)}. Give each a term of its own."
            )
        self.critic: Any = critic
        self.optimizer = optimizer
        self._copies_optimizer = optimizer is None

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """Those of the critic."""
        return [] if self.critic is None else self.critic.trainable_variables

    @property
    def state_variables(self) -> list[Any]:
        """The position in the target's data, how far lambda has come, and the critic's state."""
        train = {id(variable) for variable in self.trainable_variables}
        known = [] if self.critic is None else self.critic.variables
        rest = [variable for variable in known if id(variable) not in train]
        return [*super().state_variables, *self.reversal.variables, *rest]

    def begin(self, model: FineTuner) -> None:
        """As in `TargetTerm`; lambda begins anew, the critic stays as it is."""
        super().begin(model)
        for variable in self.reversal.variables:
            variable.assign(0)

    def identity(self) -> dict[str, Any]:
        """As in `TargetTerm`, the critic's shapes and the settings of its optimizer."""
        optimizer: Any = keras.optimizers.get(self.optimizer)
        settings = {k: v for k, v in optimizer.get_config().items() if k != "name"}
        said = {
            "critic": [list(variable.shape) for variable in self.trainable_variables],
            "optimizer": {"class": type(optimizer).__name__, **settings},
        }
        return {**super().identity(), **said}

    def prepare(self, model: FineTuner) -> None:
        """As in `TargetTerm`; make the critic and its optimizer."""
        super().prepare(model)
        (width,) = self.widths
        if self.condition is not None:
            width *= self._num_classes(model)
        if self.critic is None:
            self.critic = _critic(width)
        if not self.critic.built:
            self.critic.build((None, width))
        if not self.reversal.built:
            self.reversal.build((None, width))
        shapes = self.critic.input_shape, self.critic.output_shape
        if shapes != ((None, width), (None, 1)):
            raise ValueError(
                f"`critic` must be a model from (batch, {width}), what it sees of "
                f"{self.features[0]!r}, to (batch, 1), a logit. Received: one from {shapes[0]} to "
                f"{shapes[1]}"
            )
        if self._copies_optimizer and self.optimizer is None:
            self.optimizer = _faster(model.lr_multiplier.inner_optimizer)

    def __call__(self, step: TermStep) -> tf.Tensor:
        (source,) = step.features.values()
        target, *answers = self.run_target(step)
        num = tf.shape(source)[0]
        features = tf.cast(tf.concat([source, target], axis=0), "float32")
        seen, weights = self.reversal(features, training=True), None
        if self.condition is not None:
            given = tf.concat([step.outputs, *answers], axis=0)
            classes = tf.stop_gradient(self._probabilities(given))
            products = seen[:, :, None] * classes[:, None, :]
            seen = tf.reshape(products, [-1, seen.shape[1] * classes.shape[1]])
            weights = _certainty(classes)
        logits = tf.cast(self.critic(seen, training=True)[:, 0], "float32")
        sides = tf.nn.softplus(logits[:num]), tf.nn.softplus(-logits[num:])
        if weights is None:
            means = [tf.reduce_mean(side) for side in sides]
        else:
            parts = weights[:num], weights[num:]
            means = [
                tf.reduce_sum(part * side) / tf.reduce_sum(part)
                for part, side in zip(parts, sides, strict=True)
            ]
        return means[0] + means[1]

    def _more_outputs(self, model):
        return [] if self.condition is None else model.outputs

    def _num_classes(self, model):
        shape = model.outputs[0].shape
        if len(model.outputs) != 1 or len(shape) != 2 or shape[1] < 2:
            raise ValueError(
                "A `condition` is for a model with one output of at least two classes, (batch, "
                f"classes). Received: condition={self.condition!r}, outputs of shapes "
                f"{checks.listed([tensor.shape for tensor in model.outputs])}"
            )
        return shape[1]

    def _probabilities(self, outputs):
        outputs = tf.cast(outputs, "float32")
        return tf.nn.softmax(outputs) if self.condition == "logits" else outputs


def _certainty(probabilities):
    """`1 + exp(-entropy)` of each row; 0 * log 0 is 0."""
    entropy = -tf.reduce_sum(tf.math.xlogy(probabilities, probabilities), axis=1)
    return 1.0 + tf.exp(-entropy)


def _critic(width):
    hidden = [keras.layers.Dense(256, activation="relu", dtype="float32") for _ in range(2)]
    logit = keras.layers.Dense(1, dtype="float32")
    return keras.Sequential([keras.Input((width,), dtype="float32"), *hidden, logit], name="critic")


def _faster(of_model):
    """An optimizer as the model's, not built, at ten times its rate.

    It takes a step with each batch, and averages of its weights would be for nothing.
    """
    config = of_model.get_config()
    rate = _FASTER * float(keras.ops.convert_to_numpy(of_model.learning_rate))
    plain = {"use_ema": False, "gradient_accumulation_steps": None, "loss_scale_factor": None}
    own = {key: value for key, value in plain.items() if key in config}
    return type(of_model).from_config({**config, "learning_rate": rate, **own})
