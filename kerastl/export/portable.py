"""SavedModel and ONNX through Keras's own exporter, checked and put in place whole."""

import importlib.util
import os
import warnings

import keras
import numpy as np

from kerastl._base import files
from kerastl._base.quiet import quiet
from kerastl._base.types import PathLike
from kerastl.export.naming import graph_of, in_structure, input_names
from kerastl.export.verify import example

_TOLERANCE = 1e-3  # of the outputs; see `verify`
_ROWS = 2


def to_saved_model(model: keras.Model, path: PathLike) -> str:
    """Write a model's graph in inference mode as a TensorFlow SavedModel.

    It is loaded again, run, and compared with the model; only then it takes the place of what was
    at `path`. The batch stays open. TensorFlow Serving and `tf.saved_model.load` run it.

    Args:
        model: Built `keras.Model` with declared inputs.
        path: Folder to write, in one that exists. An older SavedModel there is replaced.

    Returns:
        String, the path.

    Raises:
        FileExistsError: If there is something else than a SavedModel at `path`.
        RuntimeError: If what was written does not repeat the model.

    Example:
        >>> to_saved_model(keras.Sequential([keras.Input((2,))]), "nowhere/model")
        Traceback (most recent call last):
        FileNotFoundError: The folder of `path` must exist. Received: path='nowhere/model'
    """
    path = files.checked(path, "")
    if os.path.lexists(path) and not os.path.isfile(os.path.join(path, "saved_model.pb")):
        raise FileExistsError(
            f"`path` must be free, or an older SavedModel. Received: path={path!r}, which is "
            "something else."
        )
    graph = graph_of(model)
    with files.work_folder(path) as work:
        made = os.path.join(work, "saved_model")
        with quiet():
            graph.export(made, format="tf_saved_model", verbose=False)
        _compare(graph, model, _run_saved_model(made))
        files.replaced(made, path)
    return path


def to_onnx(model: keras.Model, path: PathLike) -> str:
    """Write a model's graph in inference mode as an ONNX file.

    Needs the packages tf2onnx and onnx; if onnxruntime is there too, the file is run and compared
    with the model before it is put in place.

    Args:
        model: Built `keras.Model` with declared inputs.
        path: Where to write; must end in `.onnx`, in a folder that exists.

    Returns:
        String, the path.

    Raises:
        ImportError: If tf2onnx or onnx is not installed.
        RuntimeError: If what was written does not repeat the model.

    Example:
        >>> to_onnx(keras.Sequential([keras.Input((2,))]), "model.tflite")
        Traceback (most recent call last):
        ValueError: `path` must end in .onnx. Received: path='model.tflite'
    """
    path = files.checked(path, ".onnx")
    missing = [name for name in ("tf2onnx", "onnx") if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"Writing ONNX needs {' and '.join(missing)}. Install: pip install tf2onnx onnx"
        )
    graph = graph_of(model)
    # Keras's exporter asks that a model was called once.
    graph(in_structure(graph, _examples(graph)), training=False)
    with files.work_folder(path) as work:
        made = os.path.join(work, "model.onnx")
        with quiet(), warnings.catch_warnings():
            # Keras 3.15.1 asks NumPy 2 for `np.object`, to mend tf2onnx.
            warnings.filterwarnings("ignore", "In the future `np.object`", FutureWarning)
            graph.export(made, format="onnx", verbose=False)
        if importlib.util.find_spec("onnxruntime") is not None:
            _compare(graph, model, _run_onnx(made))
        files.replaced(made, path)
    return path


def _run_saved_model(path):
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    return lambda graph, named: keras.tree.flatten(loaded.serve(in_structure(graph, named)))


def _run_onnx(path):
    import onnxruntime  # pyright: ignore[reportMissingImports] (asked for by `find_spec`)

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda graph, named: session.run(None, named)


def _compare(graph, model, run):
    named = _examples(graph)
    expected = keras.tree.flatten(model(in_structure(graph, named), training=False))
    received = run(graph, named)
    for ours, theirs in zip(expected, received, strict=True):
        ours = np.asarray(keras.ops.convert_to_numpy(ours), "float64")
        limit = _TOLERANCE * max(1.0, float(np.abs(ours).max()))
        worst = float(np.abs(ours - np.asarray(theirs)).max())
        if not worst <= limit:  # NaN is not
            raise RuntimeError(
                f"What was exported does not repeat the model: outputs differ by {worst:.3g}, "
                f"where {limit:.3g} would do. Nothing was written. A model that gives NaN, or "
                "whose `call` does more than its graph, cannot be exported."
            )


def _examples(graph):
    tensors = keras.tree.flatten(graph.input)
    made_up = [example(tensor, _ROWS) for tensor in tensors]
    return dict(zip(input_names(graph), made_up, strict=True))
