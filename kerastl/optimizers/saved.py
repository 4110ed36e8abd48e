"""What Keras saves of an `LRMultiplier`, and what it reads back."""

import warnings

import keras

from kerastl._keras import optimizer_internals as internals
from kerastl.optimizers import keys as _keys
from kerastl.optimizers import slots


class Saved:
    """The part of `LRMultiplier` that turns its settings and state into a file's and back."""

    def set_weights(self, weights):
        """Set the state, in the order of `variables`."""
        own = len(self._variables)
        super().set_weights(weights[:own])
        self.inner_optimizer.set_weights(weights[own:])

    def save_own_variables(self, store):
        """Save the clocks and the order of the slots. Keras saves the wrapped optimizer itself."""
        slots.save(self._steps, self.variables_paths, store)

    def load_own_variables(self, store):
        """Load what `save_own_variables` wrote; raise if it belongs to other slots."""
        if "paths" in store.keys():  # noqa: SIM118 (a store of Keras, not a dict)
            slots.load(self._steps, self.variables_paths, store)
            return
        warnings.warn(
            f"The saved state is not of an LRMultiplier; optimizer {self.name!r} starts anew.",
            stacklevel=2,
        )

    def _trackable_children(self, save_type="checkpoint", **kwargs):
        """Leave the optimizer out of a SavedModel, which only serves.

        TensorFlow 2.21 refuses to save a list that lost an element, as the lists of state do when
        slots are added.
        """
        return {} if save_type == "savedmodel" else super()._trackable_children(save_type, **kwargs)

    def get_config(self):
        keys = self._keys
        if self.built or self._groups is not None:
            variables = internals.variables_of(self.inner_optimizer) if self.built else []
            keys = _keys.rows(keys, variables, self._groups, self._is_spared)
        return {
            "name": self.name,
            "optimizer": keras.saving.serialize_keras_object(self.inner_optimizer),
            "multipliers": keys,
            "no_decay": list(self._no_decay),
            "fused": self.fused,
        }

    @property
    def slot_variables(self):
        """The model variables that have slots, in their order; rebuild in this order."""
        return internals.variables_of(self.inner_optimizer)

    def rates_of(self, variables):
        """The multiplier of each of `variables`, with a slot or without, and if decay spares it.

        Args:
            variables: `keras.Variable`s, among them all that have slots.

        Returns:
            List of `[multiplier, spared]`, or None for a variable without a slot of which the
            rows of a saved config say nothing.
        """
        if isinstance(self._keys, dict):
            values = _keys.resolve(self._keys, variables, self._groups)
            return [[rate, self._is_spared(v)] for rate, v in zip(values, variables, strict=True)]
        said = {path: [rate, spared] for path, rate, spared in self._keys}
        for variable, rate in zip(self.slot_variables, vars(self).get("_values", ()), strict=True):
            said[variable.path] = [rate, self._is_spared(variable)]
        return [said.get(variable.path) for variable in variables]

    def restore_rates(self, variables, rates, groups):
        """Take over what `rates_of` gave for the same variables under their earlier paths.

        Args:
            variables: `keras.Variable`s. The optimizer is not built yet.
            rates: One entry for each of them, as from `rates_of`.
            groups: `LayerGroups` that give later multipliers their meaning.
        """
        said = zip(variables, rates, strict=True)
        rows = [[variable.path, *rate] for variable, rate in said if rate is not None]
        self.set_multipliers(rows, groups=groups)
        vars(self)["_no_decay"] = tuple(path for path, _, spared in rows if spared)

    def _is_spared(self, variable):
        """Whether `variable` is not decayed; Keras does not save its own exclusions."""
        if internals.is_excluded_from_decay(self.inner_optimizer, variable):
            return True
        slot = internals.slot_of(self.inner_optimizer, variable)
        return variable.path in self._no_decay if slot is None else slot in self._steps.no_decay
