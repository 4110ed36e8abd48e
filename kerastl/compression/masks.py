"""Zeros that stay: a mask of a weight, applied inside the optimizer's step."""

import gc
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl import _keras
from kerastl._base import checks
from kerastl._base.types import TensorLike, Where
from kerastl.compression import island
from kerastl.compression.kernels import Kernel, find_kernels
from kerastl.compression.sparsity import Pattern, pattern_for


class Mask(keras.constraints.Constraint):
    """Holds the pruned weights of one variable at exactly zero, as the constraint of it.

    An optimizer calls it after every step that moves the variable, in the same traced step. So
    it is exact whatever `steps_per_execution` is, what a checkpoint of any other callback sees is
    pruned, and a weight that does not train is left alone. Each replica of a distributed
    variable computes its own mask, from equal weights an equal one.

    Args:
        kernel: `Kernel`.
        pattern: `Pattern`.
    """

    def __init__(self, kernel: Kernel, pattern: Pattern) -> None:
        self.kernel = kernel
        self.pattern = pattern
        self.before = kernel.variable.constraint
        self.keep = tf.Variable(tf.ones(kernel.variable.shape, tf.bool), trainable=False)
        # Below 0: no mask was made.
        self.threshold = tf.Variable(tf.constant(-1.0), trainable=False)
        self._schedule: Any = None
        self._counter: Any = None

    def follow(self, schedule: Any, counter: keras.Variable | None) -> None:
        """From now on make new masks when `schedule` says so, by the steps in `counter`."""
        self._schedule, self._counter = schedule, counter

    def hold(self) -> None:
        """Make no new masks from now on."""
        self._schedule = self._counter = None

    def start(self) -> None:
        """Begin a training: `begun` is to tell of it alone. The zeros stay."""
        self.threshold.assign(-1.0)

    @property
    def begun(self) -> bool:
        """Whether a mask was made in this training."""
        return float(self.threshold.numpy()) >= 0

    @property
    def pruned(self) -> int:
        """Number of weights that are held at zero."""
        return self.kernel.size - int(tf.math.count_nonzero(self.keep))

    def __call__(self, weight: TensorLike) -> TensorLike:
        value = tf.convert_to_tensor(weight if self.before is None else self.before(weight))
        if self._schedule is not None:
            step = self._counter.value + 1  # the optimizer counts this step after it
            tf.cond(self._schedule(step)[0], lambda: self._renew(value, step), lambda: False)
        averages = _keras.moving_averages(_keras.applying_optimizer())
        if (average := averages.get(id(self.kernel.variable))) is not None:
            self.apply_to(average)  # which has taken up the step, and will be put into the weight
        return self._masked(value)

    def renew(self, step: int) -> None:
        """Make a mask now, between two steps, and apply it."""
        self._renew(tf.convert_to_tensor(self.kernel.variable), step)
        self.apply()

    def apply(self) -> None:
        """Put zeros into the weight."""
        self.apply_to(self.kernel.variable)

    def apply_to(self, variable: keras.Variable) -> None:
        """Put zeros into a variable of the same shape, such as a moving average."""
        variable.assign(self._masked(tf.convert_to_tensor(variable)))

    def holds(self) -> bool:
        """Whether every weight that is pruned is zero."""
        kept = tf.cast(self.keep, tf.bool)
        weight = tf.convert_to_tensor(self.kernel.variable)
        return not bool(tf.reduce_any((weight != 0) & tf.logical_not(kept)))

    def get_state(self) -> dict[str, Any]:
        """The mask, one bit a weight, and its threshold."""
        return {
            "keep": np.packbits(self.keep.numpy()),
            "threshold": float(self.threshold.numpy()),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take up the mask that `get_state` told."""
        shape: tuple[Any, ...] = tuple(self.keep.shape)
        bits = np.unpackbits(state["keep"], count=self.kernel.size)
        self.keep.assign(bits.reshape(shape).astype(bool))
        self.threshold.assign(state["threshold"])

    def _masked(self, value):
        return tf.where(self.keep, value, tf.zeros_like(value))

    def _renew(self, value, step):
        pattern, view = self.pattern, self.pattern.view
        threshold, keep = island.new_mask(
            value if view is None else view.of(value),
            self._schedule,
            step,
            block_size=pattern.block_size,
            m_by_n=pattern.m_by_n,
        )
        shape: tuple[Any, ...] = tuple(self.keep.shape)
        self.keep.assign(keep if view is None else view.back(keep, shape))
        self.threshold.assign(tf.cast(threshold, tf.float32))
        return True


def make_masks(
    model: keras.Model,
    where: Where | None,
    *,
    block_size: tuple[int, int],
    m_by_n: tuple[int, int] | None,
    depthwise: bool,
) -> tuple[list[Mask], dict[str, str]]:
    """Masks of the kernels that can be pruned so, and why others cannot.

    A kernel that an earlier pruning has left a mask on keeps that.

    Args:
        model: Functional or built Sequential `keras.Model`.
        where: As in `find_kernels`, and so is `depthwise`.
        block_size: As in `Pattern`, and so is `m_by_n`.

    Returns:
        List of `Mask`, and a dict from path to reason.

    Raises:
        ValueError: If there is nothing to prune.
    """
    kernels, skipped = find_kernels(model, where, depthwise=depthwise)
    masks = []
    for kernel in kernels:
        pattern, reason = pattern_for(kernel, block_size, m_by_n)
        if reason:
            skipped[kernel.path] = reason
        else:
            masks.append(_mask_for(kernel, pattern))
    if not masks:
        raise ValueError(
            "`where` must hold a layer that can be pruned: Dense, EinsumDense, convolutions, "
            f"Embedding or cells of recurrent layers. Received: where={where!r}; skipped: "
            f"{checks.listed([f'{path} {why}' for path, why in skipped.items()], 5)}"
        )
    return masks, skipped


def _mask_for(kernel, pattern):
    mask = mask_of(kernel.variable)
    if mask is None:
        return Mask(kernel, pattern)
    mask.kernel, mask.pattern = kernel, pattern
    return mask


def mask_of(variable: keras.Variable) -> Mask | None:
    """The `Mask` that holds `variable`, or None."""
    return variable.constraint if isinstance(variable.constraint, Mask) else None


def masks_of(model: keras.Model) -> list[Mask]:
    """The masks that hold weights of `model`, in the order of its weights."""
    return [mask for mask in map(mask_of, model.weights) if mask is not None]


def hold(kernel: Kernel, keep: np.ndarray) -> None:
    """Hold those weights of `kernel` at zero where `keep`, an array of its shape, is False."""
    mask = Mask(kernel, Pattern())
    mask.keep.assign(keep)
    mask.apply()
    kernel.variable.constraint = mask


def retrace(model: keras.Model) -> None:
    """Have the next step traced anew: what a step does with masks is part of the trace.

    That of every model that has weights of `model`, not only its own.
    """
    for each in _trained_with(model):
        _keras.remake_train_function(each)


def averages_of(model: keras.Model) -> list[tuple[int, keras.Variable]]:
    """Pairs of the id of a weight and its moving average, of all who train weights of `model`."""
    found = [_keras.moving_averages(each.optimizer) for each in _trained_with(model)]
    return [pair for averages in found for pair in averages.items()]


def _trained_with(model):
    """The compiled models that have weights of `model`, itself among them.

    It may be a part of another model, or share its layers with a `FineTuner`, and neither Keras nor
    a variable keeps note of that.
    """
    own = {id(weight) for weight in model.weights}
    alive = [each for each in gc.get_objects() if issubclass(type(each), keras.Model)]
    return [
        each
        for each in alive
        if getattr(each, "compiled", False) and not own.isdisjoint(map(id, each.weights))
    ]
