"""What a `.keras` file must also hold for a FineTuner to go on exactly where it stopped."""

import keras

from kerastl._keras import hub_repairs
from kerastl.freezing import freezing_state, restore_freezing
from kerastl.optimizers.loss_scale import around, inside
from kerastl.training.rates import by_position


class Continues:
    """The part of FineTuner that saves and restores freezing, multipliers and slot order.

    Keras keeps neither the flags inside composite layers, nor the random states of dropout, nor
    the order in which weights got their optimizer slots, and drops the whole state of the optimizer
    when the set that trains differs.
    Weights are told by position, because the paths of auto-named layers differ between processes.
    """

    def get_config(self):
        hub_repairs.mend_before_saving(self.layers)
        config = hub_repairs.mend_config(super().get_config())
        seeds = [state.numpy().tolist() for state in _seeds(self)]
        return {**config, "freezing": freezing_state(self), "seeds": seeds}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        freezing = config.pop("freezing", None)
        seeds = config.pop("seeds", None)
        model = super().from_config(config, custom_objects=custom_objects)
        hub_repairs.mend_after_loading(model.layers)
        if freezing is not None:
            restore_freezing(model, freezing)
        for state, value in zip(_seeds(model), seeds or (), strict=seeds is not None):
            state.assign(value)
        return model

    def get_compile_config(self):
        config = super().get_compile_config()
        if not config:  # not compiled
            return config
        lr_multiplier = self.lr_multiplier
        place = {id(weight): i for i, weight in enumerate(self.weights)}
        given = {
            "norms": self._group_norms is not None,
            # As it is now: `compile` may have put a loss scale around what it was given.
            "optimizer": keras.saving.serialize_keras_object(self.optimizer),
            "slots": [place[id(variable)] for variable in lr_multiplier.slot_variables],
        }
        if self._wraps_by_hand:
            return {**config, **given, "rates": lr_multiplier.rates_of(self.weights)}
        return {**config, **given, **self._rates_by_position()}

    def _rates_by_position(self):
        """The arguments of `compile` that say rates, and the optimizer without its multipliers."""
        multipliers, no_decay = self._rates_given
        schedule = self.lr_multiplier.schedule
        if no_decay is not True:
            no_decay = [i for i, weight in enumerate(self.weights) if weight.path in no_decay]
        plain = around(self.optimizer, self.lr_multiplier.inner_optimizer)
        return {
            "optimizer": keras.saving.serialize_keras_object(plain),
            "multipliers": by_position(self, multipliers),
            "no_decay": no_decay,
            "fused": self.lr_multiplier.fused,
            "schedule": None if schedule is None else schedule.to_config(),
        }

    def compile_from_config(self, config):
        config = keras.saving.deserialize_keras_object(config)
        slots, schedule = config.pop("slots", None), config.pop("schedule", None)
        weights = self.weights
        if rates := config.pop("rates", None):
            inside(config["optimizer"]).restore_rates(weights, rates, self.groups)
        if config.get("no_decay", True) is not True:
            config["no_decay"] = [weights[i].path for i in config["no_decay"]]
        if "multipliers" in config:
            config["multipliers"] = {weights[i].path: rate for i, rate in config["multipliers"]}
        self.compile(**config)
        if schedule:
            self.set_schedule(**schedule)
        if slots:
            self.optimizer.build([weights[i] for i in slots])


def _seeds(model):
    """The random states of a model: what is variable in it but no weight."""
    weights = {id(weight) for weight in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]
