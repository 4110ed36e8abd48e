"""The part of FineTuner that speaks of rates and slots to its optimizer."""

from kerastl import _keras
from kerastl.graph import leaf_layers, select_layers
from kerastl.optimizers.loss_scale import inside
from kerastl.training.rates import by_variable_path


class Rated:
    """Multipliers, the schedule of the shared rate, and the slots of what may ever train."""

    @property
    def lr_multiplier(self):
        """The `LRMultiplier` of the compiled optimizer, also inside a `LossScaleOptimizer`."""
        return inside(self.optimizer)

    @property
    def multipliers(self):
        """Dict from the path of each variable with optimizer slots to its multiplier."""
        return self.lr_multiplier.multipliers if self.optimizer.built else {}

    def set_multipliers(self, multipliers):
        """Change the multipliers, also between two epochs of a `fit`; the moments stay.

        Args:
            multipliers: As in `compile`. Replaces all earlier ones.
        """
        keys = by_variable_path(self, multipliers)
        self.lr_multiplier.set_multipliers(keys, groups=self.groups, retraced=True)
        self._rates_given = (multipliers, self._rates_given[1])
        _keras.remake_train_function(self)

    def set_schedule(self, schedule, *, start=None, num_steps=None):
        """Let the shared rate follow a schedule, also from one epoch of a `fit` to the next.

        Args:
            schedule: Schedule of `kerastl.schedules`, or None for a constant rate. `learning_rate`
                of the optimizer is its peak. See `LRMultiplier.set_schedule`.
            start: Int, the optimizer step at progress 0, or None for the present one.
            num_steps: Int > 0, steps from progress 0 to 1. Not needed with `schedule=None`.
        """
        before = self.lr_multiplier.schedule
        self.lr_multiplier.set_schedule(schedule, start=start, num_steps=num_steps, retraced=True)
        if self.lr_multiplier.schedule != before:
            _keras.remake_train_function(self)

    def reserve(self, where):
        """Give optimizer slots to layers that will train later, before the first step is traced.

        A thaw allocates missing slots by itself; reserving them up front keeps the order of the
        slots, and so checkpoints, the same from the first epoch to the last.

        Args:
            where: As in `freeze`.
        """
        leaves = [leaf for layer in select_layers(self, where) for leaf in leaf_layers(layer)]
        self._reserved = (
            frozenset(  # ids, since Keras would save a list of variables as the model's own
                id(v) for leaf in leaves for v in _keras.own_trainable_variables(leaf)
            )
        )

    def _allocate_slots(self):
        wanted = {id(v) for v in self.trainable_variables} | self._reserved
        variables = [v for v in self.variables if id(v) in wanted]
        if not variables:
            return
        if not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(variables)
        elif new := _keras.unknown_to_optimizer(self, variables):
            with self.distribute_strategy.scope():
                self.lr_multiplier.extend(new)
