"""Gradient accumulation and overwriting by averages on several devices, which Keras cannot do.

Keras decides inside each replica whether this call updates, and has the replicas meet in one
branch of that `cond`, which TensorFlow refuses ("merge_call called while defining a new graph");
it overwrites weights by their averages from inside a replica, which TensorFlow refuses too. Seen
in Keras 3.15.1 (keras/src/optimizers/base_optimizer.py, `_backend_apply_gradients`); the private
names here are those that it calls. This file can go when the test of Keras's own optimizers in
`tests/optimizers/test_lr_multiplier_distributed.py` fails.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops


def must_meet_first(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether replicas would meet in a branch of a decision that `optimizer` takes in each."""
    decides = optimizer.gradient_accumulation_steps or optimizer.ema_overwrite_frequency
    return bool(decides) and not tf.__internal__.distribute.strategy_supports_no_merge_call()


def apply_where_replicas_meet(
    optimizer: keras.optimizers.Optimizer, grads: Sequence[Any], variables: Sequence[keras.Variable]
) -> None:
    """What Keras's `_backend_apply_gradients` does, its decisions taken once for all replicas."""

    def met(distribution, grads):
        def each(function, *arguments):
            distribution.extended.call_for_each_replica(function, args=(optimizer, *arguments))

        if cycle := optimizer.gradient_accumulation_steps:
            ops.cond(
                (optimizer._iterations + 1) % cycle == 0,
                lambda: each(_update, grads, variables),
                lambda: each(_accumulate, grads, variables),
            )
        else:
            each(_update, grads, variables)
        if optimizer.use_ema:
            _average(optimizer, each)

    tf.distribute.get_replica_context().merge_call(met, args=(grads,))


def _update(optimizer, grads, variables):
    if cycle := optimizer.gradient_accumulation_steps:
        # The sums are those of all replicas already, and the step adds up the replicas' shares.
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        sums = _accumulators(optimizer, variables)
        grads = [(g + own / replicas) / cycle for g, own in zip(grads, sums, strict=True)]
    grads = optimizer._clip_gradients(grads)
    optimizer._apply_weight_decay(variables)
    optimizer._backend_update_step(grads, variables, optimizer.learning_rate)
    if cycle:
        optimizer._backend_reset_gradient_accumulators()


def _accumulate(optimizer, grads, variables):
    """Add up the gradients of all replicas, so that every copy of a sum is alike when saved."""
    reduced = optimizer._all_reduce_sum_gradients(list(zip(grads, variables, strict=True)))
    sums = _accumulators(optimizer, variables)
    optimizer._backend_increment_gradient_accumulators([g for g, _ in reduced], sums)


def _accumulators(optimizer, variables):
    slots = [optimizer._get_variable_index(variable) for variable in variables]
    return [optimizer._accumulated_gradients[slot] for slot in slots]


def _average(optimizer, each):
    each(lambda optimizer: optimizer._update_model_variables_moving_average(_all(optimizer)))
    if frequency := optimizer.ema_overwrite_frequency:
        ops.cond(
            (optimizer.iterations + 1) % frequency == 0,
            lambda: optimizer._overwrite_model_variables_with_average_value(_all(optimizer)),
            lambda: None,
        )


def _all(optimizer):
    return optimizer._trainable_variables
