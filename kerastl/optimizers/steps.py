"""A rate and a clock for each variable, given to a Keras optimizer that knows one of each."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from kerastl import _keras
from kerastl._base.types import TensorLike
from kerastl._keras import optimizer_internals as internals
from kerastl.optimizers import fused as _fused
from kerastl.optimizers.placed_schedule import PlacedSchedule, momentum_name


class PerVariableSteps:
    """Runs each `update_step` of `inner` at its variable's own rate and own step count.

    Keras hands one `learning_rate` from method to method until `update_step`; here a list with
    one entry per variable takes its place, so that it travels through `tf.distribute` the way
    Keras's own rate does. While a variable's `update_step` runs, `inner` is shown that variable's
    clock as its step count: bias corrections (Adam, Lamb, Adafactor, ...) come out right for a
    weight that started late, with no formula of theirs repeated here. Plain Keras reads both
    numbers anew for every variable, so this costs nothing.

    Args:
        inner: `keras.optimizers.Optimizer`, built.
        schedule: `PlacedSchedule` that leads the shared rate, or None.
        fused: Boolean, whether a kernel of TensorFlow takes each step.

    Attributes:
        multipliers: Vector variable, one multiplier per slot.
        clocks: Integer vector variable, the updates that each slot has had.
        products: Vector variable for Nadam, its running product of momenta per slot, else None.
        no_decay: Set of slots without weight decay.
        taking_part: Set of slots in the step now being taken, known when it is traced.
        weighs_cycles: Boolean, whether batches of a cycle of accumulation are told their weights.
        cycle_weight: Vector variable of one entry, the weight of the present cycle so far, if so.
    """

    def __init__(
        self,
        inner: keras.optimizers.Optimizer,
        schedule: PlacedSchedule | None = None,
        *,
        fused: bool = False,
    ) -> None:
        self.inner = inner
        self.update_step = _fused.update_step_of(inner) if fused else inner.update_step
        self.schedule = schedule
        self.multipliers: Any = None  # variables, once there are slots
        self.clocks: Any = None
        self.products: Any = None
        self.weighs_cycles = False
        self.cycle_weight: Any = None
        self.no_decay = self.taking_part = frozenset()
        self.keras_own = internals.install(
            inner,
            _apply_weight_decay=self.decay_weights,
            _backend_apply_gradients=self.apply_gradients,
            _backend_update_step=self.update_all,
            _distributed_tf_update_step=self.update_on_devices,
            _update_model_variables_moving_average=self.update_averages,
            _overwrite_model_variables_with_average_value=self.overwrite_with_averages,
        )

    def rates(self, learning_rate: TensorLike) -> list[tf.Tensor]:
        """One scalar rate per slot: the multiplier times the shared rate."""
        shared = ops.cast(learning_rate, self.multipliers.dtype)
        if self.schedule is not None:
            factor = self.schedule.factor_at(internals.raw_iterations(self.inner))
            shared = shared * ops.cast(factor, shared.dtype)
        return ops.unstack(self.multipliers * shared, num=self.multipliers.shape[0])

    def clocks_shown(self) -> list[tf.Tensor]:
        """One scalar per slot that `inner.iterations` turns into that slot's clock."""
        cycle = self.inner.gradient_accumulation_steps or 1
        clocks = self.clocks.value if cycle == 1 else self.clocks * cycle
        return ops.unstack(clocks, num=self.clocks.shape[0])

    def apply_gradients(self, grads: Sequence[Any], variables: Sequence[keras.Variable]) -> None:
        """Keras's `_backend_apply_gradients`, also where Keras cannot run it on several _keras."""
        if _keras.must_meet_first(self.inner):
            _keras.apply_where_replicas_meet(self.inner, grads, variables)
        else:
            self.keras_own["_backend_apply_gradients"](grads, variables)

    def momentum_shown(self) -> dict[str, Any]:
        """What `inner` is shown as its momentum in this step, if the schedule has one."""
        if self.schedule is None:
            return {}
        momentum = self.schedule.momentum_at(internals.raw_iterations(self.inner))
        return {} if momentum is None else {momentum_name(self.inner): momentum}

    def decay_weights(self, variables: Sequence[keras.Variable]) -> None:
        """Decoupled weight decay at each variable's own rate: `w -= w * decay * rate`."""
        rates = self.rates(self.inner.learning_rate)
        chosen, arguments = [], []
        for variable in variables:
            slot: Any = internals.slot_of(self.inner, variable)
            decay = internals.decay_of(self.inner, variable)
            if decay is not None and slot not in self.no_decay:
                chosen.append(variable)
                arguments.append((decay, rates[slot]))
        if chosen:
            internals.update_each(self.inner, chosen, _decay, arguments)

    def update_all(
        self, grads: Sequence[Any], variables: Sequence[keras.Variable], learning_rate: TensorLike
    ) -> None:
        """Keras's `_backend_update_step` with a list of rates and clocks for its one rate."""
        slots: list[Any] = [internals.slot_of(self.inner, variable) for variable in variables]
        rates, clocks = self.rates(learning_rate), self.clocks_shown()
        momentum = self.momentum_shown()
        shown = [{"_iterations": clocks[slot], **momentum} for slot in slots]
        if self.products is not None:
            for numbers, product in zip(shown, self._next_products(slots), strict=True):
                numbers["_u_product"] = product
        own = [(rates[slot], numbers) for slot, numbers in zip(slots, shown, strict=True)]
        self.keras_own["_backend_update_step"](grads, variables, own)

    def update_on_devices(
        self,
        distribution: Any,
        grads_and_vars: Sequence[tuple[Any, Any]],
        own: Sequence[tuple[Any, Any]],
    ) -> None:
        """Keras's `_distributed_tf_update_step`, each variable with its own rate and clock."""
        for (gradient, variable), numbers in zip(grads_and_vars, own, strict=True):
            distribution.extended.update(
                variable, self._update_one, args=(gradient, *numbers), group=False
            )

    def _update_one(self, variable, gradient, rate, shown):
        with internals.standing_in(self.inner, **internals.comparable(shown)):
            self.update_step(gradient, variable, rate)

    def share_of(self, weight: TensorLike) -> "CycleShare":
        """What a batch of the `weight` of all replicas is to the present cycle of accumulation."""
        cycle = self.inner.gradient_accumulation_steps
        place = internals.raw_iterations(self.inner) % cycle
        before = ops.where(place == 0, 0.0, self.cycle_weight[0])
        weight = ops.cast(weight, before.dtype)
        so_far = before + weight
        kept = ops.where(so_far > 0, ops.divide_no_nan(before, so_far), 1.0)
        place = ops.cast(place, before.dtype)
        return CycleShare(
            so_far, kept, ops.divide_no_nan(cycle * 1.0, so_far), place + 1.0 - place * kept
        )

    def keep_share(self, share: "CycleShare") -> None:
        """Shrink what has been added up to its part of the cycle; before the batch is applied."""
        accumulators = internals.accumulators_of(self.inner)
        internals.update_each(
            self.inner, accumulators, _shrink, [(share.kept,)] * len(accumulators)
        )

    def weigh(self, share: "CycleShare") -> None:
        """Take up the weight of a batch that has been applied."""
        self.cycle_weight.assign(ops.reshape(share.so_far, (1,)))

    def _next_products(self, slots):
        """Nadam's product of momenta up to each slot's own step, as its update will need it.

        `u_t = u_{t-1} * beta_1 * (1 - 0.5 * 0.96 ** t)` with `t` the slot's own step, in Keras's
        order of operations (keras/src/optimizers/nadam.py), which keeps one product for all.
        Reference: Dozat, 2015, https://cs229.stanford.edu/proj2015/054_report.pdf, algorithm 8.
        """
        dtype = self.products.dtype
        products = list(ops.unstack(self.products.value, num=self.products.shape[0]))
        clocks = ops.unstack(self.clocks.value, num=self.clocks.shape[0])
        for slot in slots:
            step = ops.cast(clocks[slot] + 1, dtype)
            momentum = 1.0 - 0.5 * ops.power(0.96, step)
            products[slot] = products[slot] * self.inner.beta_1 * momentum
        self.products.assign(ops.stack(products))
        return [products[slot] for slot in slots]

    def update_averages(self, variables: Sequence[keras.Variable]) -> None:
        """Keras's moving averages of the weights, each begun at its variable's own first step.

        Keras begins all of them at global step 0. The average of a variable that was never in a
        step equals the variable; one that no longer trains keeps its average.
        """
        clocks = self.clocks_shown()
        for slot, variable in enumerate(variables):
            average = internals.average_of(self.inner, slot)
            if average is None:
                continue
            if slot in self.taking_part:
                shown = {"_model_variables_moving_average": [average], "_iterations": clocks[slot]}
                with internals.standing_in(self.inner, **shown):
                    self.keras_own["_update_model_variables_moving_average"]([variable])
            else:
                average.assign(ops.where(clocks[slot] > 0, average.value, variable))

    def overwrite_with_averages(self, variables: Sequence[keras.Variable]) -> None:
        """Put the moving averages into those of `variables` that are in the step."""
        averages, chosen = [], []
        for variable in variables:
            slot: Any = internals.slot_of(self.inner, variable)
            if slot in self.taking_part and internals.average_of(self.inner, slot) is not None:
                averages.append(internals.average_of(self.inner, slot))
                chosen.append(variable)
        with internals.standing_in(self.inner, _model_variables_moving_average=averages):
            self.keras_own["_overwrite_model_variables_with_average_value"](chosen)

    def count(self) -> None:
        """Advance the clocks of the slots that were in the step, if it was an update."""
        inner = self.inner
        one = [int(slot in self.taking_part) for slot in range(self.clocks.shape[0])]
        one = ops.convert_to_tensor(one, dtype=self.clocks.dtype)
        if inner.gradient_accumulation_steps:
            # `apply` has counted this call by now: an update ends each cycle.
            calls = internals.raw_iterations(inner)
            ends_cycle = ops.equal(calls % inner.gradient_accumulation_steps, 0)
            one = one * ops.cast(ends_cycle, one.dtype)
        self.clocks.assign_add(one)


class CycleShare(NamedTuple):
    """What a batch is to its cycle of `gradient_accumulation_steps`, by its weight.

    Keras adds up gradients g_1 to g_k and takes `(g_1 + ... + g_k) / k`. For `sum(S_i) / sum(W_i)`
    of the whole cycle, of which batch i knows only what came before, the sum so far is kept as if
    the cycle ended there: with `W = W_1 + ... + W_i`, first `sum *= (W - W_i) / W`, then the
    gradient of `k * S_i / W` is added. What is the same in each batch, a penalty on weights, has
    the factor `i - (i - 1) * (W - W_i) / W`, which adds up to `k`.

    Attributes:
        so_far: Scalar, `W`.
        kept: Scalar in [0, 1], `(W - W_i) / W`; 1 as long as `W` is 0.
        of_sum: Scalar, `k / W`, the factor of `S_i`; 0 as long as `W` is 0.
        of_rest: Scalar >= 1, the factor of what does not go by weights.
    """

    so_far: Any
    kept: Any
    of_sum: Any
    of_rest: Any


def _shrink(variable, kept):
    variable.assign(variable * keras.ops.cast(kept, variable.dtype))


def _decay(variable, decay, rate):
    rate, decay = (keras.ops.cast(number, variable.dtype) for number in (rate, decay))
    variable.assign_sub(variable * decay * rate)
