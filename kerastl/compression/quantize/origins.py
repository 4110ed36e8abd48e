"""What a folded layer was made of, and how its weights go there and back.

A batch normalization in inference mode multiplies each channel by `s = gamma / sqrt(variance +
epsilon)` and adds `beta - mean * s`. Folded into the layer before it, `kernel' = kernel * s` and
`bias' = (bias - mean) * s + beta`: Jacob et al., 2018, section 3.2, equation 14,
https://arxiv.org/abs/1712.05877.
"""

import dataclasses

import keras
import numpy as np

DEAD = 1e-12  # a channel scaled by less has no filter to speak of, and none to go back to


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A layer with a kernel, and the batch normalization that was folded into it.

    Attributes:
        layer: The original layer.
        norm: The original `BatchNormalization`, or None.
        attribute: Name of the kernel: that of a separable convolution has two.
        owns_bias: Whether the bias of `layer` belongs to this kernel.
    """

    layer: keras.Layer
    norm: keras.Layer | None = None
    attribute: str = "kernel"
    owns_bias: bool = True

    def give(self, new: keras.Layer) -> None:
        """Set the weights of the folded layer `new`."""
        kernel, bias = self._kernel(), self._bias()
        if self.norm is not None:
            scale, offset = affine(self.norm)
            kernel, bias = kernel * self._spread(scale), bias * scale + offset
        new.kernel.assign(kernel.reshape(new.kernel.shape).astype("float32"))
        if new.use_bias:
            new.bias.assign(np.broadcast_to(bias, new.bias.shape).astype("float32"))

    def take(self, new: keras.Layer) -> None:
        """Bring the weights of the folded layer `new` back into the original layers."""
        kernel = _array(new.kernel).reshape(self._kernel().shape)
        bias = _array(new.bias) if new.use_bias else None
        if self.norm is not None:
            _revive(self.norm)
            scale, offset = affine(self.norm)
            kernel = kernel / self._spread(scale)
            self._take_offset(self.norm, bias, scale, offset)
        elif bias is not None:
            self.layer.bias.assign(bias.astype("float32"))
        getattr(self.layer, self.attribute).assign(kernel.astype("float32"))

    def pairs(self, new: keras.Layer) -> list[tuple[keras.Variable, keras.Variable]]:
        """Each weight whose zeros are those of a weight of `new`, and that weight."""
        return [(getattr(self.layer, self.attribute), new.kernel)]

    def _take_offset(self, norm, bias, scale, offset):
        """The offset of the normalization takes what it can; the layer's bias stays."""
        missing = bias - (self._bias() * scale + offset)
        if norm.center:
            norm.beta.assign((_array(norm.beta) + missing).astype("float32"))
        else:
            mean = _array(norm.moving_mean) - missing / scale
            norm.moving_mean.assign(mean.astype("float32"))

    def _kernel(self):
        return _array(getattr(self.layer, self.attribute))

    def _bias(self):
        has = self.owns_bias and self.layer.use_bias
        return _array(self.layer.bias) if has else np.zeros(())

    def _spread(self, scale):
        """`scale`, one value an output channel, in the layout of the kernel."""
        if "Depthwise" in type(self.layer).__name__ or self.attribute == "depthwise_kernel":
            return scale.reshape(self._kernel().shape[-2:])
        return scale[:, None] if "Transpose" in type(self.layer).__name__ else scale


@dataclasses.dataclass(frozen=True)
class Scale:
    """A layer that multiplies and adds channel by channel, and became a 1 × 1 convolution.

    Attributes:
        layer: `BatchNormalization` with scale and offset, or a layer with a `gamma` alone.
    """

    layer: keras.Layer

    def give(self, new: keras.Layer) -> None:
        scale, offset = affine(self.layer)
        new.kernel.assign(scale.reshape(new.kernel.shape).astype("float32"))
        if new.use_bias:
            new.bias.assign(offset.astype("float32"))

    def take(self, new: keras.Layer) -> None:
        scale = _array(new.kernel).reshape(-1)
        if not new.use_bias:
            self.layer.gamma.assign(scale.astype("float32"))
            return
        mean, spread = _array(self.layer.moving_mean), _spread_of(self.layer)
        self.layer.gamma.assign((scale * spread).astype("float32"))
        self.layer.beta.assign((_array(new.bias) + mean * scale).astype("float32"))

    def pairs(self, new: keras.Layer) -> list[tuple[keras.Variable, keras.Variable]]:
        return []


@dataclasses.dataclass(frozen=True)
class Constant:
    """Layers without weights to learn, which became a 1 × 1 convolution that does not train.

    Attributes:
        scale: Array of one value a channel.
        offset: Array of one value a channel.
    """

    scale: np.ndarray
    offset: np.ndarray

    def give(self, new: keras.Layer) -> None:
        new.kernel.assign(self.scale.reshape(new.kernel.shape).astype("float32"))
        new.bias.assign(self.offset.astype("float32"))

    def take(self, new: keras.Layer) -> None:
        pass

    def pairs(self, new: keras.Layer) -> list[tuple[keras.Variable, keras.Variable]]:
        return []


@dataclasses.dataclass(frozen=True)
class Same:
    """A layer that stayed as it was.

    Attributes:
        layer: The original layer.
    """

    layer: keras.Layer

    def give(self, new: keras.Layer) -> None:
        for old, fresh in self.pairs(new):
            fresh.assign(old)
        if type(new) is keras.layers.Normalization:
            new.finalize_state()  # it computes with constants it derives from its weights

    def take(self, new: keras.Layer) -> None:
        for old, fresh in self.pairs(new):
            old.assign(fresh)

    def pairs(self, new: keras.Layer) -> list[tuple[keras.Variable, keras.Variable]]:
        return list(zip(self.layer.weights, new.weights, strict=True))


def affine(layer: keras.Layer) -> tuple[np.ndarray, np.ndarray]:
    """`(scale, offset)` of a layer that is an affine map of each channel in inference mode.

    Args:
        layer: `BatchNormalization`, `Rescaling`, `Normalization`, or a layer with a `gamma` alone.

    Returns:
        Two float64 arrays, of one value a channel or of none.
    """
    kind = type(layer).__name__
    if kind == "BatchNormalization":
        spread = _spread_of(layer)
        scale = (_array(layer.gamma) if layer.scale else 1.0) / spread
        return scale, (_array(layer.beta) if layer.center else 0) - _array(
            layer.moving_mean
        ) * scale
    if kind == "Rescaling":
        return np.asarray(layer.scale, "float64"), np.asarray(layer.offset, "float64")
    if kind == "Normalization":
        spread = np.maximum(np.sqrt(_array(layer.variance).ravel()), keras.config.epsilon())
        return 1 / spread, -_array(layer.mean).ravel() / spread
    scale = _array(layer.gamma)
    return scale, np.zeros_like(scale)


def _revive(norm):
    """Let a channel that was multiplied by zero pass as it is: its filter may have grown."""
    if not norm.scale:
        return
    dead = np.abs(affine(norm)[0]) < DEAD
    if dead.any():
        gamma = np.where(dead, _spread_of(norm), _array(norm.gamma))
        norm.gamma.assign(gamma.astype("float32"))


def _spread_of(norm):
    return np.sqrt(_array(norm.moving_variance) + norm.epsilon)


def _array(variable):
    return keras.ops.convert_to_numpy(variable).astype("float64")
