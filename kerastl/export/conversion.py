"""A SavedModel turned into the bytes of a LiteRT file: the one place that meets the converter.

`TFLiteConverter.from_keras_model` fails on Keras 3 models and `from_concrete_functions` writes
files without their weights, in silence (TensorFlow 2.21); a SavedModel on disk is what works.
"""

import contextlib
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl._base.checks import listed
from kerastl._base.errors import cause
from kerastl._base.files import full_disk
from kerastl._base.quiet import quiet
from kerastl._keras.masks import masks_for_integers
from kerastl.compression.quantize import as_converted
from kerastl.export import flatbuffer
from kerastl.export.naming import AnyModel, input_names, is_tf_keras, output_names
from kerastl.export.quantization import IoDtype, Quantization
from kerastl.export.saved_model import (
    has_fake_quant,
    layers_that_loop,
    layers_that_use,
    write_endpoint,
)


def saved_model(graph: AnyModel, signature: Any, folder: str, *, for_integers: bool = False) -> str:
    """Write `graph` in inference mode as a SavedModel; returns its path.

    Args:
        graph: Functional model of Keras 3 or tf_keras.
        signature: Tensor specifications in the structure the model takes.
        folder: Existing folder to write into.
        for_integers: Bool, whether activations are to become integers: masks then hide by less.
    """
    path = os.path.join(folder, "saved_model")
    masks = masks_for_integers() if for_integers else contextlib.nullcontext()
    with as_converted(graph), explaining(), muted(), masks:
        if is_tf_keras(graph):
            _save_tf_keras(graph, signature, path)
        else:
            write_endpoint(graph, lambda inputs: _numbered(graph(inputs)), signature, path)
    return path


def converted(
    saved: str,
    graph: AnyModel,
    *,
    quantization: Quantization | None = None,
    io_dtype: IoDtype = "float32",
    samples: dict[str, np.ndarray] | None = None,
) -> bytes:
    """The bytes of a LiteRT file made from the SavedModel at `saved`, with the model's own names.

    Args:
        saved: Path, as `saved_model` wrote it.
        graph: The model in it.
        quantization: A key of `quantization.MODES`.
        io_dtype: Dtype of the file's inputs and outputs; integer inputs of the model keep theirs.
        samples: Dict from input name to array `(samples, ...)`, to measure ranges on. None for
            modes that need none. Not read for models that bring their ranges (`has_fake_quant`).

    Raises:
        ValueError: If the model needs operations LiteRT lacks.
        RuntimeError: If the converter fails for another reason.
    """
    if samples is not None and has_fake_quant(saved):
        samples = None
    if samples is not None:
        refuse_loops(saved, graph, quantization)
    with explaining(saved, graph), muted():
        converter = configured(saved, quantization, samples)
        if io_dtype != "float32":
            dtype = getattr(tf, io_dtype)
            converter.inference_input_type = converter.inference_output_type = dtype
        content = converter.convert()
    return with_names(content, graph)


def configured(
    saved: str, quantization: Quantization | None, samples: dict[str, np.ndarray] | None
) -> Any:
    """A converter of the SavedModel at `saved`, set up but not run."""
    converter = tf.lite.TFLiteConverter.from_saved_model(saved)
    converter.experimental_enable_resource_variables = True  # as Keras's own exporter
    if quantization is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if samples is not None:
        converter.representative_dataset = lambda: one_by_one(samples)
    converter.target_spec.supported_ops = _operation_sets(
        quantization if samples is not None else None, tf.lite.OpsSet
    )
    return converter


def refuse_loops(saved: str, graph: AnyModel, quantization: Quantization | None) -> None:
    """Refuse to measure ranges in a loop over lists of tensors, which ends the process.

    The converter's calibrator (TensorFlow 2.21) writes where it may not; see decision 42.

    Raises:
        ValueError: If the model at `saved` has such a loop; names the layers.
    """
    loops = layers_that_loop(saved, graph)
    if loops:
        raise ValueError(
            f"`quantization={quantization!r}` cannot be had with layers that loop over time. "
            f"Received: {listed(loops)}. Build recurrent layers with unroll=True, pass "
            "quantization='dynamic', or train by `compression.quantize_aware`, whose file leaves "
            "them in float32. Nothing was written."
        )


def refuse_open_loops(saved: str, graph: AnyModel) -> None:
    """Refuse an open batch with loops over lists of tensors, whose sizes LiteRT wants to know.

    Raises:
        ValueError: If the model at `saved` has such a loop; names the layers.
    """
    loops = layers_that_loop(saved, graph)
    if loops:
        raise ValueError(
            "`batch_size` must be an int with layers that loop over time. Received: "
            f"batch_size=None, and {listed(loops)}. Pass batch_size=1, or build recurrent layers "
            "with unroll=True. Nothing was written."
        )


def one_by_one(samples: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """Dicts of one example each, as the calibrator wants them."""
    count = len(next(iter(samples.values())))
    for row in range(count):
        yield {name: array[row : row + 1] for name, array in samples.items()}


def with_names(content: bytes, graph: AnyModel) -> bytes:
    """`content` with the outputs called as in the model, and its inputs in the model's order."""
    outputs, order = _numbered(output_names(graph)), input_names(graph)
    return flatbuffer.renamed(content, inputs={}, outputs=outputs, order=order)


def _numbered(outputs):
    """A dict, as a signature must give, in the order of the nested `outputs`."""
    return {f"output_{k:03}": part for k, part in enumerate(keras.tree.flatten(outputs))}


def _save_tf_keras(model, signature, path):
    flat = keras.tree.flatten(signature)

    @tf.function(input_signature=flat, autograph=False)
    def serve(*tensors):
        inputs = keras.tree.pack_sequence_as(signature, tensors)
        return _numbered(model(inputs, training=False))

    tf.saved_model.save(model, path, signatures=serve)


def _operation_sets(quantization, sets):
    """First choice first; float kernels are the way out for operations that have no other.

    Flex operations are always let through, so that `needs_flex` can name them.
    """
    first = {
        "int8": [sets.TFLITE_BUILTINS_INT8],
        "int16x8": [sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8],
    }
    return [*first.get(quantization, []), sets.TFLITE_BUILTINS, sets.SELECT_TF_OPS]


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """Nothing of what the converter says to those who would write a converter."""
    with warnings.catch_warnings(), quiet():
        # It calibrates with an interpreter of its own, and warns its users of that.
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated")
        warnings.filterwarnings("ignore", r"\s*Warning: Enabling `experimental_preserve_all")
        yield


@contextlib.contextmanager
def explaining(saved: str | None = None, graph: AnyModel = None) -> Iterator[None]:
    """Turn the converter's errors into ones that say what to do."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # TensorFlow's own classes come from private modules
        raise _explained(error, saved, graph) from error


# What the converter, and the runtime that it measures ranges with, say of operations they lack.
_UNKNOWN = (
    r"'tf\.(\w+)' op is neither a custom op nor a flex op",
    r"\(Flex(\w+)\) failed to prepare",
)


def _explained(error: Exception, saved: str | None, graph: AnyModel) -> Exception:
    text = str(error)
    unknown = [name for pattern in _UNKNOWN for name in re.findall(pattern, text)]
    if unknown and saved is not None:
        return ValueError(_lacking(unknown, saved, graph))
    if (full := full_disk(error)) is not None:
        return full
    failure = RuntimeError(f"The model could not be converted to LiteRT: {cause(error)}")
    failure.__notes__ = getattr(error, "__notes__", [])
    return failure


def needs_flex(content: bytes, saved: str, graph: AnyModel, *, allow_flex: bool = False) -> bool:
    """Whether the file of these bytes has operations that the plain runtime lacks.

    Args:
        content: Bytes of a file.
        saved: Path of the SavedModel that it was made from.
        graph: The model in that.
        allow_flex: Bool, whether it may have any.

    Raises:
        ValueError: If it has and may not; names them, and the layers that use them.
    """
    custom = [
        name.removeprefix("CUSTOM:")
        for name in flatbuffer.operations(content)
        if name.startswith("CUSTOM:")
    ]
    if custom and not allow_flex:
        ship = ", or pass allow_flex=True and ship TensorFlow's Flex delegate with the app"
        raise ValueError(_lacking(custom, saved, graph, ship))
    return bool(custom)


def _lacking(operations, saved, graph, or_else=""):
    operations = list(dict.fromkeys(operations))
    layers = layers_that_use(saved, graph, [name.removeprefix("Flex") for name in operations])
    which = f"the layers that use them: {listed(layers)}" if layers else "the layers that use them"
    return (
        f"The model needs operations that LiteRT does not have: {listed(operations)}. "
        f"Replace {which}{or_else}. Nothing was written."
    )
