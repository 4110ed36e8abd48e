"""One quadratic penalty that holds weights near anchors, whatever their importances come from."""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kerastl import _keras
from kerastl.training import FineTuner, Term, TermStep
from kerastl.training.step_rates import multipliers_of


class Pull(NamedTuple):
    """What draws one weight: `strength * importance / 2 * (weight - anchor)²`, summed.

    Attributes:
        weight: `keras.Variable` of the model.
        strength: Float >= 0.
        anchor: `keras.Variable` of its shape, or None for zero.
        importance: `keras.Variable` of its shape, values >= 0, or None for one.
    """

    weight: keras.Variable
    strength: float
    anchor: keras.Variable | None = None
    importance: keras.Variable | None = None

    @property
    def distance(self) -> Any:
        """`anchor - weight`, a tensor of its shape."""
        value = self.weight.value
        return -value if self.anchor is None else self.anchor.value - value

    @property
    def factor(self) -> Any:
        """`strength * importance`, of the shape of the weight or a scalar."""
        if self.importance is None:
            return tf.constant(self.strength, self.weight.dtype)
        return self.importance.value * self.strength

    @property
    def value(self) -> Any:
        """The penalty, a scalar."""
        if self.importance is None:
            return self.strength * tf.nn.l2_loss(self.distance)
        squares = self.importance.value * self.distance**2
        return self.strength / 2 * tf.reduce_sum(squares)


class QuadraticPenalty(Term):
    """`sum_i strength * F_i / 2 * (w_i - anchor_i)²`, by a proximal step or by its gradient.

    Abstract: a child gives `_pulls`, in the order of the optimizer's slots. After a step of the
    optimizer to `w'`, at the rate `lr * m` of the layer, the proximal step is

    `w = (w' + lr * m * strength * F * anchor) / (1 + lr * m * strength * F)`

    To first order in the rate it is the step along the gradient of the penalty, and it is stable
    for any strength (an implicit step: Parikh & Boyd, 2014, section 1.1). Several penalties of one
    model take one such step together, that of their sum.
    """

    proximal: bool = True
    _pulls: list[Pull]

    def __call__(self, step: TermStep) -> Any:
        return None if self.proximal else self.penalty(step.model)

    def shown(self, step: TermStep, value: Any) -> Any:
        """The penalty at the weights that the step began with, in both forms."""
        return self.penalty(step.model) if value is None else value

    def penalty(self, model: FineTuner) -> Any:
        """The value for the weights that train at the moment, a scalar float32 tensor.

        Args:
            model: `FineTuner` whose training has begun.
        """
        training = {id(variable) for variable in model.trainable_variables}
        values = [
            pull.value for pull in self._pulls if pull.strength and id(pull.weight) in training
        ]
        # In one sum: its order is kept by each trace, unlike that of a row of additions.
        return tf.reduce_sum(tf.stack([tf.cast(v, "float32") for v in values])) if values else 0.0

    def after_step(self, step: TermStep) -> None:
        """The proximal step of all penalties of the model, taken by the first of them."""
        penalties = [term for term in step.model.terms if isinstance(term, QuadraticPenalty)]
        if penalties[0] is self:
            _draw(step, [pull for term in penalties if term.proximal for pull in term._pulls])

    def _check_form(self, model):
        """Refuse what neither form can do, as soon as `_pulls` are known."""
        if self.proximal:
            if model.lr_multiplier.ema_overwrite_frequency:
                raise ValueError(
                    "A proximal penalty acts on the weights of the step, which "
                    "`ema_overwrite_frequency` replaces before. Received: "
                    f"ema_overwrite_frequency={model.lr_multiplier.ema_overwrite_frequency}. Leave "
                    f"it out, or give {self.name!r} `proximal=False`."
                )
            return
        _check_stable(self.name, model.lr_multiplier, self._pulls)


def variable_like(weight: keras.Variable, value: Any, name: str) -> keras.Variable:
    """A variable for one number per entry of `weight`, which does not train.

    Args:
        weight: `keras.Variable` of the model.
        value: Array of its shape.
        name: String.
    """
    return keras.Variable(
        value, trainable=False, dtype=weight.dtype, aggregation="only_first_replica", name=name
    )


def _check_stable(name, optimizer, pulls):
    """Refuse the gradient form where it diverges; only SGD steps by the size of a gradient."""
    if not isinstance(optimizer.inner_optimizer, keras.optimizers.SGD):
        return
    multipliers = multipliers_of(optimizer)
    for pull in pulls:
        largest = 1.0 if pull.importance is None else float(np.max(pull.importance.numpy()))
        shared = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
        product = shared * multipliers[id(pull.weight)] * pull.strength * largest
        if product > 2:
            raise ValueError(
                "A step along the gradient of a quadratic penalty diverges unless learning_rate * "
                f"multiplier * strength * importance is at most 2. Received: {product:.4g} for "
                f"{pull.weight.path!r} in {name!r}. Use `proximal=True`, which is stable for any "
                "strength, or less of one of these."
            )


def _draw(step, pulls):
    pairs = zip(step.gradients, step.rates, strict=True)
    rates = {id(variable): rate for (variable, _), rate in pairs}
    by_weight = {}
    for pull in pulls:
        if pull.strength and id(pull.weight) in rates:
            by_weight.setdefault(id(pull.weight), []).append(pull)
    averages = _keras.moving_averages(step.model.lr_multiplier)
    variables, values = [], []
    for key, of_weight in by_weight.items():
        weight = of_weight[0].weight
        _check_free(weight)
        moved = _towards_anchors(of_weight, tf.cast(rates[key], weight.dtype))
        if (average := averages.get(key)) is not None:
            variables.append(average.value)
            values.append(_averaged(step.model, average, weight, moved))
        variables.append(weight.value)
        values.append(weight.value + moved)
    if variables:
        _assign(variables, values)


def _towards_anchors(pulls, rate):
    """The proximal step less the weight: exactly 0 at the anchor, and at a rate of 0."""
    factors = [rate * pull.factor for pull in pulls]
    drawn = [factor * pull.distance for factor, pull in zip(factors, pulls, strict=True)]
    if len(pulls) == 1:
        return drawn[0] / (1 + factors[0])
    # Of factors that may be scalars; in one sum, as in `penalty`.
    whole = [tf.broadcast_to(factor, pulls[0].weight.shape) for factor in factors]
    return tf.reduce_sum(tf.stack(drawn), axis=0) / (1 + tf.reduce_sum(tf.stack(whole), axis=0))


def _averaged(model, average, weight, moved):
    """The moving average as if the optimizer's step had ended where the proximal step does.

    Keras has averaged what came before the latter: `average = momentum * average + (1 - momentum)
    * w'`. At the first step of a weight, its momentum is 0 and the two are equal.
    """
    is_first = tf.reduce_all(average.value == weight.value)
    momentum = tf.cast(model.lr_multiplier.ema_momentum, weight.dtype)
    return average.value + tf.where(is_first, tf.ones_like(momentum), 1 - momentum) * moved


def _check_free(weight):
    if weight.constraint is not None:
        raise ValueError(
            f"The constraint of {weight.path!r} is applied with the optimizer's step, and a "
            "proximal penalty would move the weight afterwards. Received: "
            f"{type(weight.constraint).__name__}. Give the penalty `proximal=False`."
        )


def _assign(variables, values):
    """Assign on each device that holds a copy; replicas have computed the same."""

    def merged(distribution, variables, values):
        for variable, value in zip(variables, values, strict=True):
            distribution.extended.update(
                variable, lambda copy, new: copy.assign(new), args=(value,), group=False
            )

    # Public `merge_call` is refused by strategies whose replicas need not meet.
    tf.__internal__.distribute.interim.maybe_merge_call(
        merged, tf.distribute.get_strategy(), variables, values
    )
