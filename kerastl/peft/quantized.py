"""Adapters beside a base whose kernels are int8, after Keras's own `model.quantize("int8")`.

Keras rounds the inputs of a quantized layer as well, row by row, and gives them the gradient that
its kernel, as floats, would give (straight through the rounding), so that adapters below learn. It
quantizes Dense, EinsumDense and Embedding; convolutions stay as they were, and so do adapters on
them.
"""

from collections.abc import Iterable
from typing import Any

import keras

from kerastl import _keras
from kerastl.graph.leaves import leaf_layers
from kerastl.graph.quantized import mode_of, quantized_layers

MODE = "int8"


def check_quantized(
    model: Any, method: Any, layers: Iterable[Any], training: Iterable[Any]
) -> None:
    """Refuse what cannot be right beside a quantized base.

    Args:
        model: `FineTuner`.
        method: `Method`.
        layers: The layers that it is to act on.
        training: The layers that are to train beside it.

    Raises:
        ValueError: If a layer is quantized otherwise than to int8, if `method` reads kernels, if a
            layer that is to train is quantized, or if Keras cuts
            the gradient.
    """
    quantized = quantized_layers(model)
    if not quantized:
        return
    for layer in quantized.values():
        if mode_of(layer) != MODE:
            raise ValueError(
                f"An adapter needs a base as it is, or quantized to int8, and {layer.name!r} is "
                f"quantized to {mode_of(layer)}. Load the base again and `quantize('int8')` it."
            )
    for layer in layers:
        if mode_of(layer) is not None and not method.acts_on_int8:
            raise ValueError(
                f"{type(method).__name__} reads the kernel that it acts on, and that of "
                f"{layer.name!r} is int8. Take LoRA, or load the base unquantized."
            )
        if mode_of(layer) is not None and getattr(layer, "logit_soft_cap", None) is not None:
            raise ValueError(
                f"{layer.name!r} caps what it gives when it is read backwards, which an adapter "
                "would have to come before, and it is int8. Leave it out of `where`, or of what "
                "is quantized: `quantize('int8', filters=...)`."
            )
    leaves = [leaf for layer in training for leaf in leaf_layers(layer)]
    still = [leaf for leaf in leaves if mode_of(leaf) is not None]
    if still:
        raise ValueError(
            f"{still[0].name!r} is to train beside the adapter, and its kernel is int8, which "
            "does not. Quantize the base before you put a new head on it, or leave the head out "
            "(`quantize('int8', filters=...)`); `also_train=()` trains the adapter alone."
        )
    _refuse_cut_gradient(model, quantized.values())


def _refuse_cut_gradient(model, quantized):
    """A quantized embedding that is read backwards gives what is below a wrong gradient.

    Seen in Keras 3.15.1: `ReversibleEmbedding._int8_call` rounds its inputs without the gradient
    that Dense and EinsumDense give, and what is left is that of the scale, which the largest
    input alone sets. It can go when Keras gives a gradient there.
    """
    ids = {id(layer) for layer in quantized}
    for node in _keras.graph_nodes(model):
        layer = node.operation
        reversible = isinstance(layer, keras.layers.ReversibleEmbedding) and id(layer) in ids
        if reversible and node.arguments.kwargs.get("reverse"):
            raise ValueError(
                f"{layer.name!r} is read backwards at the end of {model.name!r} and is int8: Keras "
                "gives what is below it a gradient through the scale of the rounding alone, which "
                "is wrong. Leave it out: "
                f"`quantize('int8', filters=lambda layer: layer.name != {layer.name!r})`."
            )
