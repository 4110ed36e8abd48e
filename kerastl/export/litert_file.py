"""Writing a `.tflite` file that is known to work, or none."""

import os
from collections.abc import Sequence
from typing import Any

import keras

from kerastl._base import files
from kerastl._base.checks import listed
from kerastl._base.types import PathLike
from kerastl.export import calibration, metadata
from kerastl.export import labels as label_file
from kerastl.export.calibration import expected_ranges
from kerastl.export.conversion import converted, needs_flex, refuse_open_loops, saved_model
from kerastl.export.litert_model import LiteRTModel
from kerastl.export.naming import AnyModel, graph_of, in_float32
from kerastl.export.quantization import IoDtype, Quantization, checked, require_int8
from kerastl.export.saved_model import has_fake_quant, run_saved_model
from kerastl.export.verify import check_outputs, check_same, warn_of_float


def to_litert(  # noqa: PLR0913 (one for each thing that a file can have)
    model: AnyModel,
    path: PathLike,
    *,
    quantization: Quantization | None = None,
    io_dtype: IoDtype = "float32",
    representative_data: Any = None,
    batch_size: int | None = 1,
    labels: Sequence[str] | None = None,
    carried: metadata.Carried | None = None,
    allow_flex: bool = False,
) -> str:
    """Write a model as a LiteRT (`.tflite`) file, check it, and only then put it in place.

    What is written is the model's graph in inference mode; what a subclass does in `train_step`
    plays no part. The file takes what the model takes (kerastl's image models: RGB pixels 0 to
    255, float32), in batches of a fixed size, under the model's own input and output names.
    It is run beside the model, on `representative_data` or on made-up examples; a file that is
    wrong, or a disk that is full, leaves at `path` what was there before.

    | quantization | weights | arithmetic | size | for |
    | --- | --- | --- | --- | --- |
    | None | float32 | float32 | 1 | reference |
    | `"float16"` | float16 | float32 | 1/2 | GPU delegates |
    | `"dynamic"` | int8 | int8, ranges found on the run | 1/4 | transformers on a CPU |
    | `"int8"` | int8 | int8 throughout | 1/4 | convolutional networks; accelerators |
    | `"int16x8"` | int8 | int16 | 1/4 | accelerators; slow on a CPU |

    Args:
        model: Built `keras.Model` with fixed input shapes, apart from the batch. One of a mixed
            policy is written in float32, as its weights are. Or a functional model of tf_keras.
            One that went through quantization-aware training brings its ranges along: `"int8"`
            needs no `representative_data` and measures nothing on it. One from
            `compression.quantize_aware` can be written as `"int8"` only.
        path: Where to write; must end in `.tflite`, in a folder that exists.
        quantization: None, `"float16"`, `"dynamic"`, `"int8"` or `"int16x8"`.
        io_dtype: Dtype of inputs and outputs: `"float32"`; for int8 also `"int8"` or `"uint8"`,
            for int16x8 also `"int16"`. Integer inputs, such as token numbers, stay as they are.
            MediaPipe takes pictures as float32 or uint8.
        representative_data: Examples prepared as for training, to measure the ranges of
            activations on: an array (for several inputs a dict by name or a list); a tuple `(x,
            y)`, of which 100 are drawn, as many of each class; or a `tf.data.Dataset`, `PyDataset`,
            generator or function that makes one, of batches or examples of either. Needed for
            `"int8"` and `"int16x8"`.
        batch_size: Int, examples a call of the file takes. None leaves it open, which not every
            accelerator can run.
        labels: Sequence of class names, one for each output; written into the file as
            TFLite metadata, and beside it as `labels.txt`. None writes none.
        carried: `Carried`, what a network of texts needs besides, inside the file; or None.
        allow_flex: Bool, whether operations may be left in that the plain LiteRT runtime lacks.
            Such a file needs TensorFlow's Flex delegate, which Python has not: what the converter
            read is run beside the model in its place.

    Returns:
        String, the path.

    Raises:
        ValueError: If an argument is wrong, or the model needs operations LiteRT lacks.
        RuntimeError: If the file does not repeat the model's outputs, within what its
            quantization costs at most.
        OSError: If the file cannot be written.

    Warns:
        UserWarning: If the calibration data has not the range that the model takes, or if
            operations stayed float in a file that was to be integer.

    Example:
        >>> to_litert(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]), "model.bin")
        Traceback (most recent call last):
        ValueError: `path` must end in .tflite. Received: path='model.bin'

    References:
        Jacob et al., 2018, https://arxiv.org/abs/1712.05877
        https://ai.google.dev/edge/litert/models/quantization_spec
    """
    path = files.checked(path, ".tflite")
    mode = checked(quantization, io_dtype)
    graph = graph_of(model)
    require_int8(graph, quantization)
    signature = signature_of(graph, batch_size)
    if labels is not None:
        labels = label_file.checked(labels, num_outputs(graph))
    samples = None
    if representative_data is not None:
        samples = calibration.draw(graph, representative_data)
    if quantization == "int16x8":
        _refuse_integer_inputs(graph)
    with files.work_folder(path) as work, in_float32(graph):
        saved = saved_model(graph, signature, work, for_integers=mode.calibrated)
        if batch_size is None and not allow_flex:
            refuse_open_loops(saved, graph)
        if mode.calibrated and samples is None:
            need_ranges(saved, quantization)
        content = converted(
            saved,
            graph,
            quantization=quantization,
            io_dtype=io_dtype,
            samples=samples if mode.calibrated else None,
        )
        flex = needs_flex(content, saved, graph, allow_flex=allow_flex)
        made = os.path.join(work, "model.tflite")
        written(content, made)
        if flex:
            check_same(model, graph, run_saved_model(saved), batch_size)
        else:
            check_outputs(model, graph, made, quantization=quantization, samples=samples)
            warn_of_float(content, quantization)
            written(described(made, content, graph, labels, carried), made)
        put_in_place(made, path, labels)
    return path


def signature_of(graph: AnyModel, batch_size: int | None) -> Any:
    """One tensor specification an input, in the structure the model takes.

    Raises:
        ValueError: If the batch is no size, or an input has another open dimension.
    """
    import tensorflow as tf

    sized = isinstance(batch_size, int) and not isinstance(batch_size, bool) and batch_size >= 1
    if not sized and batch_size is not None:
        raise ValueError(
            f"`batch_size` must be an int >= 1, or None. Received: batch_size={batch_size!r}"
        )
    for tensor in keras.tree.flatten(graph.input):
        if tensor.dtype == "string":
            raise ValueError(
                f"`model` must take numbers. Received: input {tensor.name!r} of strings, which "
                "LiteRT cannot read. Export the part behind the layer that turns text into "
                "numbers, or write a SavedModel by `to_saved_model`."
            )
        if None in tuple(tensor.shape)[1:]:
            raise ValueError(
                "`model` must have fixed input shapes, apart from the batch. "
                f"Received: input {tensor.name!r} of shape {tuple(tensor.shape)}. "
                "Rebuild it on a keras.Input with sizes."
            )
    return keras.tree.map_structure(
        lambda t: tf.TensorSpec((batch_size, *t.shape[1:]), t.dtype, name=t.name), graph.input
    )


def written(content: bytes, path: PathLike) -> None:
    """Write the bytes `content` to the file `path`."""
    with open(path, "wb") as file:
        file.write(content)


def put_in_place(made: str, path: PathLike, labels: Sequence[str] | None) -> None:
    """Move a finished file, and its labels if it has any, to `path` and beside it."""
    if labels is not None:
        names = label_file.written(labels, os.path.dirname(made))
        folder = os.path.dirname(os.path.abspath(path))
        files.replaced(names, os.path.join(folder, label_file.FILE_NAME))
    files.replaced(made, path)


def described(
    made: str,
    content: bytes,
    graph: AnyModel,
    labels: Sequence[str] | None,
    carried: metadata.Carried | None = None,
) -> bytes:
    """`content`, which lies in the file `made`, with its metadata, labels and what it carries."""
    lite = LiteRTModel(made)
    files = [] if labels is None else [metadata.label_file(labels)]
    return metadata.embedded(
        content,
        lite.inputs,
        lite.outputs,
        name=graph.name,
        pixels=expected_ranges(graph),
        files=[*files, *(carried.files if carried else ())],
    )


def need_ranges(saved: str, name: Quantization | None) -> None:
    """Refuse to quantize activations without data, unless the model brings their ranges.

    Raises:
        ValueError: If it does not.
    """
    if name == "int8" and has_fake_quant(saved):
        return
    raise ValueError(
        f"`quantization={name!r}` needs `representative_data`, examples to measure the ranges of "
        "activations on. Received: None. About 100 examples are enough."
    )


def _refuse_integer_inputs(graph):
    whole = [t.name for t in keras.tree.flatten(graph.input) if "float" not in str(t.dtype)]
    if whole:
        raise ValueError(
            "`quantization='int16x8'` is for models that take floats only: the converter finds no "
            f"range for integer inputs. Received: integer inputs {listed(whole)}. "
            "Use 'dynamic' or 'int8'."
        )


def num_outputs(graph: AnyModel) -> int:
    """How many scores the one output of `graph` has.

    Raises:
        ValueError: If it has several outputs.
    """
    outputs = keras.tree.flatten(graph.output)
    if len(outputs) != 1:
        raise ValueError(
            "`labels` are for a model with one output. "
            f"Received: a model with {len(outputs)}. Pass labels=None."
        )
    return outputs[0].shape[-1]
