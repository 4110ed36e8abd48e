"""The stage that trains with quantization in the loop."""

import contextlib

import keras
from keras import ops

from kerastl.compress.retrain import retrain
from kerastl.compression import quantize_aware
from kerastl.compression.prunable import all_kernels
from kerastl.tune.device_file import some_of

SLOWER = 1 / 30  # of the rate of other stages: the network is trained, it only learns to round
SEEN = 500  # training pictures that ranges start from


def train_quantized(model, task):
    """The model with the rounding of int8 in it, trained; weights that were zero still are."""
    pixels, _ = some_of(task.images.train, count=SEEN)
    aware = quantize_aware(model, pixels)
    with zeros_held(aware) if task.config.prunes else contextlib.nullcontext():
        return aware, retrain(aware, task.slower(SLOWER))


@contextlib.contextmanager
def zeros_held(model):
    """Hold the zeros in the kernels of `model` while this lasts, in each step of the optimizer."""
    variables = [kernel.variable for kernel in all_kernels(model)]
    before = [variable.constraint for variable in variables]
    for variable in variables:
        variable.constraint = HeldZeros(variable, variable.constraint)
    try:
        yield
    finally:
        for variable, constraint in zip(variables, before, strict=True):
            variable.constraint = constraint


class HeldZeros(keras.constraints.Constraint):
    """Keeps those weights zero that are so now.

    Args:
        variable: The `keras.Variable` to read them from.
        before: Constraint that is applied first, or None.

    Example:
        >>> weight = keras.Variable([0.0, 2.0])
        >>> HeldZeros(weight)(ops.convert_to_tensor([5.0, 5.0])).numpy()
        array([0., 5.], dtype=float32)
    """

    def __init__(self, variable, before=None):
        self.keep = ops.convert_to_numpy(variable) != 0
        self.before = before

    def __call__(self, weight):
        weight = ops.convert_to_tensor(weight if self.before is None else self.before(weight))
        return ops.where(self.keep, weight, ops.zeros_like(weight))
