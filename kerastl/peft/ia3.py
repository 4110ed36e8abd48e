"""IA3: keys, values and what is inside the feed-forward part are scaled."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kerastl._base import checks
from kerastl._keras import kernel_of
from kerastl.peft.adapter import Adapter, Method, changed_before_activation
from kerastl.peft.bank import paths_of
from kerastl.peft.linear import DENSE, LINEAR, linear_of

# Paths of KerasHub 0.32.0: encoders, decoders, Llama and its like; Gemma; ViT; T5.
KEYS_AND_VALUES = r".*/(key|value)(_projector)?"
SECOND_FEED_FORWARD = (
    r".*/(feedforward_output_dense|ffw_linear|mlp/dense_2)|[^/]+_layer_\d+/output_projector"
)


@keras.saving.register_keras_serializable(package="kerastl")
@dataclasses.dataclass(frozen=True)
class IA3(Method):
    """Keys, values and the inputs of the second feed-forward layer are multiplied by vectors.

    `l_k * (x @ W_k + b_k)`, `l_v * (x @ W_v + b_v)` and `(l_ff * h) @ W_2 + b_2`, each `l` one at
    first, so that a fresh adapter changes nothing. Layers are told apart by their paths: by itself
    it finds those of KerasHub's BERT, GPT-2, Llama, Gemma, T5 and ViT, and has no meaning for a
    network without attention. Of layers that `where` names, those that match `inputs` are scaled
    at their inputs, all others at their outputs, before the activation. Scales do not add up with
    other adapters of the same layer.

    Args:
        outputs: String, regex of the whole paths of layers whose outputs are scaled.
        inputs: String, regex of the whole paths of layers whose inputs are scaled; those must be
            `Dense` or `EinsumDense`.

    Raises:
        ValueError: If one is no regex.

    Example:
        >>> IA3().scales_inputs("transformer_layer_0/feedforward_output_dense")
        True
        >>> IA3().scales_inputs("transformer_layer_0/self_attention/key")
        False

    References:
        Liu et al., 2022, section 3.3, https://arxiv.org/abs/2205.05638
    """

    kinds = LINEAR

    outputs: str = KEYS_AND_VALUES
    inputs: str = SECOND_FEED_FORWARD

    def __post_init__(self) -> None:
        for name in ("outputs", "inputs"):
            pattern = getattr(self, name)
            try:
                re.compile(pattern)
            except (re.error, TypeError) as error:
                raise ValueError(
                    f"`{name}` must be a regex of layer paths. Received: {name}={pattern!r}"
                ) from error

    def scales_inputs(self, path: str) -> bool:
        """Whether the layer of this path is scaled at its inputs, not at its outputs."""
        return re.fullmatch(self.inputs, path) is not None

    def targets(self, model: Any, groups: Any) -> list[keras.Layer]:
        paths = paths_of(model)

        def is_meant(layer):
            path = paths[id(layer)]
            return self.scales_inputs(path) or re.fullmatch(self.outputs, path)

        found = [layer for layer in super().targets(model, groups) if is_meant(layer)]
        if not found:
            raise ValueError(
                f"IA3 scales keys, values and feed-forward parts of attention networks, and found "
                f"none by their paths in {model.name!r} (groups {checks.listed(groups, 12)}). "
                "Give its regexes `outputs` and `inputs`, name layers by `where`, or take another "
                "method, such as `NormTuning` or `LoRA`."
            )
        return found

    def adapter(self, layer: keras.Layer, path: str, *, name: str = "ia3") -> Adapter:
        if not self.scales_inputs(path):
            return OutputScale(layer, self, name=name)
        if not isinstance(layer, DENSE):
            raise ValueError(
                f"IA3 scales inputs of Dense and EinsumDense alone, and {path!r} is a "
                f"{type(layer).__name__}. Received: inputs={self.inputs!r}"
            )
        return InputScale(layer, self, name=name)


class OutputScale(Adapter):
    """One factor for each output of a layer.

    Args:
        layer: Built layer.
        method: `IA3`.
        name: String.

    Attributes:
        linear: `Linear` of the layer.
        scale: Variable, `(outputs,)`.
    """

    is_additive = False

    def __init__(self, layer: keras.Layer, method: IA3, *, name: str) -> None:
        super().__init__(layer, method, name=name)
        self.linear = linear_of(layer)
        shape = (self.linear.num_outputs,)
        self.scale = self.add_weight(shape=shape, initializer="ones", name="scale")

    def around(self, call: Callable[..., Any], inputs: Any, *args: Any, **kwargs: Any) -> Any:
        def changed(outputs):
            scale = self.cast(self.scale, outputs)
            return outputs * self.linear.over_outputs(scale, len(outputs.shape))

        return changed_before_activation(self.beside.layer, call, changed, inputs, *args, **kwargs)

    def merged(self) -> list[tuple[keras.Variable, Any]]:
        layer, scale = self.beside.layer, self.whole(self.scale)
        kernel, bias = kernel_of(layer), getattr(layer, "bias", None)
        matrix = self.linear.to_matrix(self.whole(kernel))
        pairs = [(kernel, self.linear.to_kernel(matrix * scale))]
        if bias is None:
            return pairs
        if isinstance(layer, keras.layers.EinsumDense):
            scale = self._as_bias(scale, bias)
        return [*pairs, (bias, self.whole(bias) * scale)]

    def _as_bias(self, scale, bias):
        """The scale in the shape of the bias of an `EinsumDense`, which goes with its outputs."""
        layer = self.beside.layer
        shaped = self.linear.over_outputs(scale, len(layer.equation.split("->")[1].strip(". ")))
        shape, size = tuple(shaped.shape), len(bias.shape)
        if shape[-size:] != tuple(bias.shape) or any(side != 1 for side in shape[:-size]):
            raise ValueError(
                f"IA3 cannot be merged into {layer.name!r}: its bias of shape {tuple(bias.shape)} "
                f"is shared by outputs that have scales of their own, {shape}."
            )
        return ops.reshape(shaped, bias.shape)


class InputScale(Adapter):
    """One factor for each input of a layer.

    Args:
        layer: Built `Dense` or `EinsumDense`.
        method: `IA3`.
        name: String.

    Attributes:
        linear: `Linear` of the layer.
        scale: Variable, `(inputs,)`.
    """

    is_additive = False

    def __init__(self, layer: keras.Layer, method: IA3, *, name: str) -> None:
        super().__init__(layer, method, name=name)
        self.linear = linear_of(layer)
        shape = (self.linear.num_inputs,)
        self.scale = self.add_weight(shape=shape, initializer="ones", name="scale")

    def around(self, call: Callable[..., Any], inputs: Any, *args: Any, **kwargs: Any) -> Any:
        scale = self.linear.over_inputs(self.cast(self.scale, inputs), len(inputs.shape))
        return call(inputs * scale, *args, **kwargs)

    def merged(self) -> list[tuple[keras.Variable, Any]]:
        kernel, scale = kernel_of(self.beside.layer), self.whole(self.scale)
        matrix = self.linear.to_matrix(self.whole(kernel))
        return [(kernel, self.linear.to_kernel(scale[:, None] * matrix))]
