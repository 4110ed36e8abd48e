"""What a converted file must pass before it is put in place."""

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kerastl._base.checks import listed
from kerastl.export import flatbuffer
from kerastl.export.litert_model import LiteRTModel
from kerastl.export.naming import AnyModel, in_structure, input_names, output_names
from kerastl.export.parity import agreement
from kerastl.export.quantization import MODES, Quantization

# A float file repeats the model's float32 arithmetic with operations fused: errors are near 1e-6
# of the outputs. One that lost its weights is off by the outputs themselves.
_TOLERANCE = 1e-3
EXAMPLES = 16  # run through a quantized file and its model
_AGREEMENT = 0.5  # of the classes; chance is far below, and so is a file that lost its signal
_OPEN_SIDE = 96  # pixels where a model takes any number of them; no network of Keras needs more
_OPEN_LENGTH = 8
_ROWS = 2
_NOTHING = "Nothing was written."
_WORDS = ("a", "the good film", "of no use")


def warn_of_float(content: bytes, quantization: Quantization | None) -> None:
    """Say which operations of a file that was to be integer throughout stayed float."""
    left = [row for row in flatbuffer.operation_table(content) if row.in_float]
    if MODES[quantization].calibrated and left:
        named = listed([f"{row.count} {row.op}" for row in left])
        warnings.warn(
            f"These operations stayed float32, because LiteRT has no {quantization} kernel for "
            f"them or the model does not quantize their inputs: {named}. The file works; an "
            "accelerator that takes integers only will not run it whole.",
            stacklevel=3,
        )


def check_outputs(
    model: AnyModel,
    graph: AnyModel,
    made: str,
    *,
    quantization: Quantization | None = None,
    samples: dict[str, np.ndarray] | None = None,
) -> None:
    """Run the file `made` beside the model: a converter that lost the weights is silent.

    Args:
        model: The model as it was given.
        graph: `graph_of(model)`.
        made: Path of the file.
        quantization: How it was quantized.
        samples: Dict from input name to examples; None makes some up.

    Raises:
        RuntimeError: If an output is not a number, or further from the model's than files of
            this quantization are.
    """
    lite = LiteRTModel(made)
    named = _examples(graph, lite, samples, quantization)
    answers = lite.run(named)
    received = [answers[name] for name in output_names(graph)]
    _compare(model, graph, named, received, quantization)


def check_same(
    model: AnyModel, graph: AnyModel, run: Callable[..., Any], count: int | None = None
) -> None:
    """Run what was exported beside the model, on made-up examples.

    Args:
        model: The model as it was given.
        graph: `graph_of(model)`.
        run: Function from a dict of arrays by name to what was exported gives, as a flat list in
            the order of the model's outputs.
        count: Int, examples at once, if it takes only so many.

    Raises:
        RuntimeError: If an output is not a number, or not the model's.
    """
    named = examples(graph, count or _ROWS)
    _compare(model, graph, named, run(named), None)


def _compare(model, graph, named, received, quantization):
    expected = keras.tree.flatten(model(in_structure(graph, named), training=False))
    expected = [np.asarray(keras.ops.convert_to_numpy(value), "float64") for value in expected]
    for ours, theirs in zip(expected, received, strict=True):
        theirs = np.asarray(theirs)
        if ours.shape != theirs.shape:
            fault = f"it gives {theirs.shape}, where the model gives {ours.shape}. {_NOTHING}"
        else:
            fault = (_difference if quantization is None else _loss)(ours, theirs, quantization)
        if fault:
            raise RuntimeError(f"What was exported does not repeat the model: {fault}")


def decibels(signal: np.ndarray, received: np.ndarray) -> float:
    """Signal over error, both as sums of squares, in decibels; NaN if either has NaN.

    Example:
        >>> round(decibels(np.array([10.0, 0.0]), np.array([9.0, 0.0])), 6)
        20.0
    """
    signal = np.asarray(signal, "float64")
    power, error = np.square(signal).sum(), np.square(signal - received).sum()
    if error == 0:
        return float("inf")
    return float(10 * np.log10(power / error)) if power else float("-inf")


def _difference(ours, theirs, _):
    limit = _TOLERANCE * max(1.0, float(np.abs(ours).max()))
    worst = float(np.abs(ours - theirs).max())
    if worst <= limit:  # NaN is not
        return None
    return (
        f"outputs differ by {worst:.3g}, where {limit:.3g} would do. {_NOTHING} A model "
        "that gives NaN, or whose `call` does more than its graph, cannot be exported; else "
        "report this."
    )


def _loss(ours, theirs, quantization):
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return "an output is not a number. Nothing was written."
    floor = MODES[quantization].floor_db
    reached, same = decibels(ours, theirs), agreement(ours, theirs)
    if reached >= floor or (same is not None and same >= _AGREEMENT):
        return None
    classes = "" if same is None else f" and the same class for {same:.0%} of the examples"
    return (
        f"with quantization={quantization!r} its outputs keep {reached:.1f} dB of signal over "
        f"error{classes}, where {floor:.0f} dB or {_AGREEMENT:.0%} is the least. "
        "Nothing was written. `to_litert_within` finds the layers that must stay float; training "
        "with quantization in the loop avoids it."
    )


def _examples(graph, lite, samples, quantization):
    if samples is not None:
        return {name: array[:EXAMPLES] for name, array in samples.items()}
    count = lite.batch_size or 1
    if quantization is not None:
        count = max(count, EXAMPLES)
    return examples(graph, count)


def examples(graph: AnyModel, count: int) -> dict[str, np.ndarray]:
    """Made-up inputs by name, `count` of each, all different: swapped outputs are then seen."""
    rng = np.random.default_rng(0)
    tensors = keras.tree.flatten(graph.input)
    made_up = [_made_up(tensor, count, rng) for tensor in tensors]
    return dict(zip(input_names(graph), made_up, strict=True))


def _made_up(tensor: Any, count: int, rng: np.random.Generator) -> np.ndarray:
    """Pixels for pictures, 0 and 1 for integers, words for strings, noise for the rest."""
    open_size = _OPEN_SIDE if len(tensor.shape) >= 4 else _OPEN_LENGTH
    shape = (count, *(open_size if side is None else side for side in tensor.shape[1:]))
    name = getattr(tensor.dtype, "name", tensor.dtype)
    if name == "string":
        return rng.choice(_WORDS, shape).astype(object)
    dtype = np.dtype(name)
    if dtype.kind != "f":
        numbers = rng.integers(0, 2, shape)
        if len(shape) > 1 and shape[-1] > 1:
            numbers[..., 0] = 1  # a mask shows something
        return numbers.astype(dtype)
    noise = rng.random(shape, dtype="float32")
    return (255 * noise if len(shape) == 4 else noise).astype(dtype)
