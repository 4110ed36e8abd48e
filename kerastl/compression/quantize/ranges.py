"""The range of an activation: seen in data, kept, and rounded to 256 steps."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from kerastl import _keras
from kerastl._base.types import TensorLike

NARROWEST = 1e-6  # a tensor that is always zero has a range all the same
STEPS = 255
NUDGE = 1e-3  # of a step: turns halves, and nothing else, to the other side


@keras.saving.register_keras_serializable("kerastl")
class FakeQuantize(keras.layers.Layer):
    """Rounds a tensor to 256 steps between the smallest and the largest value it was seen to have.

    The first batch gives the range as it is, later ones move it: `low = decay * low + (1 - decay)
    * min(x)`, and `high` with the maximum. Zero is one of the 256 values, since padding needs it;
    the range is widened for that, by less than a hundredth. In inference it stands still. The
    gradient is 1 inside the range and 0 outside.

    Args:
        low: Float, the lower end of a range that is fixed, or None for one that is seen.
        high: Float, its upper end.
        decay: Float in [0, 1), share of the old range at each batch.
        **kwargs: As in `keras.layers.Layer`.

    Input shape:
        Any, floats.

    Output shape:
        As the input.

    Raises:
        RuntimeError: In inference mode, if no batch was seen.

    Example:
        >>> layer = FakeQuantize(low=0.0, high=255.0)
        >>> layer(ops.convert_to_tensor([-3.0, 0.6, 300.0])).numpy()
        array([  0.,   1., 255.], dtype=float32)

    References:
        Jacob et al., 2018, section 3, equation 12, https://arxiv.org/abs/1712.05877. There the
        average starts at a fixed range; one that starts at the first batch needs no thousands of
        steps to arrive.
    """

    observing = False  # whether ranges follow the data in inference mode, too: calibration
    exporting = False  # whether the converter is to read the graph: it wants the rounding alone

    def __init__(
        self,
        low: float | None = None,
        high: float | None = None,
        decay: float = 0.99,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (low is None) != (high is None) or (
            low is not None and high is not None and not low <= 0 < high
        ):
            raise ValueError(
                "`low` and `high` must be None, or floats with low <= 0 < high. "
                f"Received: low={low!r}, high={high!r}"
            )
        self.low, self.high, self.decay = low, high, decay
        self.supports_masking = True

    @property
    def is_fixed(self) -> bool:
        """Whether the range is part of the layer's settings."""
        return self.low is not None

    @property
    def is_seen(self) -> bool:
        """Whether there is a range to compute with."""
        return self.is_fixed or bool(ops.convert_to_numpy(self.batches) > 0)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if self.is_fixed:
            return
        self.minimum = self._scalar("minimum")
        self.maximum = self._scalar("maximum")
        self.batches = self._scalar("batches")

    def _scalar(self, name):
        # In a distributed step each device sees its own part of the batch.
        return self.add_weight(
            name=name,
            shape=(),
            initializer="zeros",
            dtype="float32",
            trainable=False,
            autocast=False,
            aggregation="mean",
        )

    def compute_output_spec(
        self,
        inputs: TensorLike,
        training: bool | None = None,
        observe: bool = True,
        step_only: bool = False,
    ) -> keras.KerasTensor:
        return keras.KerasTensor(() if step_only else inputs.shape, inputs.dtype)

    def call(
        self,
        inputs: TensorLike,
        training: bool | None = None,
        observe: bool = True,
        step_only: bool = False,
    ) -> TensorLike:
        """Round `inputs`.

        Args:
            inputs: Tensor.
            training: Boolean, whether the range follows the data.
            observe: Boolean; False where the tensor of another call is rounded to its range, since
                the int8 operation between the two has one scale.
            step_only: Boolean; True to return a scalar in place of `inputs`, which are rounded
                already: how wide a step of theirs is.
        """
        if step_only:
            return self._step(inputs.dtype)
        follows = (training and self.trainable) or self.observing
        if self.is_fixed:
            low, high = self.low, self.high
        elif observe and follows:
            low, high = self._follow(inputs)
        else:
            if not follows:  # else another call in this very pass has seen the data
                self.require_range()
            low, high = self.minimum, self.maximum
        values = inputs
        if not self.is_fixed:
            low, high = _aligned(low, high)
            if not (observe or self.exporting):
                values = _halves_outwards(inputs, low, high)
        outputs = keras.quantizers.fake_quant_with_min_max_vars(values, low, high)
        return ops.cast(outputs, inputs.dtype)

    def _step(self, dtype):
        fixed: tuple[Any, Any] = (self.low, self.high)
        low, high = fixed if self.is_fixed else _aligned(self.minimum, self.maximum)
        return ops.cast((high - low) / STEPS, dtype)

    def _follow(self, inputs):
        seen = ops.stop_gradient(ops.cast(inputs, "float32"))
        decay = ops.where(self.batches > 0, self.decay, 0.0)
        low = decay * self.minimum + (1 - decay) * ops.minimum(ops.min(seen), 0.0)
        high = decay * self.maximum + (1 - decay) * ops.maximum(ops.max(seen), 0.0)
        high = ops.maximum(high, low + NARROWEST)
        self.minimum.assign(low)
        self.maximum.assign(high)
        self.batches.assign(self.batches + 1.0)
        return low, high

    def require_range(self) -> None:
        """Refuse inference without a range.

        In a graph this is asked once, when it is traced; a range that was seen stays seen.
        """
        with tf.init_scope():
            if self.is_seen:
                return
        raise RuntimeError(
            f"The range of {self.name!r} must be known before inference, and no data was seen. "
            "Train the quantized model first, or call `quantize_aware(model, data)` with a few "
            "hundred examples. The range of a frozen layer in a FineTuner comes from `data` only."
        )

    def get_config(self) -> dict[str, Any]:
        settings = {"low": self.low, "high": self.high, "decay": self.decay}
        return super().get_config() | settings


def _aligned(low, high):
    """The range a little wider, so that zero is one of its 256 values.

    Fake quantization by itself would shift it, which makes every pixel scaled to [-1, 1] a half
    between two values, and the converter does not round those, nor zero itself, to the same side.
    """
    step = (high - low) / STEPS
    below = ops.floor(0.5 - low / step)  # values under zero
    above = STEPS - below
    step = ops.maximum(
        ops.where(below > 0, -low / ops.maximum(below, 1.0), 0.0),
        ops.where(above > 0, high / ops.maximum(above, 1.0), 0.0),
    )
    return -below * step, above * step


def _halves_outwards(inputs, low, high):
    """`inputs` so that halves between two steps are rounded as the average pool of LiteRT does.

    It rounds them away from the integer zero, -128 to 127, where fake quantization rounds upwards;
    in a mean of four a quarter of all values are halves.
    """
    inputs = ops.cast(inputs, "float32")
    step = (high - low) / STEPS
    middle = 128 * step + low
    return inputs + ops.stop_gradient(NUDGE * step * ops.sign(inputs - middle))


@contextlib.contextmanager
def as_converted(model: Any) -> Iterator[None]:
    """Within this, `model` has the graph that the LiteRT converter is to read.

    Raises:
        RuntimeError: If a range of `model` was never seen.
    """
    layers = ranges_of(model)
    for layer in layers:
        layer.require_range()
    try:
        for layer in layers:
            layer.exporting = True
        yield
    finally:
        for layer in layers:
            layer.exporting = False


@keras.saving.register_keras_serializable("kerastl")
class KeepFloat(keras.layers.Layer):
    """Marks what a layer gives that computes in float32: it returns what it is given.

    Between two ranges the converter would compute that layer in int8 after all, so nothing that
    reads it is rounded. The mark tells `quantization_report` so, also of a loaded model.
    """

    def call(self, inputs: TensorLike) -> TensorLike:
        return inputs


def ranges_of(model: Any) -> list[FakeQuantize]:
    """The `FakeQuantize` layers in a model, each once, in the order of the network."""
    layers = _keras.with_sublayers(model)
    return [layer for layer in layers if isinstance(layer, FakeQuantize)]
