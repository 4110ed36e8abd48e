"""The head of a network that a regression can solve: its last Dense and what is behind it."""

import dataclasses
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from kerastl import _keras
from kerastl.training.probe.regressions import Classes, Labels, Linear, Numbers, Regression

if TYPE_CHECKING:
    from kerastl.training.fine_tuner import FineTuner


@dataclasses.dataclass(frozen=True, eq=False)
class Head:
    """The last Dense of a network.

    Attributes:
        layer: `keras.layers.Dense`.
        features: Symbolic tensor that it reads, of shape `(batch, num_features)`.
        regression: `Regression` for what it answers.
    """

    layer: keras.layers.Dense
    features: Any
    regression: Regression

    def set(self, linear: Linear) -> None:
        """Have the layer compute `linear`."""
        self.layer.kernel.assign(linear.kernel)
        if self.layer.use_bias:
            self.layer.bias.assign(linear.bias)

    def divide(self, temperature: float) -> None:
        """Divide the scores of the layer by `temperature`."""
        for variable in self.layer.weights:
            variable.assign(np.asarray(variable.numpy(), np.float64) / temperature)


def head_of(model: "FineTuner") -> Head:
    """The `Head` of `model`, read off its last layers and its loss.

    Raises:
        ValueError: If it does not end in a Dense on one vector an example, with nothing behind it
            but a softmax, a sigmoid or a Rescaling.
    """
    if len(model.outputs) != 1:
        raise ValueError(
            "A head is solved for one output. "
            f"Received: {model.name!r} with {len(model.outputs)} outputs"
        )
    behind: list[Any] = []
    tensor: Any = model.outputs[0]
    made_by: Any = _keras.producer_of(tensor)
    while isinstance(
        made_by, (keras.layers.Softmax, keras.layers.Activation, keras.layers.Rescaling)
    ):
        behind.append(made_by)
        (tensor,) = _keras.inputs_of(tensor)
        made_by = _keras.producer_of(tensor)
    dense: Any = made_by
    plain = isinstance(made_by, keras.layers.Dense) and len(tensor.shape) == 2
    if not plain or not dense.use_bias or dense.quantization_mode:
        raise ValueError(
            "A head is solved where a network ends in a Dense with a bias on one vector an "
            "example, behind which there may be a softmax, a sigmoid or a Rescaling. Received: "
            f"{model.name!r}, which ends in {made_by.name!r}, a {type(made_by).__name__}"
        )
    return Head(dense, _keras.inputs_of(tensor)[0], _regression(model, dense, behind))


def name_before_head(model: "FineTuner") -> str:
    """Name of the operation whose output the last Dense of `model` reads, before its dropout.

    Raises:
        ValueError: As in `head_of`.
    """
    tensor = head_of(model).features
    while isinstance(_keras.producer_of(tensor), keras.layers.Dropout):
        (tensor,) = _keras.inputs_of(tensor)
    return _keras.producer_of(tensor).name


def _regression(model, layer, behind):
    squashes = [_squash(layer), *map(_squash, reversed(behind))]
    said = [squash for squash in squashes if squash != "linear"]
    rescalings = [each for each in behind if isinstance(each, keras.layers.Rescaling)]
    if len(said) > 1 or (said and rescalings) or len(rescalings) > 1:
        raise ValueError(
            "Behind the last Dense there may be one softmax, one sigmoid or one Rescaling. "
            f"Received: {', '.join(squashes)} in {model.name!r}"
        )
    if said == ["softmax"]:
        return Classes(layer.units)
    if said == ["sigmoid"]:
        return Labels(layer.units)
    if not said:
        return _of_scores(model, layer, rescalings)
    raise ValueError(
        "A head is solved for a softmax, a sigmoid or plain numbers. "
        f"Received: {said[0]} in {model.name!r}"
    )


def _squash(layer):
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    activation = getattr(layer, "activation", keras.activations.linear)
    return str(keras.activations.serialize(activation))


def _of_scores(model, layer, rescalings):
    """Of a linear last layer, what the loss makes of its scores."""
    loss = getattr(model, "loss", None)
    if getattr(loss, "from_logits", False) and not rescalings:
        if isinstance(loss, keras.losses.BinaryCrossentropy):
            return Labels(layer.units, from_logits=True)
        return Classes(layer.units, from_logits=True)
    if not rescalings:
        return Numbers(layer.units)
    scale, offset = np.asarray(rescalings[0].scale), np.asarray(rescalings[0].offset)
    return Numbers(layer.units, scale, offset)
