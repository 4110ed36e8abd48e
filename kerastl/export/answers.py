"""What a model's outputs mean: its last layer says it, and the loss that it was compiled with."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import keras
import numpy as np

from kerastl import _keras
from kerastl.export import flatbuffer
from kerastl.export.naming import is_tf_keras

Kind: TypeAlias = Literal["classes", "either", "labels", "numbers"]

_LOSSES = {
    "binary": "binarycrossentropy binaryfocalcrossentropy bce",
    "categorical": "categoricalcrossentropy sparsecategoricalcrossentropy kld kldivergence "
    "categoricalfocalcrossentropy categoricalgeneralizedcrossentropy categoricalhinge "
    "kullbackleiblerdivergence",
    "margin": "hinge squaredhinge",
    "numbers": "meansquarederror mse meanabsoluteerror mae huber logcosh poisson "
    "meanabsolutepercentageerror mape meansquaredlogarithmicerror msle cosinesimilarity",
}
_FAMILIES = {name: family for family, names in _LOSSES.items() for name in names.split()}
_PASS_ON = ("Reshape", "Flatten", "Identity", "Dropout", "Squeeze", "ExpandDims", "Cast")
_SQUASHES = {
    "softmax": "softmax",
    "logsoftmax": "logits",
    "sigmoid": "sigmoid",
    "hardsigmoid": "sigmoid",
    "linear": "linear",
}
_FILE_SQUASHES = {"SOFTMAX": "softmax", "LOG_SOFTMAX": "logits", "LOGISTIC": "sigmoid"}
_FILE_PASS_ON = ("QUANTIZE", "DEQUANTIZE", "RESHAPE", "CAST", "SQUEEZE", "EXPAND_DIMS")
_FILE_LINEAR = ("FULLY_CONNECTED", "CONV_2D", "ADD", "MEAN")
_SUM = 0.05  # of 1, within which a row of 8-bit probabilities adds up


@dataclasses.dataclass(frozen=True)
class Answers:
    """How to read the scores of one output.

    Attributes:
        kind: `"classes"`, one score for each of several classes; `"either"`, one score of two
            classes; `"labels"`, one score for each label; `"numbers"`; or None if nothing says.
        logits: Bool, whether scores are logits, and not probabilities; None if nothing says, and
            then the scores do: probabilities lie in [0, 1], those of classes add up to 1.
        width: Int, scores a row, or None.
    """

    kind: Kind | None = None
    logits: bool | None = None
    width: int | None = dataclasses.field(default=None, compare=False, repr=False)

    def probabilities(self, outputs: Any) -> np.ndarray:
        """Float64 array `(n, classes)` or `(n, labels)`; two columns for one score of two classes.

        Example:
            >>> Answers("either", logits=True).probabilities([[0.0]])
            array([[0.5, 0.5]])
        """
        scores = np.asarray(outputs, "float64")
        if self.kind in ("either", "labels"):
            shares = _sigmoid(scores) if self._are_logits(scores) else np.clip(scores, 0, 1)
            return shares if self.kind == "labels" else np.concatenate([1 - shares, shares], -1)
        if self.kind == "numbers":
            return scores
        if self._are_logits(scores):
            scores = np.exp(scores - scores.max(-1, keepdims=True))
        total = scores.sum(-1, keepdims=True)
        return scores / np.where(total > 0, total, 1)

    def decided(self, outputs: Any) -> np.ndarray | None:
        """The class of each row, or of each label whether it is there; None for numbers.

        Example:
            >>> Answers("either", logits=True).decided([[-0.1], [0.1]])
            array([0, 1])
        """
        scores = np.asarray(outputs)
        if self.kind == "classes" or (
            self.kind is None and scores.ndim == 2 and scores.shape[1] > 1
        ):
            return scores.argmax(-1)
        if self.kind not in ("either", "labels"):
            return None
        there = (scores > (0 if self._are_logits(scores) else 0.5)).astype(int)
        return there[..., 0] if self.kind == "either" else there

    def agreement(self, ours: Any, theirs: Any) -> float | None:
        """The share of decisions that are the same, in [0, 1]; None where nothing is decided."""
        first, second = self.decided(ours), self.decided(theirs)
        return None if first is None or second is None else float(np.mean(first == second))

    def accuracy(self, outputs: Any, labels: Any) -> float:
        """The share of right decisions, in [0, 1]; of labels, each counts as one.

        Args and errors as of `right`.
        """
        return float(np.mean(self.right(outputs, labels)))

    def right(self, outputs: Any, labels: Any) -> np.ndarray:
        """Whether each decision is right: booleans, one a row, or one for each label of it.

        Args:
            outputs: Array of scores.
            labels: Class numbers or one-hot rows; of labels, one column for each.

        Raises:
            ValueError: If the two do not go together.
        """
        scores, known = np.asarray(outputs), np.asarray(labels)
        reads = self._for(scores, known)
        found = reads.decided(scores)
        if reads.kind == "classes" and known.shape == scores.shape:
            known = known.argmax(-1)
        elif reads.kind == "either":
            known = known.argmax(-1) if known.shape[1:] == (2,) else (known > 0.5).astype(int)
        elif reads.kind == "labels":
            known = (known > 0.5).astype(int)
        if found is None or found.size != known.size or len(found) != len(known):
            raise ValueError(
                "`labels` must be one class for each row of class scores. "
                f"Received: labels of shape {np.shape(labels)}, scores of shape {scores.shape}"
            )
        return found == known.reshape(found.shape)

    def _for(self, scores, known):
        """The same, and where nothing says, as class numbers or rows of labels say."""
        if self.kind not in (None, "numbers"):
            return self
        whole = bool(np.all(known == np.rint(known)))
        if scores.ndim != 2 or not whole:
            raise ValueError(
                "`labels` are for class scores, and say classes by whole numbers. Received: labels "
                f"of shape {known.shape} and dtype {known.dtype}, scores of shape {scores.shape}. "
                "Pass `score`, a function of (outputs, labels), for other outputs."
            )
        logits = self.logits if self.kind is None else False  # numbers learnt 0 and 1
        if scores.shape[1] == 1:
            return Answers("either", logits)
        rows = known.shape == scores.shape and not (known.sum(-1) == 1).all()
        return Answers("labels" if rows else "classes", logits)

    def _are_logits(self, scores):
        if self.logits is not None:
            return self.logits
        if (scores < 0).any():
            return True
        if self.kind in ("either", "labels"):
            return bool((scores > 1).any())
        return not np.allclose(scores.sum(-1), 1, atol=_SUM)


def answers_of(model: Any, loss: Any = None) -> list[Answers]:
    """`Answers` for each output of a model, as `keras.tree.flatten` lists them.

    Args:
        model: Functional or Sequential model of Keras or tf_keras.
        loss: The loss it was compiled with, or the configuration of that; None takes the model's.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        >>> model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
        >>> answers_of(model)
        [Answers(kind='either', logits=True)]
    """
    tensors = keras.tree.flatten(model.outputs)
    losses = _losses(getattr(model, "loss", None) if loss is None else loss)
    if len(losses) != len(tensors):
        losses = [losses[0] if len(losses) == 1 else None] * len(tensors)
    if is_tf_keras(model):  # names its outputs after their layers
        squashes = [_squash_of(model.get_layer(name)) for name in model.output_names]
    else:
        squashes = map(_squash, tensors)
    return [
        read_scores(squash, tuple(tensor.shape)[-1], loss)
        for squash, tensor, loss in zip(squashes, tensors, losses, strict=True)
    ]


def answers_of_file(content: bytes, width: int) -> Answers:
    """`Answers` of the bytes of a `.tflite` with one output of `width` scores."""
    edges = flatbuffer.edges(content)
    made = {name: (op, inputs) for op, inputs, outputs in edges for name in outputs}
    op, inputs = (edges[-1][0], edges[-1][1]) if edges else ("", [])
    while op in _FILE_PASS_ON and inputs and inputs[0] in made:
        op, inputs = made[inputs[0]]
    squash = _FILE_SQUASHES.get(op) or ("linear" if op in _FILE_LINEAR else None)
    return read_scores(squash, width, None)


def read_scores(squash: str | None, width: int | None, loss: Any) -> Answers:
    """`Answers` of scores that come out of `squash`, so many a row, trained on `loss`.

    Args:
        squash: `"softmax"`, `"sigmoid"`, `"linear"`, `"logits"` (of classes), or None.
        width: Int, scores a row.
        loss: Name, object or configuration of a loss, or None.
    """
    return dataclasses.replace(_read(squash, width, *_family(loss)), width=width)


def _read(squash, width, family, from_logits):
    if squash in ("softmax", "logits"):
        return Answers("classes", squash == "logits")
    if squash == "sigmoid":
        several = "classes" if family == "categorical" else "labels"
        return Answers("either" if width == 1 else several, False)
    if family == "numbers":
        return Answers("numbers")
    unsaid = True if squash == "linear" else None
    if family is None:
        return Answers(None, unsaid)
    logits = True if family == "margin" or from_logits else None if squash == "linear" else False
    if width == 1:
        return Answers("either", logits)
    return Answers("classes" if family == "categorical" else "labels", logits)


def _squash(tensor):
    while True:
        made_by: Any = _keras.producer_of(tensor)
        kind = type(made_by).__name__
        if isinstance(made_by, keras.Model) and getattr(made_by, "outputs", None):
            tensor = keras.tree.flatten(made_by.outputs)[0]
        elif kind in _PASS_ON and len(_keras.inputs_of(tensor)) == 1:
            (tensor,) = _keras.inputs_of(tensor)
        else:
            return _squash_of(getattr(made_by, "layer", made_by))


def _squash_of(layer):
    """What `layer` squashes its result by, or None if nobody knows."""
    if type(layer).__name__ == "Rescaling":
        return "linear"
    activation = getattr(layer, "activation", None)
    named = type(layer).__name__ if activation is None else getattr(activation, "__name__", "")
    return _SQUASHES.get(_plain(named))


def _losses(loss):
    """One loss an output, of what `compile` was given or what its configuration says."""
    if isinstance(loss, Mapping) and "class_name" not in loss:
        return [loss[name] for name in loss]
    return list(loss) if isinstance(loss, (list, tuple)) else [loss]


def _family(loss):
    """The family of a loss and whether it takes logits, as far as its name says."""
    if isinstance(loss, Mapping):
        config = loss.get("config")
        if isinstance(config, str):  # a function by its name
            return _FAMILIES.get(_plain(config)), False
        return _FAMILIES.get(_plain(str(loss.get("class_name")))), bool(
            (config or {}).get("from_logits", False)
        )
    if isinstance(loss, keras.Loss):
        return _FAMILIES.get(_plain(type(loss).__name__)), getattr(loss, "from_logits", False)
    named = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    return _FAMILIES.get(_plain(named)), bool(getattr(loss, "from_logits", False))


def _plain(name):
    return name.lower().replace("_", "")


def _sigmoid(scores: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(scores / 2))
