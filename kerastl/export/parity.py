"""How far a file is from the model it was made from, on real inputs."""

import dataclasses
import statistics
import time

import keras
import numpy as np

from kerastl.export import flatbuffer
from kerastl.export.litert_model import LiteRTModel
from kerastl.export.naming import graph_of, inputs_by_name, output_names

_WARM_UP, _RUNS = 3, 20


@dataclasses.dataclass(frozen=True)
class Parity:
    """What `parity` measured.

    Args:
        max_abs_error: Float, the largest difference of an output.
        mean_abs_error: Float, the mean difference.
        agreement: Float in [0, 1], how often both have the same largest output; None where the
            outputs are no class scores.
        num_examples: Int, examples compared.
        size_bytes: Int, size of the file.
        median_ms: Float, milliseconds a batch of the file takes on one thread, the median.
        operations: Dict from operation to how often it occurs in the file.
    """

    max_abs_error: float
    mean_abs_error: float
    agreement: float | None
    num_examples: int
    size_bytes: int
    median_ms: float
    operations: dict


def parity(model, file, data):
    """Compare a Keras model with a `.tflite` file on the same inputs.

    Args:
        model: `keras.Model`.
        file: Path of the file, or a `LiteRTModel` of it.
        data: Array of examples; for several inputs a dict by name or a list in order. Real ones:
            random inputs say little about a trained network.

    Returns:
        A `Parity`.

    Raises:
        ValueError: If the two have other inputs or outputs.
    """
    lite = LiteRTModel(file.path if isinstance(file, LiteRTModel) else file, threads=1)
    graph = graph_of(model)
    named = inputs_by_name(graph, data)
    theirs = lite.run(named)
    pairs = _paired(_named_outputs(model, graph, data), theirs)
    errors = [np.abs(ours.astype("float64") - other) for ours, other in pairs]
    with open(lite.path, "rb") as opened:
        operations = flatbuffer.operations(opened.read())
    return Parity(
        max_abs_error=float(max(error.max() for error in errors)),
        mean_abs_error=float(np.concatenate([error.ravel() for error in errors]).mean()),
        agreement=_agreement(pairs),
        num_examples=len(pairs[0][0]),
        size_bytes=lite.size_bytes,
        median_ms=_median_ms(lite, named),
        operations=operations,
    )


def _named_outputs(model, graph, data):
    outputs = keras.tree.flatten(model.predict(data, verbose=0))
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


def _agreement(pairs):
    scores = [pair for pair in pairs if pair[0].ndim == 2 and pair[0].shape[1] > 1]
    if not scores:
        return None
    same = [ours.argmax(1) == other.argmax(1) for ours, other in scores]
    return float(np.mean(same))


def _median_ms(lite, data):
    batch = lite.inputs[0].shape[0]
    sample = {name: array[:batch] for name, array in data.items()}
    times = []
    for _ in range(_WARM_UP + _RUNS):
        start = time.perf_counter()
        lite.run(sample)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[_WARM_UP:])
