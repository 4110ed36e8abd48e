"""Terms: summands of the training loss beside the compiled one, each with a metric of its own.

It is one file of over 400 lines because what a term may say, most of it docstrings, and how the
terms of a model are run are read together.
"""

import collections
import dataclasses
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from kerastl import _keras
from kerastl._base import checks
from kerastl.data.passes import Passes, hash_of_arrays
from kerastl.graph.index import GraphIndex
from kerastl.graph.run import folded_pairs

if TYPE_CHECKING:
    from kerastl.training.fine_tuner import FineTuner


@dataclasses.dataclass(frozen=True)
class TermStep:
    """What a term is given of one training step, inside the traced step.

    Attributes:
        model: The `FineTuner`.
        inputs: The batch of inputs, or None where cached features take their place.
        targets: The batch of targets, as `fit` was given them.
        outputs: What the model gives in training, `(batch, ...)`.
        sample_weight: Weights of the examples, or None.
        row_values: What the term's own `row_values` said of the examples of this batch, or None
            where inputs are there.
        features: Dict from each name in the term's `features` to what that layer gives in training.
        gradients: For `after_step`: a list of `(variable, gradient)` of the whole loss of this
            replica, without loss scale, before clipping. None before.
        rates: For `after_step`: list of scalar tensors, for each of `gradients` the rate of the
            step that its variable took, schedule and multiplier included; 0 where it took none,
            as within a cycle of accumulation or after an overflow.
        once: Dict for what the term computes in one method and needs again in another.
    """

    model: Any
    inputs: Any
    targets: Any
    outputs: Any
    sample_weight: Any = None
    row_values: Any = None
    features: dict[str, Any] = dataclasses.field(default_factory=dict)
    gradients: Any = None
    rates: Any = None
    once: dict[str, Any] = dataclasses.field(default_factory=dict)


class Term:
    """One summand of the training loss of a `FineTuner`: `compile(..., terms=[...])`.

    The loss of a step is the compiled loss, regularization included, plus the value of each term.
    A term takes part in training alone: `evaluate`, `val_loss` and `predict` know nothing of it.
    `history` shows its mean over an epoch under its name. Several terms add up. One whose strength
    is 0 is not run at all, so the training is bit for bit the one without it.

    Override `__call__`, and what else is needed; the defaults do nothing. A term belongs to one
    model. Checkpoints of `callbacks.Resume` keep its state; a `.keras` file does not hold terms:
    give them to `compile` again after loading.

    Attributes:
        name: String, of the metric.
        strength: Float >= 0 that multiplies the value, where there is one.
        reads_inputs: Boolean, whether it reads the inputs of a batch. Then frozen layers are not
            computed once, unless it also overrides `row_values` and the inputs are the same in
            each epoch.
        features: Tuple of names of layers or operations of the flat model whose outputs come as
            `step.features`. Where one of them is frozen, and nothing below it trains, frozen
            layers are not computed once.
        loss_weight: Float, factor of the compiled loss without its regularization, for a term that
            takes a share of the loss to itself.
        optimizer: Keras optimizer, not yet built, of the term's own `trainable_variables`, or None.

    Example:
        >>> class Confidence(Term):
        ...     name = "confidence"
        ...     def __call__(self, step):
        ...         return self.strength * tf.reduce_mean(step.outputs**2)
        >>> from kerastl import FineTuner
        >>> inputs = keras.Input((2,))
        >>> model = FineTuner(inputs, keras.layers.Dense(1)(inputs))
        >>> model.compile("sgd", "mse", terms=[Confidence()])
        >>> data = np.ones((4, 2)), np.zeros((4, 1))
        >>> sorted(model.fit(*data, verbose=0).history)
        ['confidence', 'loss']
    """

    name = "term"
    strength = 1.0
    reads_inputs = False
    features: tuple[str, ...] = ()
    loss_weight = 1.0
    optimizer = None

    @property
    def is_off(self) -> bool:
        """Whether the training is the same without the term."""
        return self.strength == 0

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """List of `keras.Variable`s of its own that train in the same step, by `optimizer`."""
        return []

    @property
    def state_variables(self) -> list[Any]:
        """List of its other variables, which checkpoints keep."""
        return []

    def begin(self, model: "FineTuner") -> None:
        """Called by each `compile` of `model` that is given the term, before anything else."""

    def prepare(self, model: "FineTuner") -> None:
        """Make variables; called within the strategy's scope before a step is traced.

        It is called again whenever something else trains, and may make variables for weights that
        now have slots (`model.lr_multiplier.slot_variables`), but no others, and in that order.

        Args:
            model: `FineTuner`, compiled.
        """

    def before_steps(self, num_steps: int) -> None:
        """Called outside the traced step, in the strategy's scope, before steps are run.

        Args:
            num_steps: Int, how many at most: `steps_per_execution`.
        """

    def row_values(self, passes: Passes) -> Any:
        """Structure of arrays with the examples of `passes` along their first axis.

        Override it in a term that reads inputs to have the cache of frozen features kept: the rows
        of each batch then come as `step.row_values`, and `step.inputs` is None. Where nothing is
        frozen they ride with the inputs, if these are the same in each epoch and there are several.
        Those of a term that reads no inputs always come, unless Keras reads the data by itself.

        Args:
            passes: `Passes` over the training data, whose inputs are not random if the term reads
                them.
        """

    def targets(self, step: TermStep) -> Any:
        """Targets of the compiled loss in the place of the given ones, or None to leave these.

        For a loss that is linear in its targets, such as cross-entropy. Metrics go by the targets
        that were given.
        """

    def __call__(self, step: TermStep) -> Any:
        """The value: a scalar tensor, the mean over this replica's batch; or None for nothing.

        Args:
            step: `TermStep`.
        """

    def shown(self, step: TermStep, value: Any) -> Any:
        """What the metric shows, where that is not the `value` of the term."""
        return value

    def after_step(self, step: TermStep) -> None:
        """Called in the traced step after weights were updated, with its gradients and rates."""

    def identity(self) -> dict[str, Any]:
        """What a run that goes on must have in common with the one before, as JSON-able values."""
        plain = {k: v for k, v in vars(self).items() if not k.startswith("_") and _is_plain(v)}
        arrays = {k: hash_of_arrays([v]) for k, v in vars(self).items() if _is_array(v)}
        own = {name: getattr(self, name) for name in ("name", "strength", "loss_weight")}
        return {"class": type(self).__name__, **own, **plain, **arrays}


class Terms:
    """The terms of a compiled model that are not off.

    Args:
        terms: Sequence of `Term`.

    Raises:
        TypeError: If one is no term.
        ValueError: If two have one name, or one that Keras gives to another metric.
    """

    def __init__(self, terms: Term | Sequence[Term] = ()) -> None:
        one = isinstance(terms, (Term, str))
        given: list[Any] = [terms] if one else list(terms or ())
        for term in given:
            if not isinstance(term, Term):
                raise TypeError(
                    "`terms` must be a list of kerastl's terms, such as "
                    f"[kerastl.continual.L2SP()]. Received: {term!r} in terms={terms!r}"
                )
        names = [term.name for term in given]
        taken = sorted({name for name in names if names.count(name) > 1 or name == "loss"})
        if taken:
            raise ValueError(
                "Each term must have a name of its own, that of its metric. "
                f"Received: {checks.listed(names)}. Pass another `name=...` to one of them."
            )
        self._terms: tuple[Term, ...] = tuple(term for term in given if not term.is_off)
        self._means, self._optimizers = {}, {}

    def __iter__(self) -> Iterator[Term]:
        return iter(self._terms)

    def __bool__(self) -> bool:
        return bool(self._terms)

    @property
    def metrics(self) -> list[keras.Metric]:
        """The Keras metrics, one a term, that were made so far."""
        return list(self._means.values())

    @property
    def variables(self) -> list[Any]:
        """All that training changes in the terms."""
        own = [v for t in self._terms for v in (*t.state_variables, *t.trainable_variables)]
        return own + [v for o in self._optimizers.values() for v in o.variables]

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        return [variable for term in self._terms for variable in term.trainable_variables]

    def prepare(self, model: "FineTuner") -> None:
        """Make metrics and variables: neither can be made while a step is traced."""
        _check_features(model, self.features)
        for term in self._terms:
            if term.name not in self._means:
                self._means[term.name] = keras.metrics.Mean(name=term.name)
            term.prepare(model)
            if term.trainable_variables and term.name not in self._optimizers:
                self._optimizers[term.name] = _own_optimizer(term, model.optimizer)

    def before_steps(self, num_steps: int) -> None:
        for term in self._terms:
            term.before_steps(num_steps)

    @property
    def features(self) -> list[str]:
        """Names of all layers whose outputs the terms want, each once."""
        return list(dict.fromkeys(name for term in self._terms for name in term.features))

    def refuse_names(self, *metrics: Any) -> None:
        """Raise ValueError if a term has the name of one of the compiled `metrics`."""
        told = [getattr(one, "name", one) for one in keras.tree.flatten(list(metrics))]
        for term in self._terms:
            if term.name in told:
                raise ValueError(
                    "A term must not have the name of a compiled metric, whose place its own would "
                    f"take. Received: {term.name!r}. Pass another `name=...` to the term."
                )

    def why_not_cached(self, passes: Passes, below: Collection[str] = ()) -> str | None:
        """Which term needs the inputs of each batch of `passes`, in words, or None.

        Args:
            passes: `Passes`.
            below: Names of the layers that would be computed once.
        """
        for term in self._terms:
            for name in term.features:
                if name in below:
                    return f"the term {term.name!r} reads what the frozen layer {name!r} gives"
            if not term.reads_inputs:
                continue
            if not _gives_row_values(term):
                return f"the term {term.name!r} reads the inputs"
            if passes.random:
                return f"the term {term.name!r} reads the inputs, and {passes.random} is random"
        return None

    def riding(self, passes: Passes | None, *, keeps: bool) -> list[Term]:
        """The terms whose values by row ride with the inputs, where these are not cached features.

        Args:
            passes: `Passes`, or None for any.
            keeps: Boolean, whether what terms that read inputs say of them is computed once.
        """
        keeps = keeps and not (passes is not None and passes.random)
        return [t for t in self._terms if _gives_row_values(t) and (keeps or not t.reads_inputs)]

    def row_values(self, passes: Passes, only: Sequence[Term] | None = None) -> Any:
        """Dict from the name of each term that has values by row to them, or () for none.

        `only` are the terms that are asked; None asks all.
        """
        asked = self._terms if only is None else only
        told = {t.name: t.row_values(passes) for t in asked if _gives_row_values(t)}
        told = keras.tree.lists_to_tuples(told)  # tf.data would make one tensor of a list
        return {name: tf.nest.map_structure(np.asarray, rows) for name, rows in told.items()} or ()

    def steps(self, step: TermStep, row_values: Any) -> list[tuple[Term, TermStep]]:
        """List of `(term, TermStep)`, one a term, of `step` and the `row_values` of its batch."""
        own = dict(row_values or {})
        return [
            (
                term,
                dataclasses.replace(
                    step,
                    row_values=own.get(term.name),
                    features={name: step.features[name] for name in term.features},
                    once={},
                ),
            )
            for term in self._terms
        ]

    def after_step(
        self, steps: Sequence[tuple[Term, TermStep]], gradients: Any, rates: Any
    ) -> None:
        for term, step in steps:
            term.after_step(dataclasses.replace(step, gradients=gradients, rates=rates))

    def apply(self, gradients: Sequence[Any], scale: Any) -> None:
        """Train the terms' own variables.

        Args:
            gradients: One for each of `trainable_variables`, of the loss times `scale`.
            scale: Scalar tensor, the loss scale of the model's optimizer.
        """
        coming = iter(gradients)
        for term in self._terms:
            variables = term.trainable_variables
            if not variables:
                continue
            optimizer = self._optimizers[term.name]
            # Where the model skips a step for overflow, so does this.
            factor = optimizer.scale_loss(tf.ones(())) / scale
            own = [next(coming) for _ in variables]
            scaled = [None if g is None else g * tf.cast(factor, g.dtype) for g in own]
            optimizer.apply_gradients(zip(scaled, variables, strict=True))

    def track(self, steps: Sequence[tuple[Term, TermStep]], values: Any, rows: Any) -> None:
        """Update the metrics with the `values` of a batch of `rows` examples."""
        for (term, step), value in zip(steps, values, strict=True):
            shown = term.shown(step, value)
            if shown is not None:
                self._means[term.name].update_state(shown, sample_weight=rows)

    def identity(self) -> list[dict[str, Any]]:
        return [term.identity() for term in self._terms]

    def capture(self) -> list[dict[str, Any]]:
        """What checkpoints keep of each term, as `encode` takes it."""
        return [
            {"name": term.name, "variables": [_value(v) for v in self._variables_of(term)]}
            for term in self._terms
        ]

    def restore(self, state: Any) -> None:
        """Take over what `capture` gave; `prepare` has made the variables."""
        for term, said in zip(self._terms, state, strict=True):
            for variable, value in zip(self._variables_of(term), said["variables"], strict=True):
                variable.assign(value)

    def _variables_of(self, term):
        optimizer = self._optimizers.get(term.name)
        own = optimizer.variables if optimizer else []
        return [*term.state_variables, *term.trainable_variables, *own]


def _check_features(model, names):
    """Refuse names whose outputs a step of `model` does not have one by one."""
    known = {operation.name: operation for operation in model.operations}
    calls = collections.Counter(node.operation.name for node in GraphIndex(model).nodes)
    folded = {conv.operation.name: norm.operation.name for conv, norm in folded_pairs(model)}
    for name in names:
        if name not in known:
            raise ValueError(
                f"`features` of a term must name layers of {model.name!r}. Received: {name!r}. "
                f"Closest: {checks.closest(name, list(known))}."
            )
        if calls[name] != 1:
            raise ValueError(
                "`features` of a term must name layers that are called once. "
                f"Received: {name!r}, which is called {calls[name]} times."
            )
        if name in folded:
            raise ValueError(
                f"What {name!r} gives is computed together with the batch normalization behind it. "
                f"Name that in `features`: {folded[name]!r}. Received: {name!r}"
            )


def targets_of(steps: Sequence[tuple[Term, TermStep]], targets: Any) -> Any:
    """The targets of the compiled loss: those that one term gives, or the given ones.

    Raises:
        ValueError: If two terms give some.
    """
    given = [(term.name, told) for term, step in steps if (told := term.targets(step)) is not None]
    if len(given) > 1:
        raise ValueError(
            "One term can give the targets of the loss. Received: "
            f"{checks.listed([name for name, _ in given])}. Leave out all but one"
        )
    return given[0][1] if given else targets


def total_loss(
    model: "FineTuner", loss: Any, steps: Sequence[tuple[Term, TermStep]]
) -> tuple[Any, Any]:
    """The loss of a step with all terms, and the value of each.

    Args:
        model: `FineTuner`.
        loss: The compiled loss, as `compute_loss` gives it.
        steps: As from `Terms.steps`.
    """
    for term, _ in steps:
        if term.loss_weight != 1:
            added = _keras.added_losses(model)  # regularization keeps its weight
            loss = term.loss_weight * (loss - added) + added
    values = [_checked(term, term(step)) for term, step in steps]
    # Replicas' gradients are summed, so each gives its share.
    shares = [
        _keras.scale_loss_for_distribution(tf.cast(value, loss.dtype))
        for value in values
        if value is not None
    ]
    if shares:
        # In one sum: TensorFlow's graph optimizer orders a row of additions anew in each trace,
        # and a run that goes on must give the same loss to the bit.
        loss = tf.reduce_sum(tf.stack([loss, *shares]))
    return loss, values


def _is_array(value):
    return isinstance(value, np.ndarray) and value.ndim > 0


def _checked(term, value):
    if value is not None and tf.convert_to_tensor(value).shape.rank != 0:
        raise ValueError(
            f"The value of a term must be a scalar, the mean over the batch. Received: {value!r} "
            f"from {term.name!r}"
        )
    return value


def _own_optimizer(term, of_model):
    """The built optimizer of a term's own variables, with a loss scale where the model has one."""
    if term.optimizer is None:
        raise ValueError(
            "A term with trainable variables of its own needs an optimizer for them. Received: "
            f"optimizer=None in {term.name!r}"
        )
    optimizer: Any = keras.optimizers.get(term.optimizer)
    if isinstance(of_model, keras.optimizers.LossScaleOptimizer):
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(term.trainable_variables)
    return optimizer


def _gives_row_values(term):
    return type(term).row_values is not Term.row_values


def _is_plain(value):
    return value is None or isinstance(value, (bool, int, float, str))


def _value(variable):
    return keras.ops.convert_to_numpy(variable)
