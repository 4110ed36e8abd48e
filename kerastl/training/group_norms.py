"""Gradient and update norms of each layer group, as metrics of `fit`."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from kerastl.graph.layer_groups import LayerGroups
from kerastl.optimizers.lr_multiplier import LRMultiplier


class GroupNorms:
    """Means over an epoch of each training group's gradient norm and update norm.

    `gradient_norm/G` is the global L2 norm of the loss gradient over the weights of group `G`
    before clipping, `update_norm/G` that of the change the optimizer made to them. Their ratio to
    each other shows what multipliers and moments did. Both are averaged over the steps of an
    epoch; under a distribution strategy the gradient is that of one replica.
    """

    def __init__(self, groups: LayerGroups) -> None:
        self._groups = groups
        self._means = {}

    @property
    def metrics(self) -> list[keras.Metric]:
        """The Keras metrics made so far, one for each norm of each group that has trained."""
        return list(self._means.values())

    def prepare(self, variables: Sequence[keras.Variable]) -> None:
        """Make the metrics that `variables` need; metrics cannot be made while a step is traced."""
        for name in self._by_group(variables):
            for kind in ("gradient_norm", "update_norm"):
                key = f"{kind}/{name}"
                self._means.setdefault(key, keras.metrics.Mean(name=key))

    def around(
        self,
        apply: Callable[..., Any],
        optimizer: LRMultiplier,
        gradients: Sequence[Any],
        variables: Sequence[keras.Variable],
    ) -> None:
        """Call `apply(pairs)` and record the norms of its gradients and of its updates."""
        scale = optimizer.scale_loss(tf.ones(()))
        before = [tf.identity(variable.value) for variable in variables]
        apply(zip(gradients, variables, strict=True))
        for name, positions in self._by_group(variables).items():
            of_group = [gradients[i] for i in positions if gradients[i] is not None]
            moved = [variables[int(i)].value - before[i] for i in positions]
            if of_group:
                self._means[f"gradient_norm/{name}"].update_state(
                    tf.linalg.global_norm(of_group) / scale
                )
            self._means[f"update_norm/{name}"].update_state(tf.linalg.global_norm(moved))

    def _by_group(self, variables):
        found = {}
        for i, variable in enumerate(variables):
            found.setdefault(self._groups.group_of(variable), []).append(i)
        return found
