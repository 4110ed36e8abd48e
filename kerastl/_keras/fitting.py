"""Private names of Keras's `fit`, its optimizers, callbacks and random states."""

import contextlib
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras.src.backend import compute_output_spec
from keras.src.backend.common.global_state import get_global_attribute
from keras.src.losses import loss as loss_module
from keras.src.losses.loss import (  # noqa: F401 (re-exported)
    scale_loss_for_distribution,
    unscale_loss_for_distribution,
)
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR, global_seed_generator
from keras.src.trainers.data_adapters import get_data_adapter
from keras.src.trainers.data_adapters.array_slicing import convert_to_sliceable
from keras.src.utils.rng_utils import get_random_seed

# What Keras's callbacks remember between epochs and batches, where its name is private.
MODEL_CHECKPOINT_STATE = ("best", "_batches_seen_since_last_saving", "_last_batch_seen")
SWAP_EMA_STATE = ("_ema_weights_in_model",)
TENSORBOARD_STATE = ("_global_train_batch", "_global_test_batch", "_previous_epoch_iterations")


def remake_train_function(model: keras.Model) -> None:
    """Have the next step traced anew, if `model` has been compiled and traced before.

    Which variables train is fixed when the step is traced; a later change of `trainable` has no
    effect until then.
    """
    if getattr(model, "compiled", False) and getattr(model, "train_function", None) is not None:
        model.make_train_function(force=True)


def remake_functions(model: keras.Model) -> None:
    """Have each step of `model`, of training, evaluation and prediction, traced anew."""
    remake_train_function(model)
    model.test_function = model.predict_function = None


@contextlib.contextmanager
def without_train_function(model: keras.Model) -> Iterator[None]:
    """Let changes of what trains in `model` add up, and have its step traced once after them.

    `make_train_function` gives slots to what trains at that moment, also to what is about to be
    frozen again.
    """
    had_one = getattr(model, "train_function", None) is not None
    model.train_function = None
    yield
    if had_one:
        model.make_train_function()


def build_compiled(model: keras.Model, batch: tuple[Any, ...]) -> None:
    """Make the state of the compiled loss and metrics from one batch `(x, y, ...)` of `fit`.

    `Trainer._symbolic_build` does so after it has traced the whole model for the shape of its
    outputs, which a functional model knows.
    """
    x, y, weights = keras.utils.unpack_x_y_sample_weight(keras.tree.map_structure(_symbol, batch))
    num = keras.tree.flatten(x)[0].shape[0]
    outputs = keras.tree.map_structure(
        lambda output: keras.KerasTensor((num, *output.shape[1:]), output.dtype), model.output
    )
    # A call of the model gives the one output of a list of one, too.
    is_list_of_one = isinstance(outputs, (list, tuple)) and len(outputs) == 1
    y_pred = outputs[0] if is_list_of_one else outputs
    if model._compile_metrics is not None and not model._compile_metrics.built:
        compute_output_spec(model.compute_metrics, x, y, y_pred, sample_weight=weights)
    if model._compile_loss is not None and not model._compile_loss.built:
        compute_output_spec(model._compute_loss, x, y, y_pred, weights, training=False)


def _symbol(tensor):
    return None if tensor is None else keras.KerasTensor(tensor.shape, tensor.dtype.name)


def data_adapter(x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None) -> Any:
    """What Keras's `fit` and `evaluate` read `x`, `y` and `sample_weight` through.

    It raises what they raise of data that they refuse, and they take it in the place of `x`. Made
    of data that can be read only once, it goes on where it stopped. Private name:
    `get_data_adapter`.
    """
    return get_data_adapter(x, y, sample_weight, class_weight=class_weight)


def arrays_as_read(x: Any, y: Any, sample_weight: Any, class_weight: Any) -> tuple[Any, ...]:
    """`(x, y, sample_weight)` of arrays as Keras gives them to a model, refused where it refuses.

    One weight for each output, weights of classes among them, floats in their default width, and
    no lists, of each of which tf.data would make one tensor. Private names: those of the adapter.
    """
    arrays = data_adapter(x, y, sample_weight, class_weight)._inputs
    arrays = convert_to_sliceable(arrays, target_backend="tensorflow")
    return keras.utils.unpack_x_y_sample_weight(keras.tree.lists_to_tuples(arrays))


def is_saving_as_h5() -> bool:
    """Whether a config is asked for a `.h5` file. Private name: the attribute of the process."""
    return bool(get_global_attribute("use_legacy_config"))


def compute_loss(model: keras.Model, *arguments: Any, training: bool) -> Any:
    """`model.compute_loss`, also of a subclass whose own has no argument `training`.

    Private name: `_compute_loss`, which is what Keras's own steps call for that reason.
    """
    return model._compute_loss(*arguments, training=training)


@contextlib.contextmanager
def noting_loss_weights() -> Iterator[list[Any]]:
    """By what losses that are called meanwhile are divided: sums of weights, masks among them.

    A loss object gives its mean alone, and of what it is the mean only `reduce_values` knows. Can
    go when a loss tells. Private name: that function.

    Returns:
        List of scalar tensors, one for each loss that this thread reduces, filled meanwhile.
    """
    weights, thread, reduce_values = [], threading.get_ident(), loss_module.reduce_values

    def noting(values, sample_weight=None, reduction="sum_over_batch_size"):
        if threading.get_ident() == thread:
            each = keras.ops.ones_like(values) if sample_weight is None else sample_weight
            weights.append(keras.ops.sum(keras.ops.cast(each, values.dtype)))
        return reduce_values(values, sample_weight, reduction)

    loss_module.reduce_values = noting
    try:
        yield weights
    finally:
        loss_module.reduce_values = reduce_values


def added_losses(model: keras.Model) -> Any:
    """The part of `model.compute_loss` that is not compiled: regularizers and `add_loss`.

    Private name: `_aggregate_additional_loss`, which scales each for its replica. Keras has no
    public way to one part of the loss.
    """
    return sum(model._aggregate_additional_loss(loss) for loss in model.losses)


def begin_at(model: keras.Model, epoch: int) -> None:
    """Have the present `fit` of `model` begin at `epoch`; to be called in `on_train_begin`."""
    model._initial_epoch = epoch


def take_initial_epoch(model: keras.Model) -> int | None:
    """The epoch at which a callback has told `fit` to begin, or None; `fit` then forgets it."""
    epoch, model._initial_epoch = model._initial_epoch, None
    return epoch


@contextlib.contextmanager
def without_finalizing(optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Keep `fit` from overwriting weights by their moving averages while this lasts.

    Keras does so at the end of each `fit`; one training that consists of several has one end.
    """
    optimizer.__dict__["finalize_variable_values"] = lambda variables: None
    try:
        yield
    finally:
        del optimizer.__dict__["finalize_variable_values"]


def unknown_to_optimizer(
    model: keras.Model, variables: Sequence[keras.Variable]
) -> list[keras.Variable]:
    """Those of `variables` for which the built optimizer of `model` holds no slots."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None or not optimizer.built:
        return []
    known = optimizer._trainable_variables_indices
    return [v for v in variables if optimizer._var_key(v) not in known]


def raw_step(optimizer: keras.optimizers.Optimizer) -> int:
    """Calls of `apply` so far; the public `iterations` counts whole cycles of accumulation."""
    return int(keras.ops.convert_to_numpy(optimizer._iterations))


def rate_at(optimizer: keras.optimizers.Optimizer, step: int) -> float:
    """The learning rate of `optimizer` at `step`; the public one is that of the present step."""
    rate = optimizer._learning_rate
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return float(keras.ops.convert_to_numpy(rate(step)))
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def step_counter(optimizer: keras.optimizers.Optimizer) -> keras.Variable:
    """The variable that counts the calls of `apply` of the optimizer that takes the steps.

    A `LossScaleOptimizer` counts the steps that it skips too, and `iterations` is no variable.
    """
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer._iterations


def moving_averages(optimizer: keras.optimizers.Optimizer) -> dict[int, keras.Variable]:
    """Dict from the id of a model variable to its moving average; empty where there are none.

    `SwapEMAWeights` is the only public way to them.
    """
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    if optimizer is None or not (optimizer.use_ema and optimizer.built):
        return {}
    pairs = zip(
        optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True
    )
    return {id(variable): average for variable, average in pairs}


def applying_optimizer() -> keras.optimizers.Optimizer | None:
    """The optimizer whose `apply` has called the constraint that asks; None if none has.

    `apply` hands a constraint the weight alone (`variable.constraint(variable)`), after it has put
    what the constraint will undo into the moving average. Read from the calling frame; can go when
    Keras averages what constraints have made of the weights.
    """
    caller = sys._getframe(2).f_locals.get("self")
    return caller if isinstance(caller, keras.optimizers.Optimizer) else None


def random_seed() -> int | None:
    """The seed given to `keras.utils.set_random_seed`, or None; Keras has a setter only."""
    return get_random_seed()


def global_random_state() -> Any:
    """The state that unseeded `keras.random` functions draw from, or None if none has drawn."""
    generator = get_global_attribute(GLOBAL_SEED_GENERATOR)
    return None if generator is None else generator.state.numpy()


def set_global_random_state(state: Any) -> None:
    """Undo what was drawn since `global_random_state` gave `state`."""
    if state is not None:
        global_seed_generator().state.assign(state)


def uncompile(model: Any) -> None:
    """Have `model` as before `compile`: saved without an optimizer. Keras has no way back."""
    model.optimizer, model.compiled = None, False
