"""Check, after the first steps of each phase, that what moved is what was meant to move."""

import hashlib
from collections.abc import Mapping
from typing import Any

import keras

from kerastl import _keras
from kerastl._base import checks
from kerastl.graph import is_fine_tuner
from kerastl.graph.flags import all_leaves, training_ids
from kerastl.graph.run import is_inert


class AuditError(RuntimeError):
    """What moved in training is not what was meant to move."""


class Audit(keras.callbacks.Callback):
    """Raises when frozen weights move, training weights stand still, or statistics disobey.

    At the start of training, and again whenever the set of weights that train has changed, it
    takes a digest of every variable, lets `steps` optimizer steps pass, and compares (what has
    not moved by then has until the end of the epoch):

    - a weight that trains (with a multiplier above 0) must have moved,
    - every other weight of the network must be the same bit for bit, and so must the seeds of
      layers that are inert,
    - statistics of a batch normalization must have moved if it is in training mode, and must be
      the same if not.

    In a plain Keras model it finds what usually passes unseen: statistics of a "frozen" backbone
    that follow the batches.

    Args:
        steps: Int > 0, optimizer steps to watch at the start of each phase. A new factor that
            starts at zero gives its partner a gradient only from the second step on, so 1 is
            too few for adapters.

    Raises:
        AuditError: In `fit`, naming the weights. It is a `RuntimeError`.

    Example:
        >>> import keras, numpy as np
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> audit = Audit(steps=2)
        >>> _ = model.fit(np.ones((4, 2)), np.ones((4, 1)), batch_size=1, verbose=0,
        ...               callbacks=[audit])
        >>> audit.phases_checked
        1
    """

    def __init__(self, steps: int = 3) -> None:
        super().__init__()
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(f"`steps` must be an int > 0. Received: steps={steps!r}")
        self.steps = steps
        self.phases_checked = 0
        self._phase: Any = None
        self._before: Any = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._phase = None
        self._before = None

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        phase = frozenset(id(v) for v in self.model.trainable_variables)
        if phase != self._phase:
            self._phase = phase
            self._before = _digests(self.model)
            self._watched = 0
        self._learns = _rate(self.model) > 0
        self._step_before = _updates(self.model.optimizer)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._before is None:
            return
        if self._learns:  # a warm-up may start at a rate of zero, where nothing moves
            self._watched += _updates(self.model.optimizer) - self._step_before
        if self._watched >= self.steps:
            self._judge(final=False)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._before is not None and self._watched >= self.steps:
            self._judge(final=True)

    def _judge(self, final):
        """Judge what stood still only at the end of the epoch: a gradient may start at zero."""
        after = _digests(self.model)
        still, drifted = compare(self.model, {k: after[k] != v for k, v in self._before.items()})
        if still and not drifted and not final:
            return
        self._before = None
        if still or drifted:
            problems = [f"{len(still)} did not move: {checks.listed(still, 5)}"] * bool(still)
            problems += [f"{len(drifted)} moved though frozen: {checks.listed(drifted, 5)}"] * bool(
                drifted
            )
            raise AuditError(
                f"After {self._watched} steps in which {len(self._phase)} variables of "
                f"{self.model.name!r} train: {'; '.join(problems)}."
            )
        self.phases_checked += 1


def compare(model: keras.Model, moved: Mapping[int, bool]) -> tuple[list[str], list[str]]:
    """What stood still but should have moved, and what moved but should not have.

    Args:
        model: `keras.Model` as it was while training.
        moved: Dict from `id(variable)` to whether it changed.

    Returns:
        Two lists of variable paths, both empty when all is as declared.
    """
    must_move, must_stay = expectations(model)
    still = [v.path for v in must_move if not moved[id(v)]]
    return still, [v.path for v in must_stay if moved[id(v)]]


def expectations(model: keras.Model) -> tuple[list[keras.Variable], list[keras.Variable]]:
    """The variables of `model` that must move in training, and those that must not.

    Non-trainable state of layers in training mode other than batch-normalization statistics
    (seeds, counters) is in neither list, nor are biases of attention keys that train, whose
    gradient is zero.
    """
    multipliers = model.multipliers if is_fine_tuner(model) else {}
    training = {id(v) for v in model.trainable_variables}
    visible = training_ids(model)
    unmoved = {id(bias) for bias in _keras.key_biases(model)}
    move, stay = [], []
    for layer in all_leaves(model):
        inert = id(layer) not in visible or is_inert(layer)
        for variable in _keras.own_variables(layer):
            if id(variable) in training and id(variable) in unmoved:
                continue
            if id(variable) in training:
                (move if multipliers.get(variable.path, 1) else stay).append(variable)
            elif _is_statistic(layer, variable):
                (stay if inert else move).append(variable)
            elif not _keras.is_augmentation(layer) and (inert or _is_weight(layer, variable)):
                stay.append(variable)
    return move, stay


def _is_weight(layer, variable):
    return any(variable is own for own in _keras.own_trainable_variables(layer))


def _is_statistic(layer, variable):
    if not isinstance(layer, _keras.NORMALIZERS_WITH_STATISTICS):
        return False
    return variable is layer.moving_mean or variable is layer.moving_variance


def _digests(model):
    """One digest a variable: enough to tell a change, and no second copy of the network."""
    leaves = all_leaves(model)
    variables = {id(v): v for leaf in leaves for v in _keras.own_variables(leaf)}
    return {key: hashlib.blake2b(v.numpy().tobytes()).digest() for key, v in variables.items()}


def _rate(model):
    """The rate of the next step, with the schedule that a plan has laid over it."""
    if is_fine_tuner(model):
        return model.lr_multiplier.rate_now()
    return float(model.optimizer.learning_rate)


def _updates(optimizer):
    """Steps the optimizer has taken; one skipped for overflow or accumulation does not count."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return int(optimizer.iterations)
