"""Writing a `.tflite` file that is known to work, or none."""

import errno
import os
import re
import tempfile

import keras

from kerastl._checks import listed
from kerastl._quiet import quiet
from kerastl.export import flatbuffer
from kerastl.export import labels as label_file
from kerastl.export.naming import graph_of, output_names
from kerastl.export.verify import check_outputs, needs_flex


def to_litert(model, path, *, quantization=None, batch_size=1, labels=None, allow_flex=False):
    """Write a model as a LiteRT (`.tflite`) file, check it, and only then put it in place.

    What is written is the model's graph in inference mode; what a subclass does in `train_step`
    plays no part. The file takes what the model takes (kerastl's image models: RGB pixels 0 to
    255, float32), in batches of a fixed size, under the model's own input and output names.
    It is run once on a made-up example and compared with the model; a file that is
    wrong, or a disk that is full, leaves at `path` what was there before.

    Args:
        model: Built `keras.Model` with fixed input shapes, apart from the batch.
        path: Where to write; must end in `.tflite`, in a folder that exists.
        quantization: None: weights and arithmetic stay float32.
        batch_size: Int, examples a call of the file takes.
        labels: Sequence of class names, one for each output; written beside the file
            as `labels.txt`. None writes none.
        allow_flex: Bool, whether operations may be left in that the plain LiteRT runtime lacks.
            Such a file needs TensorFlow's Flex delegate and is not run here.

    Returns:
        String, the path.

    Raises:
        ValueError: If an argument is wrong, or the model needs operations LiteRT lacks.
        RuntimeError: If the file does not repeat the model's outputs.
        OSError: If the file cannot be written.

    Example:
        >>> to_litert(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]), "model.bin")
        Traceback (most recent call last):
        ValueError: `path` must end in .tflite. Received: path='model.bin'
    """
    path = _checked_path(path)
    if quantization is not None:
        raise ValueError(
            "`quantization` must be None: this version writes float32 files only. "
            f"Received: quantization={quantization!r}"
        )
    graph = graph_of(model)
    signature = _signature(graph, batch_size)
    if labels is not None:
        labels = label_file.checked(labels, _num_outputs(graph))
    try:
        with _work_folder(path) as work:
            # The graph alone: a compiled model would drag its optimizer through the conversion.
            made = _converted(graph, signature, work)
            if not needs_flex(made, allow_flex):
                check_outputs(model, graph, made)
            _put_in_place(made, path, labels)
    except OSError as error:
        if error.errno is None:
            raise
        # The name that failed is a temporary one; the user knows this one.
        raise OSError(error.errno, os.strerror(error.errno), path) from error
    return path


def _work_folder(path):
    # Beside the goal, so that the last step is a rename and cannot stop half-way.
    folder = os.path.dirname(os.path.abspath(path))
    return tempfile.TemporaryDirectory(dir=folder, prefix=".export-")


def _put_in_place(made, path, labels):
    if labels is not None:
        names = label_file.written(labels, os.path.dirname(made))
        os.replace(
            names, os.path.join(os.path.dirname(os.path.abspath(path)), label_file.FILE_NAME)
        )
    os.replace(made, path)


def _checked_path(path):
    path = os.fspath(path)
    if not path.endswith(".tflite"):
        raise ValueError(f"`path` must end in .tflite. Received: path={path!r}")
    if not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        raise FileNotFoundError(f"The folder of `path` must exist. Received: path={path!r}")
    return path


def _num_outputs(graph):
    outputs = keras.tree.flatten(graph.output)
    if len(outputs) != 1:
        raise ValueError(
            "`labels` are for a model with one output. "
            f"Received: a model with {len(outputs)}. Pass labels=None."
        )
    return outputs[0].shape[-1]


def _signature(graph, batch_size):
    """One tensor specification an input, in the structure the model takes."""
    import tensorflow as tf

    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"`batch_size` must be an int >= 1. Received: batch_size={batch_size!r}")
    for tensor in graph.inputs:
        if None in tensor.shape[1:]:
            raise ValueError(
                "`model` must have fixed input shapes, apart from the batch. "
                f"Received: input {tensor.name!r} of shape {tuple(tensor.shape)}. "
                "Rebuild it on a keras.Input with sizes."
            )
    return keras.tree.map_structure(
        lambda t: tf.TensorSpec((batch_size, *t.shape[1:]), t.dtype, name=t.name), graph.input
    )


def _converted(graph, signature, folder):
    """A file with the model's own names; `graph.export` calls its outputs output_0, output_1."""
    made = os.path.join(folder, "model.tflite")
    try:
        with quiet():
            graph.export(made, format="litert", verbose=False, input_signature=[signature])
    except OSError:
        raise
    except Exception as error:  # TensorFlow's own classes, of private modules and with long texts
        raise _explained(error) from error
    with open(made, "rb") as file:
        content = file.read()
    outputs = {f"output_{k}": name for k, name in enumerate(output_names(graph))}
    with open(made, "wb") as file:
        file.write(flatbuffer.renamed(content, inputs={}, outputs=outputs))
    return made


def _explained(error):
    text = str(error)
    unknown = dict.fromkeys(
        re.findall(r"'tf\.(\w+)' op is neither a custom op nor a flex op", text)
    )
    if unknown:
        return ValueError(
            f"The model needs operations that LiteRT does not have: {listed(unknown)}. "
            "Replace the layers that use them. Nothing was written."
        )
    if "No space left on device" in text:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    first = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    failure = RuntimeError(f"The model could not be converted to LiteRT: {first}")
    failure.__notes__ = getattr(error, "__notes__", [])
    return failure
