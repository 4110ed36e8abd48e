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

import numpy as np
import tensorflow as tf

from kerastl._base.checks import listed
from kerastl._base.files import full_disk
from kerastl._base.quiet import quiet
from kerastl.compression.quantize import as_converted
from kerastl.export import flatbuffer
from kerastl.export.naming import AnyModel, is_tf_keras, output_names
from kerastl.export.quantization import IoDtype, Quantization


def saved_model(graph: AnyModel, signature: Any, folder: str) -> str:
    """Write `graph` in inference mode as a SavedModel; returns its path.

    Args:
        graph: Functional model of Keras 3 or tf_keras.
        signature: Tensor specifications in the structure the model takes.
        folder: Existing folder to write into.
    """
    path = os.path.join(folder, "saved_model")
    with as_converted(graph), _explaining(), muted():
        if is_tf_keras(graph):
            _save_tf_keras(graph, signature, path)
        else:
            graph.export(path, format="tf_saved_model", verbose=False, input_signature=[signature])
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
    with _explaining(), muted():
        converter = configured(saved, quantization, samples)
        import tensorflow as tf

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


def one_by_one(samples: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """Dicts of one example each, as the calibrator wants them."""
    count = len(next(iter(samples.values())))
    for row in range(count):
        yield {name: array[row : row + 1] for name, array in samples.items()}


def with_names(content: bytes, graph: AnyModel) -> bytes:
    """`content` with the outputs called as in the model; the exporter says output_0, output_1."""
    outputs = {f"output_{k}": name for k, name in enumerate(output_names(graph))}
    return flatbuffer.renamed(content, inputs={}, outputs=outputs)


def has_fake_quant(saved: str) -> bool:
    """Whether the SavedModel at `saved` brings its own ranges, as quantization-aware training
    leaves them."""
    from tensorflow.core.protobuf import saved_model_pb2

    with open(os.path.join(saved, "saved_model.pb"), "rb") as file:
        graph = saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs[0].graph_def
    nodes = [graph.node, *(function.node_def for function in graph.library.function)]
    return any(node.op.startswith("FakeQuantWithMinMax") for part in nodes for node in part)


def _save_tf_keras(model, signature, path):
    import keras

    flat = keras.tree.flatten(signature)

    @tf.function(input_signature=flat, autograph=False)
    def serve(*tensors):
        inputs = keras.tree.pack_sequence_as(signature, tensors)
        outputs = keras.tree.flatten(model(inputs, training=False))
        return {f"output_{k}": output for k, output in enumerate(outputs)}

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


class _explaining:
    """Turn the converter's errors into ones that say what to do."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        # TensorFlow's own classes come from private modules and have long texts.
        if error is not None and isinstance(error, Exception) and not isinstance(error, OSError):
            raise _explained(error) from error


def _explained(error: Exception) -> Exception:
    text = str(error)
    unknown = dict.fromkeys(
        re.findall(r"'tf\.(\w+)' op is neither a custom op nor a flex op", text)
    )
    if unknown:
        return ValueError(
            f"The model needs operations that LiteRT does not have: {listed(unknown)}. "
            "Replace the layers that use them. Nothing was written."
        )
    if (full := full_disk(error)) is not None:
        return full
    first = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    failure = RuntimeError(f"The model could not be converted to LiteRT: {first}")
    failure.__notes__ = getattr(error, "__notes__", [])
    return failure
