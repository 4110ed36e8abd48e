"""One Keras optimizer with a learning rate of its own for every variable."""

import keras
import numpy as np

from kerastl._base import checks
from kerastl._keras import optimizer_internals as internals
from kerastl.optimizers import fused as _fused
from kerastl.optimizers import keys as _keys
from kerastl.optimizers import slots as _slots
from kerastl.optimizers.keys import check_optimizer
from kerastl.optimizers.placed_schedule import Scheduled
from kerastl.optimizers.saved import Saved
from kerastl.optimizers.steps import PerVariableSteps


@keras.saving.register_keras_serializable(package="kerastl")
class LRMultiplier(Scheduled, Saved, keras.optimizers.Optimizer):
    """Multiplies the step of each variable, and its decoupled weight decay, by a number.

    Use it to train early layers slower than late ones. It scales the *step*, not the gradient:
    Adam and its kin cancel a gradient's scale. There is one shared `learning_rate`, so that
    schedules, `LearningRateScheduler`, `ReduceLROnPlateau` and `TensorBoard` work as ever and the
    ratios between groups hold at every step. A variable steps exactly as `optimizer` would at

    `rate = multiplier * learning_rate`

    and clipping by global norm, gradient accumulation, moving averages of weights, loss scaling
    and distribution are left to `optimizer`, over all variables together. A multiplier of exactly
    0 freezes: no step, no decay, no change of moments, no share in the global norm. A variable
    that joins the training late gets the bias correction of its own steps, not of the global
    ones, while schedules go on counting global steps.

    `momentum` carries past steps with the rate they were taken at, and `Adafactor` caps its rate
    at `1 / sqrt(step)`, as each does at a single rate.

    Args:
        optimizer: `keras.optimizers.Optimizer` to wrap, not yet built. Any of Keras's but `Ftrl`,
            `ScheduleFreeAdamW` and `MultiOptimizer`.
        multipliers: Dict from key to a number >= 0. A key is, tried in this order, a group name,
            the path of a variable, the path of a layer (all variables below it) or a regex that
            matches a whole variable path. Where several match a variable, the more exact kind
            wins: variable path over layer path over regex over group. Unmatched variables get 1.
        groups: `LayerGroups` that gives group names their meaning, or any object with
            `__contains__(name)`, `items()` and `variables(name)`.
        no_decay: Paths of variables without weight decay, see `kerastl.optimizers.no_decay`.
            Paths of variables that do not train are ignored.
        fused: Boolean, whether the step of each variable is one kernel of TensorFlow in place of
            Keras's dozen operations, as `fused` of torch's optimizers. For `Adam`, `AdamW` and
            `SGD`; less time on a CPU and on a GPU without XLA. It is the same step to rounding:
            that of `SGD` to the bit, that of Adam to 1e-5 of the step, because Keras rounds
            `1 - beta` to float32 and the kernel subtracts the rounded `beta`.
        name: Name of the optimizer.

    Raises:
        ValueError: If `optimizer` is one that cannot be scaled exactly, if a multiplier is not
            a finite number >= 0, or, when built, if a key matches nothing or two keys disagree.

    Example:
        >>> model = keras.Sequential(
        ...     [keras.Input((4,)), keras.layers.Dense(8, name="body"), keras.layers.Dense(2)],
        ...     name="net")
        >>> optimizer = LRMultiplier(keras.optimizers.AdamW(1e-3), {"net/body": 0.1})
        >>> model.compile(optimizer, "mse")
        >>> optimizer.build(model.trainable_variables)
        >>> optimizer.multipliers["net/body/kernel"]
        0.1

    References:
        Howard & Ruder, 2018, section 3.2, https://arxiv.org/abs/1801.06146
    """

    def __init__(
        self, optimizer, multipliers=None, *, groups=None, no_decay=(), fused=False, name=None
    ):
        if isinstance(optimizer, LRMultiplier):
            raise ValueError(
                "LRMultiplier cannot wrap LRMultiplier. Give all multipliers to one of them, or "
                "change them with `set_multipliers`."
            )
        check_optimizer(optimizer)
        if fused:
            _fused.update_step_of(optimizer)  # raises if there is none
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = optimizer
        internals.drop_own_rate_and_counter(self, optimizer)
        # Past `__setattr__`, which would take the variables of `groups` for this one's state.
        vars(self).update(
            _keys=_keys.check_multipliers(multipliers),
            _groups=groups,
            _no_decay=_keys.check_paths(no_decay),
            fused=bool(fused),
            _steps=None,
            _frozen=frozenset(),
            _traced=False,
        )

    @property
    def loss_scale_factor(self):
        """The static loss scale of the wrapped optimizer."""
        inner = vars(self).get("inner_optimizer")
        return None if inner is None else inner.loss_scale_factor

    @loss_scale_factor.setter
    def loss_scale_factor(self, value):
        if "inner_optimizer" in vars(self):  # Keras's constructor sets it before there is one
            self.inner_optimizer.loss_scale_factor = value

    @property
    def iterations(self):
        """Steps taken so far, whatever variables took part."""
        return self.inner_optimizer.iterations

    @property
    def variables(self):
        """The clocks of the slots, then the state of the wrapped optimizer."""
        return [*self._variables, *self.inner_optimizer.variables]

    @property
    def variables_paths(self):
        """Paths of the model variables in the order of their slots; rebuild in this order."""
        return tuple(variable.path for variable in internals.variables_of(self.inner_optimizer))

    @property
    def multipliers(self):
        """Dict from variable path to multiplier, in the order of the slots."""
        self._check_built()
        return dict(zip(self.variables_paths, self._values, strict=True))

    def build(self, variables):
        """Make the slots for `variables`, all that may ever train.

        An `apply` may pass fewer of them; the others then stay as they are, state included.
        """
        if self.built:
            return
        variables = list(variables)
        values = _keys.resolve(self._keys, variables, self._groups)
        self.inner_optimizer.build(variables)
        vars(self)["_steps"] = PerVariableSteps(
            self.inner_optimizer, self.schedule, fused=self.fused
        )
        self._fit_to_slots(values)
        self.built = True

    def extend(self, variables):
        """Add slots for those of `variables` that have none; all other state stays as it is.

        The result is that of an optimizer built on all of them from the start. While it works,
        the state of the known variables is held twice. The train function must be made anew
        afterwards (`model.make_train_function(force=True)`).
        """
        self._check_built()
        inner = self.inner_optimizer
        new = [v for v in variables if internals.slot_of(inner, v) is None]
        if new:
            everything = [*internals.variables_of(inner), *new]
            values = _keys.resolve(self._keys, everything, self._groups)
            internals.grow(inner, new)
            self._fit_to_slots(values)

    def set_multipliers(self, multipliers, *, groups=None, retraced=False):
        """Change all multipliers, also in the midst of training; no retracing is needed.

        Which multipliers are exactly 0 is the exception: it is part of the traced step. What is
        not decayed stays as it is.

        Args:
            multipliers: As in the constructor. Replaces all earlier ones.
            groups: `LayerGroups`, or None to keep those given before.
            retraced: Whether the train function will be made anew
                (`model.make_train_function(force=True)`) before the next step.

        Raises:
            ValueError: As in the constructor.
            RuntimeError: If 0 comes or goes after the step was traced, without `retraced=True`.
        """
        keys = _keys.check_multipliers(multipliers)
        groups = self._groups if groups is None else groups
        if self.built:
            values = _keys.resolve(keys, internals.variables_of(self.inner_optimizer), groups)
            if self._traced and not retraced:
                _slots.check_same_frozen(self.variables_paths, values, self._frozen)
            self._set_values(values)
        vars(self).update(_keys=keys, _groups=groups)

    def apply(self, grads, trainable_variables=None):
        """Take one step with `grads`; pairs whose multiplier is 0 are left out of everything.

        With no pair left, nothing happens, as when Keras is given no gradients.
        """
        grads = list(grads)
        if not grads:
            return
        variables = self._variables_of_step(grads, trainable_variables)
        inner, frozen = self.inner_optimizer, self._frozen
        slots = [internals.slot_of(inner, variable) for variable in variables]
        kept = [place for place, slot in enumerate(slots) if slot not in frozen]
        vars(self)["_traced"] = self._traced or internals.is_tracing()
        if not kept:
            return
        self._steps.taking_part = {slots[place] for place in kept if grads[place] is not None}
        inner.apply([grads[place] for place in kept], [variables[place] for place in kept])
        self._steps.count()

    def finalize_variable_values(self, var_list):
        """Put the moving averages into those of `var_list` that train and have trained."""
        if not self.inner_optimizer.use_ema:
            return
        clocks = self._steps.clocks.numpy()
        slots = {
            internals.slot_of(self.inner_optimizer, variable): variable for variable in var_list
        }
        trained = [s for s in slots if s is not None and clocks[s] > 0 and s not in self._frozen]
        self._steps.taking_part = set(trained)
        self.inner_optimizer.finalize_variable_values([slots[slot] for slot in trained])

    def scale_loss(self, loss):
        """Multiply `loss` by the static loss scale of the wrapped optimizer, if it has one."""
        return self.inner_optimizer.scale_loss(loss)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        inner = keras.saving.deserialize_keras_object(
            config.pop("optimizer"), custom_objects=custom_objects
        )
        schedule = config.pop("schedule", None)
        made = cls(inner, **config)
        if schedule is not None:
            made.set_schedule(**schedule)
        return made

    def _variables_of_step(self, grads, variables):
        if variables is None:
            self._check_built()
            variables = internals.variables_of(self.inner_optimizer)
        variables = list(variables)
        if len(grads) != len(variables):
            raise ValueError(
                "`grads` must have one entry per variable. "
                f"Received: {len(grads)} gradients for {len(variables)} variables."
            )
        self.build(variables)
        unknown = [v.path for v in variables if internals.slot_of(self.inner_optimizer, v) is None]
        if unknown:
            raise ValueError(
                "An optimizer steps only variables that it has slots for. Received: "
                f"{checks.listed(unknown)}. Call `extend(variables)` first, or build the "
                "optimizer on all variables that may ever train."
            )
        return variables

    def _fit_to_slots(self, values):
        _slots.fit(self, self._steps, values)
        variables = internals.variables_of(self.inner_optimizer)
        self._steps.no_decay |= _keys.spared_slots(self._keys, variables, self._no_decay)
        self._set_values(values)

    def _set_values(self, values):
        self._steps.multipliers.assign(np.array(values, self._steps.multipliers.dtype))
        frozen = frozenset(slot for slot, value in enumerate(values) if value == 0)
        vars(self).update(_values=tuple(values), _frozen=frozen)

    def _check_built(self):
        if not self.built:
            raise RuntimeError(
                "LRMultiplier has no slots yet. Call `build(variables)` with all variables that "
                "may ever train."
            )
