"""Steps that one kernel of TensorFlow takes in place of a chain of Keras's operations.

Keras writes an update as a dozen operations, and each reads and writes arrays as large as the
weight. A kernel passes over the weight and its slots once.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from kerastl._keras import optimizer_internals as internals


def update_step_of(optimizer: keras.optimizers.Optimizer) -> Callable[..., None]:
    """A function like `optimizer.update_step` that calls one kernel for each dense gradient.

    Raises:
        ValueError: If TensorFlow has no kernel for the step of `optimizer`.
    """
    kernel = _KERNELS.get(type(optimizer))
    if kernel is None or getattr(optimizer, "amsgrad", False):
        options = "(amsgrad=True)" if kernel else ""
        known = ", ".join(kind.__name__ for kind in _KERNELS)
        raise ValueError(
            f"`fused=True` is for optimizers whose step is one kernel of TensorFlow: {known}, "
            f"without AMSGrad. Received: {type(optimizer).__name__}{options}. Leave `fused` out."
        )

    def update_step(gradient, variable, learning_rate):
        if isinstance(gradient, tf.IndexedSlices):  # rows of an embedding: Keras's own way
            optimizer.update_step(gradient, variable, learning_rate)
            return
        rate, gradient = (ops.cast(x, variable.dtype) for x in (learning_rate, gradient))
        kernel(optimizer, variable, gradient, rate)

    return update_step


def _adam(optimizer, variable, gradient, rate):
    slot: Any = internals.slot_of(optimizer, variable)
    first, second = internals.moments_of(optimizer, slot)
    dtype = variable.dtype
    beta_1, beta_2 = (ops.cast(beta, dtype) for beta in (optimizer.beta_1, optimizer.beta_2))
    step = ops.cast(optimizer.iterations + 1, dtype)
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=first.handle,
        v=second.handle,
        beta1_power=ops.power(beta_1, step),
        beta2_power=ops.power(beta_2, step),
        lr=rate,
        beta1=beta_1,
        beta2=beta_2,
        epsilon=ops.cast(optimizer.epsilon, dtype),
        grad=gradient,
    )


def _sgd(optimizer, variable, gradient, rate):
    if not optimizer.momentums:
        tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=rate, delta=gradient)
        return
    slot = internals.slot_of(optimizer, variable)
    tf.raw_ops.ResourceApplyKerasMomentum(
        var=variable.handle,
        accum=internals.raw(optimizer.momentums[slot]).handle,
        lr=rate,
        grad=gradient,
        momentum=ops.cast(optimizer.momentum, variable.dtype),
        use_nesterov=optimizer.nesterov,
    )


_KERNELS = {keras.optimizers.Adam: _adam, keras.optimizers.AdamW: _adam, keras.optimizers.SGD: _sgd}
