"""How far a file is from the model it was made from, on real inputs."""

import dataclasses
import gzip
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from kerastl._base.text_table import markdown
from kerastl._base.types import Arrays, PathLike
from kerastl.export import flatbuffer
from kerastl.export.answers import answers_of
from kerastl.export.flatbuffer import Operation
from kerastl.export.litert_model import LiteRTModel
from kerastl.export.naming import AnyModel, graph_of, in_structure, inputs_by_name, output_names


@dataclasses.dataclass(frozen=True)
class Parity:
    """What `parity` measured. `str(parity)` is a table of it.

    Args:
        max_abs_error: Float, the largest difference of an output.
        mean_abs_error: Float, the mean difference.
        agreement: Float in [0, 1], how often both decide alike: for the same class, or of each
            label whether it is there; None where nothing is decided.
        num_examples: Int, examples compared.
        size_bytes: Int, size of the file.
        median_ms: Float, milliseconds a batch of the file takes on one thread, the median.
        operations: Dict from operation to how often it occurs in the file.
        model_accuracy: Float in [0, 1], how often the model is right (with several labels, the
            share of right decisions); None without labels.
        file_accuracy: The same for the file.
        gzip_bytes: Int, size of the file compressed by gzip.
        ops: Tuple of `Operation` with `op`, `dtype`, `weights` and `count`.
        int8_share: Float in [0, 1], the share of the operations on real numbers that compute in
            8-bit (or 16-bit) integers.
    """

    max_abs_error: float
    mean_abs_error: float
    agreement: float | None
    num_examples: int
    size_bytes: int
    median_ms: float
    operations: dict[str, int]
    model_accuracy: float | None = None
    file_accuracy: float | None = None
    gzip_bytes: int = 0
    ops: tuple[Operation, ...] = ()
    int8_share: float = 0.0

    def __str__(self) -> str:
        return self.table()

    def table(self) -> str:
        """A Markdown table of the figures, and one of the operations."""
        figures = [
            ("examples compared", f"{self.num_examples}"),
            ("largest difference of an output", f"{self.max_abs_error:.3g}"),
            ("mean difference", f"{self.mean_abs_error:.3g}"),
            ("same decision", _share(self.agreement)),
            ("accuracy of the model", _share(self.model_accuracy)),
            ("accuracy of the file", _share(self.file_accuracy)),
            ("size of the file", f"{self.size_bytes:,} bytes"),
            ("size by gzip", f"{self.gzip_bytes:,} bytes"),
            ("time for a batch, one thread", f"{self.median_ms:.3g} ms"),
            ("operations in integers", _share(self.int8_share)),
        ]
        rows = [(row.op, row.dtype, row.weights or "", f"{row.count}") for row in self.ops]
        return "\n\n".join(
            (
                markdown(("", "value"), [row for row in figures if row[1] != "-"]),
                markdown(("operation", "result", "weights", "count"), rows),
            )
        )


def parity(
    model: AnyModel,
    file: PathLike | LiteRTModel,
    data: Arrays,
    labels: Sequence[int] | np.ndarray | None = None,
    *,
    score: Callable[[np.ndarray, Any], float] | None = None,
    agree: Callable[[np.ndarray, np.ndarray], float | None] | None = None,
) -> Parity:
    """Compare a Keras model with a `.tflite` file on the same inputs.

    What a score decides is told by the model's last layer and by the loss that it was compiled
    with: the largest of several, one probability over 1/2, one logit over 0, or each label by
    itself.

    Args:
        model: `keras.Model`, or a functional model of tf_keras.
        file: Path of the file, or a `LiteRTModel` of it.
        data: Array of examples; for several inputs a dict by name or a list in order. Real ones:
            random inputs say little about a trained network.
        labels: Array of the examples' classes, as numbers or one-hot, or a column of 0 and 1 for
            each label, for a model with one output of class scores; None measures no accuracy.
        score: Function of `(outputs, labels)` to take in place of accuracy.
        agree: Function of the outputs of both that says how often they decide alike, in [0, 1] or
            None, in place of what the model says.

    Returns:
        A `Parity`.

    Raises:
        ValueError: If the two have other inputs or outputs, or labels do not fit.
    """
    lite = LiteRTModel(file.path if isinstance(file, LiteRTModel) else file, threads=1)
    graph = graph_of(model)
    named = inputs_by_name(graph, data)
    # A file of one input may call it as it likes.
    given = named if len(named) > 1 else next(iter(named.values()))
    theirs = lite.run(given)
    pairs = _paired(_named_outputs(model, graph, named), theirs)
    errors = [np.abs(ours.astype("float64") - other) for ours, other in pairs]
    answers = answers_of(model)
    score = score or answers[0].accuracy
    right = (None, None) if labels is None else _scores(pairs, labels, score)
    with open(lite.path, "rb") as opened:
        content = opened.read()
    table = flatbuffer.operation_table(content)
    return Parity(
        max_abs_error=float(max(error.max() for error in errors)),
        mean_abs_error=float(np.concatenate([error.ravel() for error in errors]).mean()),
        agreement=_agreement(pairs, [agree or one.agreement for one in answers]),
        num_examples=len(pairs[0][0]),
        size_bytes=lite.size_bytes,
        median_ms=lite.milliseconds(given),
        operations=flatbuffer.operations(content),
        model_accuracy=right[0],
        file_accuracy=right[1],
        gzip_bytes=len(gzip.compress(content, mtime=0)),
        ops=table,
        int8_share=integer_share(table),
    )


def integer_share(table: Sequence[Operation]) -> float:
    """The share of the operations on real numbers in `table` that compute in integers."""
    integer = sum(row.count for row in table if row.in_integers)
    floating = sum(row.count for row in table if row.in_float)
    return integer / max(1, integer + floating)


def _named_outputs(model, graph, named):
    outputs = keras.tree.flatten(model.predict(in_structure(graph, named), verbose=0))
    return dict(zip(output_names(graph), outputs, strict=True))


def _paired(ours, theirs):
    if len(ours) == len(theirs) == 1:
        pairs = [(*ours.values(), *theirs.values())]
    elif sorted(ours) == sorted(theirs):
        pairs = [(ours[name], theirs[name]) for name in ours]
    else:
        raise ValueError(
            f"The model has the outputs {sorted(ours)}, the file {sorted(theirs)}: "
            "they are not the same network."
        )
    for mine, other in pairs:
        if mine.shape != other.shape:
            raise ValueError(
                f"The model gives {mine.shape}, the file {other.shape}: "
                "they are not the same network."
            )
    return pairs


def _agreement(pairs, agree):
    shares = [alike(*pair) for alike, pair in zip(agree, pairs, strict=True)]
    shares = [share for share in shares if share is not None]
    return float(np.mean(shares)) if shares else None


def _scores(pairs, labels, score):
    if len(pairs) != 1:
        raise ValueError(
            f"`labels` are for a model with one output. Received: a model with {len(pairs)}. "
            "Pass labels=None."
        )
    return tuple(score(np.asarray(outputs), labels) for outputs in pairs[0])


def _share(value):
    return "-" if value is None else f"{value:.4f}"


def agreement(ours: np.ndarray, theirs: np.ndarray) -> float | None:
    """How often both have the same largest score, in [0, 1]; None for what is no class scores."""
    if ours.ndim != 2 or ours.shape[1] < 2:
        return None
    return float(np.mean(ours.argmax(1) == theirs.argmax(1)))
