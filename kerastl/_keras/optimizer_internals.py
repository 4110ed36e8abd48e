"""The private names of Keras's optimizers that `LRMultiplier` meets, in one place.

Seen in Keras 3.15.1 with TensorFlow 2.21 (keras/src/optimizers/base_optimizer.py and
keras/src/backend/tensorflow/optimizer.py). Keras has no public hook for a rate per variable: it
passes one `learning_rate` to every `update_step`. This file can go when it has one.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

# The methods of the inner optimizer that use the rate or touch every slot. `apply` itself, the
# filtering, loss unscaling, clipping, accumulation and constraints stay Keras's own.
HOOKS = (
    "_apply_weight_decay",
    "_backend_apply_gradients",
    "_backend_update_step",
    "_distributed_tf_update_step",
    "_update_model_variables_moving_average",
    "_overwrite_model_variables_with_average_value",
)

# An optimizer that replaces one of these may use the rate where no hook sees it. Two of Keras's
# own do so in a way that is known and met: see `decay_of` and `steps.py`.
MUST_BE_KERAS_OWN = (*HOOKS, "apply", "_get_current_learning_rate")
KNOWN_OVERRIDES = {
    "_apply_weight_decay": keras.optimizers.Muon,
    "_backend_update_step": keras.optimizers.Nadam,
}


def overridden_methods(optimizer: keras.optimizers.Optimizer) -> list[str]:
    """Names of the methods that `optimizer` replaces in a way that `LRMultiplier` cannot see."""
    kind = type(optimizer)
    return [
        name
        for name in MUST_BE_KERAS_OWN
        if getattr(kind, name)
        not in (
            getattr(keras.optimizers.Optimizer, name),
            getattr(KNOWN_OVERRIDES.get(name, keras.optimizers.Optimizer), name),
        )
    ]


def install(
    optimizer: keras.optimizers.Optimizer, **hooks: Callable[..., Any]
) -> dict[str, Callable[..., Any]]:
    """Put a method for each of `HOOKS` on the instance; return the methods they replace."""
    originals = {name: getattr(optimizer, name) for name in HOOKS}
    optimizer.__dict__.update({name: hooks[name] for name in HOOKS})
    return originals


def is_hooked(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether `install` was called on `optimizer` before."""
    return any(name in optimizer.__dict__ for name in HOOKS)


@contextlib.contextmanager
def standing_in(optimizer: keras.optimizers.Optimizer, **attributes: Any) -> Iterator[None]:
    """Show `optimizer` other values of its private `attributes` while this lasts.

    Through `vars`, because setting an attribute of an optimizer would track it as new state.
    """
    own = optimizer.__dict__
    kept = {name: own[name] for name in attributes}
    own.update(attributes)
    try:
        yield
    finally:
        own.update(kept)


def comparable(shown: dict[str, Any]) -> dict[str, Any]:
    """`shown` with a momentum that Python code may compare with 0 while a step is traced.

    SGD asks `self.momentum != 0` and RMSprop `self.momentum > 0` to see if they have any at all.
    """
    if "momentum" not in shown:
        return shown
    return {**shown, "momentum": _PositiveTensor(shown["momentum"])}


class _PositiveTensor:
    """A scalar tensor of which Python knows that it is above 0."""

    __hash__ = None  # pyright: ignore[reportAssignmentType] (no hash, as Python has it)

    def __init__(self, tensor: tf.Tensor) -> None:
        self._tensor = tensor
        self.dtype, self.shape = tensor.dtype, tensor.shape

    def __ne__(self, other):
        return True

    def __gt__(self, other):
        return True

    def __tf_tensor__(self, dtype=None, name=None):
        return tf.convert_to_tensor(self._tensor, dtype=dtype, name=name)


def variables_of(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """The model variables that `optimizer` is built on, in the order of its slots."""
    return list(optimizer._trainable_variables)


def path_of(variable: Any) -> str:
    """The path of a model variable; of a `tf.Variable`, which has none, its name."""
    return getattr(variable, "path", None) or variable.name.partition(":")[0]


def slot_of(optimizer: keras.optimizers.Optimizer, variable: Any) -> int | None:
    """Position of `variable` in the slots, or None. Resolves replicas of mirrored variables."""
    return optimizer._trainable_variables_indices.get(optimizer._var_key(variable))


def raw_iterations(optimizer: keras.optimizers.Optimizer) -> keras.Variable:
    """The counter of `apply` calls; `iterations` counts whole accumulation cycles."""
    return optimizer._iterations


def average_of(optimizer: keras.optimizers.Optimizer, slot: int) -> keras.Variable:
    """The moving average kept for the variable at `slot`."""
    return optimizer._model_variables_moving_average[slot]


def moments_of(optimizer: keras.optimizers.Optimizer, slot: int) -> tuple[tf.Variable, tf.Variable]:
    """Adam's first and second moment at `slot`, as TensorFlow's variables."""
    return raw(optimizer._momentums[slot]), raw(optimizer._velocities[slot])


def is_state(optimizer: keras.optimizers.Optimizer, name: str) -> bool:
    """Whether the private attribute `name` of `optimizer` holds variables: slots, or one of all.

    `SwapEMAWeights` looks for the private name of the moving averages in what a loss scale wraps.
    """
    value = optimizer.__dict__.get(name)
    slots = value if isinstance(value, list) else [value]
    return bool(slots) and all(slot is None or isinstance(slot, keras.Variable) for slot in slots)


def accumulators_of(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """Where `optimizer` adds up the gradients of a cycle, one for each slot."""
    return [one for one in optimizer._accumulated_gradients if one is not None]


def product_of(optimizer: keras.optimizers.Optimizer) -> keras.Variable | None:
    """Nadam's running product of momenta, the only state it shares among variables, or None."""
    return getattr(optimizer, "_u_product", None)


def decay_of(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> float | None:
    """The weight decay that `optimizer` means for `variable`, or None.

    Keras decides on the raw TensorFlow variable, whose name is the whole path; Muon decides on the
    Keras variable and has a second decay for the variables that it leaves to AdamW.
    """
    if is_excluded_from_decay(optimizer, variable):
        return None
    if isinstance(optimizer, keras.optimizers.Muon) and optimizer._should_use_adamw(variable):
        return optimizer.adam_weight_decay
    return optimizer.weight_decay


def is_excluded_from_decay(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> bool:
    """Whether `exclude_from_weight_decay` took `variable` out, by path or name."""
    named = variable if isinstance(optimizer, keras.optimizers.Muon) else raw(variable)
    return not optimizer._use_weight_decay(named)


def is_tracing() -> bool:
    """Whether this runs inside a `tf.function`, once for many steps."""
    return tf.inside_function()


def raw(variable: keras.Variable) -> tf.Variable:
    """The TensorFlow variable behind a Keras variable."""
    return variable.value if isinstance(variable, keras.Variable) else variable


def update_each(
    optimizer: keras.optimizers.Optimizer,
    variables: Sequence[keras.Variable],
    function: Callable[..., Any],
    arguments: Sequence[tuple[Any, ...]],
) -> None:
    """Call `function(variable, *its arguments)` on every device that holds a copy of each one."""

    def merged(distribution, variables, arguments):
        for variable, own in zip(variables, arguments, strict=True):
            distribution.extended.update(variable, function, args=tuple(own), group=False)

    tf.__internal__.distribute.interim.maybe_merge_call(
        merged, optimizer._distribution_strategy, [raw(v) for v in variables], arguments
    )


def strategy_scope(optimizer: keras.optimizers.Optimizer) -> Any:
    """The scope of the `tf.distribute` strategy under which `optimizer` was made."""
    return optimizer._distribution_strategy.scope()


def checkpointed(variables: Sequence[keras.Variable]) -> dict[str, tf.Variable]:
    """`variables` by position, as children of an object in `tf.train.Checkpoint`."""
    return {f"state_{place}": raw(variable) for place, variable in enumerate(variables)}


def restore_waiting(optimizer: keras.optimizers.Optimizer, children: dict[str, Any]) -> None:
    """Give new `children` of `optimizer` what a checkpoint that was read before holds of them."""
    for name, child in children.items():
        optimizer._handle_deferred_dependencies(name=name, trackable=child)


def untrack(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> None:
    """Take `variable` out of the state of `optimizer`."""
    optimizer._untrack_variable(variable)


def drop_own_settings(
    wrapper: keras.optimizers.Optimizer, inner: keras.optimizers.Optimizer
) -> None:
    """Have `wrapper` hold no rate, counter and settings of its own, but show those of `inner`."""
    for name in ("_iterations", "_learning_rate"):
        wrapper._untrack_variable(getattr(wrapper, name))
        del wrapper.__dict__[name]
    wrapper.__dict__["_iterations"] = inner._iterations
    for name in keras.optimizers.Optimizer.get_config(inner):  # what all optimizers have
        if name != "name":
            wrapper.__dict__.pop(name, None)


def adopt_slots(wrapper: keras.optimizers.Optimizer, inner: keras.optimizers.Optimizer) -> None:
    """Have `wrapper` answer for the variables that `inner` is built on."""
    wrapper.__dict__["_trainable_variables"] = variables_of(inner)
    wrapper.__dict__["_trainable_variables_indices"] = inner._trainable_variables_indices


def grow(optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]) -> None:
    """Give the built `optimizer` slots for more `variables`; known ones keep theirs.

    A second optimizer of the same configuration is built on all variables, so that the order of
    the state is that of a fresh build; then everything known takes its place in that order.
    """
    known = len(optimizer._trainable_variables)
    everything = [*optimizer._trainable_variables, *variables]
    config = optimizer.get_config()
    if not isinstance(optimizer._learning_rate, keras.Variable):
        config["learning_rate"] = optimizer._learning_rate  # a schedule or function, as it is
    with strategy_scope(optimizer):
        fresh = type(optimizer).from_config(config)
        fresh.build(everything)
    replaced = {}
    for name, value in list(fresh.__dict__.items()):
        mine: Any = optimizer.__dict__.get(name)
        if isinstance(value, keras.Variable) and isinstance(mine, keras.Variable):
            replaced[id(value)] = mine
        elif _is_slot_list(name, value, len(everything)):
            replaced.update((id(new), old) for new, old in zip(value, mine, strict=False))
            setattr(optimizer, name, [*mine[:known], *value[known:]])
    optimizer.__dict__["_trainable_variables"] = everything
    optimizer.__dict__["_trainable_variables_indices"] = fresh._trainable_variables_indices
    ordered = [replaced.get(id(v), v) for v in fresh._variables]
    optimizer._variables.clear()  # in place: the tracker appends to this very list
    optimizer._variables.extend(ordered)


def _is_slot_list(name, value, length):
    return (
        isinstance(value, list)
        and name not in ("_variables", "_trainable_variables")
        and len(value) == length
        and all(slot is None or isinstance(slot, keras.Variable) for slot in value)
    )
