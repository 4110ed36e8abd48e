"""Bottleneck adapters: two thin layers after a part of each block, or beside it."""

import dataclasses
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import keras
from keras import ops

from kerastl import _keras
from kerastl._base import checks
from kerastl.graph import flat_layers
from kerastl.graph.leaves import leaf_layers
from kerastl.peft.adapter import Adapter, Method, masked_as
from kerastl.peft.linear import CONVOLUTIONS

Style: TypeAlias = Literal["houlsby", "pfeiffer", "parallel"]
STYLES = ("houlsby", "pfeiffer", "parallel")
# The second layer of a feed-forward part and the first, by their names in one composite layer.
FEED_FORWARD = {
    "feedforward_output_dense": "feedforward_intermediate_dense",
    "dense_2": "dense_1",
}
ATTENTION_OUTPUT = "attention_output"


@keras.saving.register_keras_serializable(package="kerastl")
@dataclasses.dataclass(frozen=True)
class BottleneckAdapter(Method):
    """Two thin layers, down and up again, whose result is added to what a part of a block gives.

    With `y` what a layer gives, `adapter(y) = scale * up(activation(down(y)))`, and the block goes
    on with `y + adapter(y)`. `up` and both biases start at zero, so a fresh adapter is the
    identity; `down` begins uniform in `±1 / sqrt(features)`.

    - `"houlsby"`: after the output projection of attention and after the second layer of the
      feed-forward part.
    - `"pfeiffer"`: after the latter alone.
    - `"parallel"`: beside the feed-forward part: `f(x) + adapter(x)`, with `x` what it reads.

    These parts are known by their names in KerasHub. Outside of transformer blocks the first two
    also act after a `Dense` or one-axis `EinsumDense` that `where` names, and after convolutions,
    where down and up are convolutions of size 1 on the channels that it gives, before a
    normalization behind it. Depthwise convolutions, which mix no channels, have none.

    Args:
        style: `"houlsby"`, `"pfeiffer"` or `"parallel"`.
        reduction: Int >= 1, how many times fewer features there are between down and up.
        activation: String, the name of a Keras activation.
        scale: Float > 0; He et al. have 4 beside a feed-forward part, the others 1.

    Raises:
        ValueError, TypeError: If an argument is out of its range.

    Example:
        >>> from kerastl import FineTuner, peft
        >>> inputs = keras.Input((8, 8, 3))
        >>> x = keras.layers.Conv2D(32, 3, name="block_1_conv")(inputs)
        >>> x = keras.layers.GlobalAveragePooling2D()(x)
        >>> model = FineTuner(inputs, keras.layers.Dense(2, name="head")(x))
        >>> peft.add(model, peft.BottleneckAdapter()).weights  # 32 · 2 + 2 + 2 · 32 + 32
        162

    References:
        Houlsby et al., 2019, section 2.1, https://arxiv.org/abs/1902.00751; Pfeiffer et al., 2020,
        https://arxiv.org/abs/2005.00247; He et al., 2021, section 4.6,
        https://arxiv.org/abs/2110.04366. All of them draw `up` close to zero, or at it.
    """

    kinds = (keras.layers.Dense, keras.layers.EinsumDense, *CONVOLUTIONS)

    style: Style = "pfeiffer"
    reduction: int = 16
    activation: str = "relu"
    scale: float = 1.0

    def __post_init__(self) -> None:
        checks.one_of(self.style, STYLES, "style")
        checks.whole(self.reduction, 1, 1_000_000, "reduction")
        if not checks.in_range(self.scale, 0.0, 1e9, "scale") > 0:
            raise ValueError("`scale` must be above 0, or nothing is learnt. Received: scale=0")
        if not isinstance(self.activation, str):
            raise TypeError(
                "`activation` must be the name of a Keras activation, such as 'relu'. Received: "
                f"activation={self.activation!r}"
            )
        keras.activations.get(self.activation)

    @property
    def acts_on(self) -> str:
        pairs = checks.listed(f"'{first}' and '{second}'" for second, first in FEED_FORWARD.items())
        if self.style == "parallel":
            return f"feed-forward parts, which are two layers of one block called {pairs}"
        first = f"'{ATTENTION_OUTPUT}' and " if self.style == "houlsby" else ""
        return (
            f"{first}the second of {pairs} in a transformer block, in style {self.style!r}, and "
            "elsewhere on Dense, EinsumDense with one axis of outputs, Conv1D, Conv2D and Conv3D"
        )

    def fits(self, layer: keras.Layer) -> bool:
        return isinstance(layer, self.kinds) and _features(layer) is not None

    def targets(self, model: Any, groups: Any) -> list[keras.Layer]:
        """The parts of all transformer blocks; without any, all convolutions of the blocks."""
        inside = _leaves_of_blocks(model)
        if inside:
            return self.among(model, inside)
        if self.style == "parallel":
            raise ValueError(
                f"BottleneckAdapter in style 'parallel' acts on {self.acts_on}, and "
                f"{model.name!r} has none. Take style 'pfeiffer' or 'houlsby', which also act "
                "after convolutions."
            )
        return [one for one in super().targets(model, groups) if isinstance(one, CONVOLUTIONS)]

    def among(self, model: Any, chosen: Sequence[keras.Layer]) -> list[keras.Layer]:
        """Of transformer blocks what the style says, and elsewhere all that it fits."""
        ids, parts = {id(layer) for layer in chosen}, _feed_forward_parts(model)
        if self.style == "parallel":
            return [part for part, (_, second) in parts if id(second) in ids]
        inside = {id(leaf) for leaf in _leaves_of_blocks(model)}
        wanted = {id(second) for _, (_, second) in parts}
        if self.style == "houlsby":
            wanted |= {id(one) for one in chosen if one.name == ATTENTION_OUTPUT}
        return [
            one for one in chosen if self.fits(one) and (id(one) in wanted or id(one) not in inside)
        ]

    def adapter(self, layer: keras.Layer, path: str, *, name: str = "bottleneck") -> Adapter:
        if self.style == "parallel":
            return BesideFeedForward(layer, self, name=name)
        return AfterLayer(layer, self, name=name)


def _feed_forward_parts(model):
    """Pairs of each composite layer of `model` with a feed-forward part, and its two layers."""
    found = {id(one): one for layer in flat_layers(model) for one in _keras.with_sublayers(layer)}
    return [(one, pair) for one in found.values() if (pair := _pair_in(one)) is not None]


def _leaves_of_blocks(model):
    """The leaves of those flat layers that have a feed-forward part in them."""
    parts = {id(part) for part, _ in _feed_forward_parts(model)}
    blocks = [
        layer
        for layer in flat_layers(model)
        if any(id(one) in parts for one in _keras.with_sublayers(layer))
    ]
    return [leaf for block in blocks for leaf in leaf_layers(block)]


def _pair_in(layer) -> Any:
    """`(first, second)` layer of the feed-forward part of a composite layer, or None."""
    by_name = {one.name: one for one in _keras.sublayers(layer)}
    for second, first in FEED_FORWARD.items():
        pair = by_name.get(first), by_name.get(second)
        if all(isinstance(one, keras.layers.Dense) for one in pair):
            return pair
    return None


def _features(layer):
    """How many features, or channels, a layer gives; None where they fill several axes."""
    if isinstance(layer, keras.layers.EinsumDense):
        inputs, kernel, outputs = layer.equation.replace(" ", "").replace("->", ",").split(",")
        made = [axis for axis in outputs if axis in kernel and axis not in inputs]
        sizes = dict(zip(kernel, _keras.kernel_of(layer).shape, strict=True))
        return sizes[outputs[-1]] if made == [outputs[-1]] else None
    return layer.filters if isinstance(layer, CONVOLUTIONS) else layer.units


class _Bottleneck(Adapter):
    """Down, activation and up; what is common to both places.

    Args:
        layer: Built layer.
        method: `BottleneckAdapter`.
        sizes: Pair of ints, features that it reads and that it gives.
        name: String.
    """

    def __init__(
        self,
        layer: keras.Layer,
        method: BottleneckAdapter,
        sizes: tuple[int, int],
        *,
        name: str,
    ) -> None:
        super().__init__(layer, method, name=name)
        reads, gives = sizes
        width, bound = max(1, reads // method.reduction), 1 / math.sqrt(reads)
        uniform = keras.initializers.RandomUniform(-bound, bound)
        self.down = self.add_weight(shape=(reads, width), initializer=uniform, name="down")
        self.down_bias = self.add_weight(shape=(width,), initializer="zeros", name="down_bias")
        self.up = self.add_weight(shape=(width, gives), initializer="zeros", name="up")
        self.up_bias = self.add_weight(shape=(gives,), initializer="zeros", name="up_bias")
        self.activation = keras.activations.get(method.activation)

    def through(self, inputs: Any) -> Any:
        """`scale * up(activation(down(inputs)))` over the last axis, or the axis of channels."""
        hidden = self._product(inputs, self.down) + self._bias(self.down_bias, inputs)
        outputs = self._product(self.activation(hidden), self.up) + self._bias(self.up_bias, inputs)
        return self.beside.method.scale * outputs

    def _product(self, inputs, kernel):
        kernel, layer = self.cast(kernel, inputs), self.beside.layer
        if not isinstance(layer, CONVOLUTIONS):
            return ops.matmul(inputs, kernel)
        kernel = ops.reshape(kernel, (*(1,) * (len(inputs.shape) - 2), *kernel.shape))
        return ops.conv(inputs, kernel, padding="valid", data_format=layer.data_format)

    def _bias(self, bias, inputs):
        bias = self.cast(bias, inputs)
        if getattr(self.beside.layer, "data_format", None) != "channels_first":
            return bias
        return ops.reshape(bias, (-1, *(1,) * (len(inputs.shape) - 2)))


class AfterLayer(_Bottleneck):
    """`y + adapter(y)`, with `y` what one layer gives.

    Two at one layer would read one another, so they do not add up.
    """

    is_additive: ClassVar[bool] = False

    def __init__(self, layer: keras.Layer, method: BottleneckAdapter, *, name: str) -> None:
        features = _features(layer)
        if features is None:
            raise ValueError(f"{layer.name!r} gives several axes of features, not one.")
        super().__init__(layer, method, (features, features), name=name)

    def around(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        outputs = call(*args, **kwargs)
        return masked_as(outputs, outputs + self.through(outputs))


class BesideFeedForward(_Bottleneck):
    """`f(x) + adapter(x)`, with `f` a feed-forward part, which is no layer of its own.

    Its first layer hands `x` on, its second adds. A gate reads the same `x`.
    """

    def __init__(self, layer: keras.Layer, method: BottleneckAdapter, *, name: str) -> None:
        pair = _pair_in(layer)
        if pair is None:
            raise ValueError(
                f"BottleneckAdapter in style 'parallel' acts on {method.acts_on}. "
                f"{layer.name!r} has none."
            )
        reads = _keras.kernel_of(pair[0]).shape[0]
        super().__init__(layer, method, (reads, pair[1].units), name=name)
        self._handed_on = threading.local()

    def hooks(self) -> list[tuple[keras.Layer, str, Callable[..., Any]]]:
        first, second = _pair_in(self.beside.layer)
        return [(first, "call", self._hand_on), (second, "call", self.around)]

    def _hand_on(self, call: Callable[..., Any], inputs: Any, *args: Any, **kwargs: Any) -> Any:
        self._handed_on.inputs = inputs
        return call(inputs, *args, **kwargs)

    def around(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        outputs = call(*args, **kwargs)
        inputs = self._handed_on.__dict__.pop("inputs")
        return masked_as(outputs, outputs + self.through(ops.cast(inputs, outputs.dtype)))
