"""One Keras optimizer with a learning rate of its own for every variable.

It is one file of over 400 lines because it is one class: a Keras optimizer has to answer for its
steps, its rate, its slots and what is saved of it, and a third of the lines are docstrings.
"""

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerastl._base import checks
from kerastl._base.types import TensorLike
from kerastl._keras import optimizer_internals as internals
from kerastl._keras.optimizer_internals import path_of
from kerastl.graph.layer_groups import LayerGroups
from kerastl.optimizers import fused as _fused
from kerastl.optimizers import keys as _keys
from kerastl.optimizers import slots as _slots
from kerastl.optimizers.keys import check_optimizer
from kerastl.optimizers.placed_schedule import PlacedSchedule, check_number, momentum_name
from kerastl.optimizers.steps import CycleShare, PerVariableSteps
from kerastl.schedules import Schedule, from_config

# Settings with a variable for each weight, which `build` makes.
NEED_SLOTS = ("use_ema", "gradient_accumulation_steps")


@keras.saving.register_keras_serializable(package="kerastl")
class LRMultiplier(keras.optimizers.Optimizer):
    """Multiplies the step of each variable, and its decoupled weight decay, by a number.

    Use it to train early layers slower than late ones. It scales the *step*, not the gradient:
    Adam and its kin cancel a gradient's scale. There is one shared `learning_rate`, so that
    schedules, `LearningRateScheduler`, `ReduceLROnPlateau` and `TensorBoard` work as ever and the
    ratios between groups hold at every step. A variable steps exactly as `optimizer` would at

    `rate = multiplier * learning_rate`

    and clipping by global norm, gradient accumulation, moving averages of weights, loss scaling
    and distribution are left to `optimizer`, over all variables together. Its settings and slots
    are read and set here as there (`clipnorm`, `weight_decay`, `beta_1`, ...). A multiplier of
    exactly 0 freezes: no step, no decay, no change of moments, no share in the global norm. A
    variable that joins the training late gets the bias correction of its own steps, not of the
    global ones, while schedules go on counting global steps.

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
        self,
        optimizer: keras.optimizers.Optimizer,
        multipliers: Mapping[str, float] | None = None,
        *,
        groups: LayerGroups | None = None,
        no_decay: Sequence[str] = (),
        fused: bool = False,
        name: str | None = None,
    ) -> None:
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
        internals.drop_own_settings(self, optimizer)
        # Past `__setattr__`, which would take the variables of `groups` for this one's state.
        self.__dict__.update(
            _keys=_keys.check_multipliers(multipliers),
            _groups=groups,
            _no_decay=_keys.check_paths(no_decay),
            fused=bool(fused),
            _steps=None,
            _frozen=frozenset(),
            _traced=False,
            _weighs_cycles=False,
            _share=None,
        )

    def __getattr__(self, name: str) -> Any:
        """What this one has not, the wrapped optimizer has: its settings and its slots."""
        inner = self.__dict__.get("inner_optimizer")
        if inner is None or (name.startswith("_") and not internals.is_state(inner, name)):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        inner = self.__dict__.get("inner_optimizer")
        is_own = name.startswith("_") or name in self.__dict__ or hasattr(type(self), name)
        if inner is None or is_own or not hasattr(inner, name):
            super().__setattr__(name, value)
            return
        if name in NEED_SLOTS and self.built and bool(value) != bool(getattr(inner, name)):
            raise RuntimeError(
                f"`{name}` decides which slots there are, and these were made. Received: "
                f"{name}={value!r}. Set it before the first step, or compile with a new optimizer."
            )
        setattr(inner, name, value)

    def exclude_from_weight_decay(
        self,
        var_list: Sequence[keras.Variable] | None = None,
        var_names: Sequence[str] | None = None,
    ) -> None:
        """As in `keras.optimizers.Optimizer`. A config has it once the slots are built."""
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

    @property
    def learning_rate(self) -> Any:
        """The shared rate, that of a variable whose multiplier is 1; with a schedule, its peak."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        if self.schedule is not None and callable(learning_rate):
            raise ValueError(
                "With a schedule set, `learning_rate` is its peak and must be a number. Received: "
                f"learning_rate={learning_rate!r}. Call `set_schedule(None)` first."
            )
        self.inner_optimizer.learning_rate = learning_rate

    @property
    def schedule(self) -> PlacedSchedule | None:
        """The `PlacedSchedule` (`schedule`, `start`, `num_steps`) that leads the rate, or None."""
        return self.__dict__.get("_schedule")

    def set_schedule(
        self,
        schedule: Schedule | None,
        *,
        start: int | None = 0,
        num_steps: int | None = None,
        retraced: bool = False,
    ) -> None:
        """Let the shared rate, and momentum if the schedule has one, follow `schedule` from now on.

        The rate of a step is `learning_rate * schedule.factor((step - start) / num_steps)`, the
        progress held in [0, 1], computed inside the traced step from the counter of `apply` calls:
        with gradient accumulation these are batches, not updates. Decoupled weight decay follows.
        `learning_rate` stays a plain number, the peak, so that callbacks may set it.

        A schedule with momentum sets `beta_1` of Adam, AdamW, Adamax, Lamb and Lion, `momentum` of
        SGD and RMSprop. Adam's bias correction then is `1 - beta_1_t ** t`, with the `beta_1` of
        the step, as in torch when its `OneCycleLR` cycles `betas`.

        Args:
            schedule: Schedule of `kerastl.schedules`, or None for a rate of `learning_rate`
                throughout.
            start: Int >= 0, the step at progress 0, or None for the present one.
            num_steps: Int > 0, steps from progress 0 to 1. Not needed with `schedule=None`.
            retraced: Whether the train function will be made anew
                (`model.make_train_function(force=True)`) before the next step.

        Raises:
            ValueError: If the optimizer's rate is a schedule, or the schedule has momentum and the
                optimizer has none that can be set.
            RuntimeError: If the step has been traced and `retraced` is False.

        Example:
            >>> from kerastl.optimizers import LRMultiplier
            >>> from kerastl.schedules import WarmupCosine
            >>> optimizer = LRMultiplier(keras.optimizers.AdamW(1e-3))
            >>> optimizer.set_schedule(WarmupCosine(warmup=0.1, start=0.25), num_steps=100)
            >>> round(optimizer.rate_now(), 6)
            0.00025
        """
        placed = None if schedule is None else self._placed(schedule, start, num_steps)
        if placed == self.schedule:
            return
        if self._traced and not retraced:
            raise RuntimeError(
                "The schedule is part of the traced step. Pass `retraced=True` and call "
                "`model.make_train_function(force=True)`, or use `FineTuner.set_schedule`. "
                f"Received: schedule={schedule!r}"
            )
        self.__dict__["_schedule"] = placed
        if self._steps is not None:
            self._steps.schedule = placed

    def rate_now(self) -> float:
        """The shared rate of the next step as a float, schedule included."""
        rate, placed = float(ops.convert_to_numpy(self.learning_rate)), self.schedule
        if placed is None:
            return rate
        done = (self._raw_step() - placed.start) / placed.num_steps
        return rate * float(placed.schedule.factor(min(max(done, 0.0), 1.0)))

    @property
    def iterations(self) -> Any:
        """Steps taken so far, whatever variables took part."""
        return self.inner_optimizer.iterations

    @property
    def variables(self) -> list[keras.Variable]:
        """The clocks of the slots, then the state of the wrapped optimizer."""
        return [*self._variables, *self.inner_optimizer.variables]

    @property
    def variables_paths(self) -> tuple[str, ...]:
        """Paths of the model variables in the order of their slots; rebuild in this order."""
        return tuple(path_of(variable) for variable in internals.variables_of(self.inner_optimizer))

    @property
    def multipliers(self) -> dict[str, float]:
        """Dict from variable path to multiplier, in the order of the slots."""
        self._check_built()
        return dict(zip(self.variables_paths, self._values, strict=True))

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Make the slots for `variables`, all that may ever train.

        An `apply` may pass fewer of them; the others then stay as they are, state included.
        """
        if self.built:
            return
        variables = list(variables)
        values = _keys.resolve(self._keys, variables, self._groups)
        self.inner_optimizer.build(variables)
        self.__dict__["_steps"] = PerVariableSteps(
            self.inner_optimizer, self.schedule, fused=self.fused
        )
        self._steps.weighs_cycles = self._weighs_cycles
        self._fit_to_slots(values)
        self.built = True
        internals.restore_waiting(self, internals.checkpointed(self.variables))

    def extend(self, variables: Sequence[keras.Variable]) -> None:
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

    def set_multipliers(
        self,
        multipliers: Mapping[str, float],
        *,
        groups: LayerGroups | None = None,
        retraced: bool = False,
    ) -> None:
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
        self.__dict__.update(_keys=keys, _groups=groups)

    def apply(
        self, grads: Sequence[Any], trainable_variables: Sequence[keras.Variable] | None = None
    ) -> Any:
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
        self.__dict__["_traced"] = self._traced or internals.is_tracing()
        if not kept:
            return
        self._steps.taking_part = {slots[place] for place in kept if grads[place] is not None}
        share = self._share  # another replica may let go of it meanwhile
        if share is not None:
            self._steps.keep_share(share)
        inner.apply([grads[place] for place in kept], [variables[place] for place in kept])
        self._steps.count()
        if share is not None:
            self._steps.weigh(share)

    def weigh_cycles(self) -> None:
        """Have each cycle of `gradient_accumulation_steps` know the weight of its batches.

        Each `apply` of such an optimizer must then come in `applying_share`. Without accumulation
        nothing changes.
        """
        if self._weighs_cycles:
            return
        self.__dict__["_weighs_cycles"] = True
        if self._steps is not None:
            self._steps.weighs_cycles = True
            self._fit_to_slots(self._values)

    def share_of(self, weight: TensorLike) -> CycleShare | None:
        """What a batch of `weight` is to the present cycle; None if cycles are not weighed.

        Args:
            weight: Scalar, the sum of the weights of its examples, over all replicas.
        """
        steps: Any = self.__dict__["_steps"]
        if steps is None or steps.cycle_weight is None:
            return None
        return steps.share_of(weight)

    @contextlib.contextmanager
    def applying_share(self, share: CycleShare | None) -> Iterator[None]:
        """Have an `apply` in this block be that of a batch with this `share`, of `share_of`."""
        self.__dict__["_share"] = share
        try:
            yield
        finally:
            self.__dict__["_share"] = None

    def finalize_variable_values(self, var_list: Sequence[keras.Variable]) -> None:
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

    def scale_loss(self, loss: TensorLike) -> TensorLike:
        """Multiply `loss` by the static loss scale of the wrapped optimizer, if it has one."""
        return self.inner_optimizer.scale_loss(loss)

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the state, in the order of `variables`."""
        own = len(self._variables)
        super().set_weights(weights[:own])
        self.inner_optimizer.set_weights(weights[own:])

    def save_own_variables(self, store: Any) -> None:
        """Save the clocks and the order of the slots. Keras saves the wrapped optimizer itself."""
        _slots.save(self._steps, self.variables_paths, store)

    def load_own_variables(self, store: Any) -> None:
        """Load what `save_own_variables` wrote; raise if it belongs to other slots.

        Without slots there is nothing to load into; the wrapped optimizer says so where it matters.
        """
        if "paths" in store.keys():  # noqa: SIM118 (a store of Keras, not a dict)
            if self._steps is not None:
                _slots.load(self._steps, self.variables_paths, store)
            return
        warnings.warn(
            f"No saved state of an LRMultiplier fits {self.name!r}, which keeps the state it has.",
            stacklevel=2,
        )

    def _trackable_children(self, save_type="checkpoint", **kwargs):
        """Its state by position for `tf.train.Checkpoint`; nothing for a SavedModel, which serves.

        TensorFlow 2.21 refuses to save a list that lost an element, as the lists of state do when
        slots are added.
        """
        is_known = save_type != "savedmodel" and self.__dict__.get("built")
        return internals.checkpointed(self.variables) if is_known else {}

    def _lookup_dependency(self, name, cached_dependencies=None):
        return self._trackable_children().get(name)

    def get_config(self) -> dict[str, Any]:
        keys = self._keys
        if self.built or self._groups is not None:
            variables = internals.variables_of(self.inner_optimizer) if self.built else []
            keys = _keys.rows(keys, variables, self._groups, self._is_spared)
        config = {
            "name": self.name,
            "optimizer": keras.saving.serialize_keras_object(self.inner_optimizer),
            "multipliers": keys,
            "no_decay": list(self._no_decay),
            "fused": self.fused,
        }
        schedule = {} if self.schedule is None else {"schedule": self.schedule.to_config()}
        return {**config, **schedule}

    @property
    def slot_variables(self) -> list[keras.Variable]:
        """The model variables that have slots, in their order; rebuild in this order."""
        return internals.variables_of(self.inner_optimizer)

    def rates_of(self, variables: Sequence[keras.Variable]) -> list[list[Any] | None]:
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
        for variable, rate in zip(
            self.slot_variables, self.__dict__.get("_values", ()), strict=True
        ):
            said[path_of(variable)] = [rate, self._is_spared(variable)]
        return [said.get(path_of(variable)) for variable in variables]

    def restore_rates(
        self, variables: Sequence[keras.Variable], rates: Sequence[Any], groups: LayerGroups | None
    ) -> None:
        """Take over what `rates_of` gave for the same variables under their earlier paths.

        Args:
            variables: `keras.Variable`s. The optimizer is not built yet.
            rates: One entry for each of them, as from `rates_of`.
            groups: `LayerGroups` that give later multipliers their meaning.
        """
        said = zip(variables, rates, strict=True)
        rows: Any = [[path_of(variable), *rate] for variable, rate in said if rate is not None]
        self.set_multipliers(rows, groups=groups)
        self.__dict__["_no_decay"] = tuple(path for path, _, spared in rows if spared)

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> "LRMultiplier":
        config = dict(config)
        inner = keras.saving.deserialize_keras_object(
            config.pop("optimizer"), custom_objects=custom_objects
        )
        schedule = config.pop("schedule", None)
        made = cls(inner, **config)
        if schedule is not None:
            made.set_schedule(**schedule)
        return made

    def _is_spared(self, variable):
        """Whether `variable` is not decayed; Keras does not save its own exclusions."""
        if internals.is_excluded_from_decay(self.inner_optimizer, variable):
            return True
        slot = internals.slot_of(self.inner_optimizer, variable)
        return path_of(variable) in self._no_decay if slot is None else slot in self._steps.no_decay

    def _placed(self, schedule, start, num_steps):
        if isinstance(schedule, dict):  # of a saved config
            schedule = from_config(schedule)
        if not isinstance(schedule, Schedule):
            raise TypeError(
                "`schedule` must be one of kerastl.schedules, such as OneCycle(), or None. "
                f"Received: schedule={schedule!r}"
            )
        check_number(self.inner_optimizer)
        if schedule.momentum_at(0.0) is not None:
            momentum_name(self.inner_optimizer)
        start = self._raw_step() if start is None else start
        checks.whole(start, 0, 2**31 - 1, "start")
        return PlacedSchedule(schedule, start, checks.whole(num_steps, 1, 2**31 - 1, "num_steps"))

    def _raw_step(self):
        return int(ops.convert_to_numpy(internals.raw_iterations(self.inner_optimizer)))

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
        unknown = [
            path_of(v) for v in variables if internals.slot_of(self.inner_optimizer, v) is None
        ]
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
        self.__dict__.update(_values=tuple(values), _frozen=frozen)

    def _check_built(self):
        if not self.built:
            raise RuntimeError(
                "LRMultiplier has no slots yet. Call `build(variables)` with all variables that "
                "may ever train."
            )
