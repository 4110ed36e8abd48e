"""What a quadratic penalty keeps of the tasks before: anchors, and importances of mean 1."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kerastl import _keras
from kerastl._base import checks
from kerastl._base.types import Where
from kerastl.continual.quadratic import Pull, QuadraticPenalty, variable_like
from kerastl.graph import leaf_layers, select_layers
from kerastl.training import FineTuner


@dataclasses.dataclass
class Kept:
    """What is kept of one weight.

    Attributes:
        weight: `keras.Variable`, held so that its id stays its own.
        anchor: Array, its value when it was last consolidated.
        importance: float64 array of its shape, as it was measured.
    """

    weight: keras.Variable
    anchor: np.ndarray
    importance: np.ndarray


class ConsolidatedPenalty(QuadraticPenalty):
    """A quadratic penalty whose importances are measured after a task, by `consolidate`.

    Abstract. Importances are divided by their mean over all weights that have one, so that a
    strength means the same for every measure, network and number of examples: that of `L2SP`, in
    the mean of the weights.
    """

    def __init__(self, strength: float, proximal: bool, name: str) -> None:
        checks.in_range(strength, 0.0, float("inf"), "strength")
        self.strength, self.proximal, self.name = strength, bool(proximal), name
        self._pulls = []
        self._kept: dict[int, Kept] = {}
        self._scale = 0.0
        self._seen = {}  # by id, all that may train of models that were consolidated

    @property
    def state_variables(self) -> list[Any]:
        """Anchor and importance of each weight that is held, in the order of the slots."""
        return [variable for pull in self._pulls for variable in (pull.anchor, pull.importance)]

    @property
    def importances(self) -> dict[str, np.ndarray]:
        """Dict from the path of each weight that has one to its importances, of mean 1 in all."""
        return {kept.weight.path: self._scale * kept.importance for kept in self._kept.values()}

    def begin(self, model: FineTuner) -> None:
        """Forget the variables of a training before this `compile`, not what was consolidated."""
        self._pulls = []

    def prepare(self, model: FineTuner) -> None:
        """Make anchor and importance of each consolidated weight that has come to have a slot."""
        if not self._kept:
            raise RuntimeError(
                f"{type(self).__name__} has no anchors yet. Call `consolidate(model, x, ...)` "
                "after the first task, before training on the next."
            )
        if not any(id(weight) in self._kept for weight in model.weights):
            raise ValueError(
                f"{type(self).__name__} must be trained with weights that were consolidated. "
                f"Received: {model.name!r}, which has none of them. Build it on the layers of the "
                "model that was given to `consolidate`, not on copies."
            )
        known = {id(pull.weight) for pull in self._pulls}
        for weight in model.lr_multiplier.slot_variables:
            if id(weight) in self._kept and id(weight) not in known:
                self._pulls.append(self._pull(weight))
            elif id(weight) in self._seen and id(weight) not in known:
                raise ValueError(
                    "A weight of the earlier task that trains on must have an importance. "
                    f"Received: {weight.path!r}, which did not train when {self.name!r} was "
                    "consolidated. Name its layer in `consolidate(..., where=...)` too."
                )
        self._check_form(model)

    def _pull(self, weight):
        kept = self._kept[id(weight)]
        anchor = variable_like(weight, kept.anchor, "anchor")
        importance = variable_like(weight, self._scale * kept.importance, "importance")
        return Pull(weight, self.strength, anchor, importance)

    def _keep(self, model, variables, measured, decay):
        """Take up what was `measured` of `variables`: `F = decay * F + measured`."""
        if not any(one.any() for one in measured):
            raise ValueError(
                "Some weight must matter to what the model gives. Received: importances that are "
                f"all 0 for {model.name!r}. Look whether it has outputs that depend on its inputs."
            )
        for kept in self._kept.values():
            kept.importance = decay * kept.importance
        for variable, one in zip(variables, measured, strict=True):
            before = self._kept.get(id(variable))
            importance = one if before is None else before.importance + one
            value = keras.ops.convert_to_numpy(variable)
            self._kept[id(variable)] = Kept(variable, value, importance)
        leaves = leaf_layers(model)
        own = [v for leaf in leaves for v in _keras.own_trainable_variables(leaf)]
        self._seen.update((id(weight), weight) for weight in own)
        total = sum(kept.importance.sum() for kept in self._kept.values())
        count = sum(kept.importance.size for kept in self._kept.values())
        self._scale = count / total
        for pull in self._pulls:  # of a training that goes on
            kept: Any = self._kept.get(id(pull.weight))
            if kept is not None and pull.anchor is not None and pull.importance is not None:
                pull.anchor.assign(kept.anchor)
                pull.importance.assign(self._scale * kept.importance)


def weights_of(model: keras.Model, where: Where | None) -> Sequence[keras.Variable]:
    """The weights of the layers in `where`, frozen or not; None is what trains at the moment.

    Args:
        model: Built `keras.Model`.
        where: As in `freeze`.

    Raises:
        ValueError: If there is none.
    """
    if where is None:
        found = list(model.trainable_variables)
    else:
        leaves = [leaf for layer in select_layers(model, where) for leaf in leaf_layers(layer)]
        found = [v for leaf in leaves for v in _keras.own_trainable_variables(leaf)]
    if not found:
        raise ValueError(
            "An importance is measured of weights. Received: "
            f"{'a model none of whose layers train' if where is None else f'where={where!r}'}. "
            "Name layers with weights in `where`."
        )
    return list({id(variable): variable for variable in found}.values())
