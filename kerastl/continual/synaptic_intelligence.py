"""Synaptic intelligence: weights are held as their way in training lowered the loss."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl._base import checks
from kerastl.continual.consolidated import ConsolidatedPenalty
from kerastl.continual.quadratic import Pull, variable_like
from kerastl.training import FineTuner, TermStep


class SynapticIntelligence(ConsolidatedPenalty):
    """Holds weights near what they were, the more the more their way there lowered the loss.

    `strength / 2 * sum_i F_i / mean(F) * (w_i - anchor_i)²`, with `F` summed over earlier tasks of
    `max(0, path) / (moved² + xi)`, where `path` is the sum over steps of `-gradient * step`, and
    `moved` how far the weight came in the whole task. No pass over the data is needed, but the
    term must be there from the first task on: it measures while it trains, and pulls only after
    the first `consolidate`. It keeps three numbers a weight.

    The gradient is that of the loss before clipping, the step what optimizer and penalty made of
    it.

    Args:
        strength: Float >= 0, c of the paper in units of twice the mean of `F` (it has no 1/2). 0 is
            off, and measures nothing.
        xi: Float > 0, in squared units of the weights, that bounds what hardly moved. The paper
            takes 0.1 and 0.001.
        proximal: Boolean, as in `L2SP`: the penalty acts by a step after that of the optimizer,
            stable for any strength, or by its gradient, which is then a part of `path`.
        name: String, the name of the metric, which shows the penalty.

    Raises:
        ValueError: If an argument is out of range; in `fit`, if the optimizer accumulates
            gradients, so that a step belongs to more batches than one.

    Example:
        >>> from kerastl import FineTuner
        >>> inputs = keras.Input((2,))
        >>> model = FineTuner(inputs, keras.layers.Dense(1, name="dense")(inputs))
        >>> si = SynapticIntelligence(strength=10.0)
        >>> model.compile("sgd", "mse", terms=[si])
        >>> history = model.fit(np.ones((3, 2)), np.ones(3), epochs=2, verbose=0)
        >>> si.consolidate(model)
        >>> model.compile("sgd", "mse", terms=[si])
        >>> sorted(model.fit(-np.ones((3, 2)), np.ones(3), verbose=0).history)
        ['loss', 'si']

    References:
        Zenke et al., 2017, equations 3 to 5, https://arxiv.org/abs/1703.04200. Negative parts of
        `path`, of weights whose way raised the loss, count as 0.
    """

    def __init__(
        self, strength: float = 1.0, *, xi: float = 0.1, proximal: bool = True, name: str = "si"
    ) -> None:
        super().__init__(strength, proximal, name)
        self.xi = checks.in_range(xi, 1e-12, float("inf"), "xi")
        self._paths = []

    @property
    def state_variables(self) -> list[Any]:
        """Anchor, importance and path of each weight, in the order of the slots."""
        triples = zip(self._pulls, self._paths, strict=True)
        return [v for pull, path in triples for v in (pull.anchor, pull.importance, path)]

    def begin(self, model: FineTuner) -> None:
        """Forget the path of a training before this `compile`, not what was consolidated."""
        super().begin(model)
        self._paths = []

    def prepare(self, model: FineTuner) -> None:
        """Begin the path of each weight that has come to have a slot."""
        if model.lr_multiplier.gradient_accumulation_steps:
            raise ValueError(
                "SynapticIntelligence multiplies the gradient of a batch with the step that it "
                "led to. Received: an optimizer with gradient_accumulation_steps="
                f"{model.lr_multiplier.gradient_accumulation_steps}. Use larger batches, or "
                "`ElasticWeightConsolidation`."
            )
        known = {id(pull.weight) for pull in self._pulls}
        for weight in model.lr_multiplier.slot_variables:
            if id(weight) in known:
                continue
            self._pulls.append(self._pull(weight))
            self._paths.append(variable_like(weight, np.zeros(weight.shape), "path"))
        self._check_form(model)

    def __call__(self, step: TermStep) -> Any:
        training = {id(variable) for variable in step.model.trainable_variables}
        step.once["before"] = {
            id(pull.weight): tf.identity(pull.weight.value)
            for pull in self._pulls
            if id(pull.weight) in training
        }
        return super().__call__(step)

    def after_step(self, step: TermStep) -> None:
        """The step of the penalties, and then the path of the batch."""
        super().after_step(step)
        told = zip(step.gradients, step.rates, strict=True)
        told = {id(variable): (gradient, rate) for (variable, gradient), rate in told}
        before = step.once["before"]
        for pull, path in zip(self._pulls, self._paths, strict=True):
            gradient, rate = told.get(id(pull.weight), (None, None))
            if gradient is None:
                continue
            gradient = _of_all_replicas(tf.cast(gradient, pull.weight.dtype))
            way = -gradient * (pull.weight.value - before[id(pull.weight)])
            # A step that was skipped for overflow has a gradient that is not finite.
            path.assign_add(tf.where(rate > 0, way, tf.zeros_like(way)))

    def consolidate(self, model: FineTuner) -> None:
        """Take up the importances of the task just learnt, and anchor the weights.

        Args:
            model: `FineTuner` that was trained with this term.

        Raises:
            RuntimeError: If it was not, since it was compiled.
            ValueError: If nothing moved.
        """
        trained = {id(weight) for weight in model.weights}
        if not self._pulls or not any(id(pull.weight) in trained for pull in self._pulls):
            raise RuntimeError(
                "SynapticIntelligence measures while a model trains. Received: "
                f"{model.name!r}, which was not trained with it since it was compiled. Give the "
                "term to `compile` for the first task too, and consolidate before the next "
                "`compile`."
            )
        measured = []
        for pull, path in zip(self._pulls, self._paths, strict=True):
            moved = keras.ops.convert_to_numpy(pull.distance).astype("float64")
            way = keras.ops.convert_to_numpy(path).astype("float64")
            measured.append(np.maximum(way, 0) / (moved**2 + self.xi))
            path.assign(np.zeros(path.shape))
        self._keep(model, [pull.weight for pull in self._pulls], measured, 1.0)

    def _pull(self, weight):
        if id(weight) in self._kept:
            return super()._pull(weight)
        anchor = variable_like(weight, keras.ops.convert_to_numpy(weight), "anchor")
        importance = variable_like(weight, np.zeros(weight.shape), "importance")
        return Pull(weight, self.strength, anchor, importance)


def _of_all_replicas(gradient):
    """The sum: the loss of each replica is its share."""
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return gradient
    context: Any = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, gradient)
