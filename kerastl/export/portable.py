"""SavedModel and ONNX through Keras's own exporter, checked and put in place whole."""

import contextlib
import importlib.util
import os
import re
import warnings

import keras

from kerastl._base import files
from kerastl._base.checks import listed
from kerastl._base.errors import cause
from kerastl._base.quiet import quiet
from kerastl._base.types import PathLike
from kerastl.export.naming import (
    LayerNames,
    graph_of,
    has_nested_outputs,
    in_float32,
    in_structure,
)
from kerastl.export.saved_model import write_saved_model
from kerastl.export.verify import check_same, examples


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
    with files.work_folder(path) as work, in_float32(graph):
        made = os.path.join(work, "saved_model")
        with quiet():
            write_saved_model(graph, made)
        run = _run_saved_model(made)
        check_same(model, graph, lambda named: run(graph, named))
        files.replaced(made, path)
    return path


def to_onnx(model: keras.Model, path: PathLike) -> str:
    """Write a model's graph in inference mode as an ONNX file.

    onnxruntime runs it beside the model before it is put in place. Needs `kerastl[onnx]`.

    Args:
        model: Built `keras.Model` with declared inputs. Of a mixed policy it is written in float32.
        path: Where to write; must end in `.onnx`, in a folder that exists.

    Returns:
        String, the path.

    Raises:
        ImportError: If tf2onnx, onnx or onnxruntime is not installed.
        RuntimeError: If the model cannot be written, or not be run by onnxruntime, or if what was
            written does not repeat the model.

    Example:
        >>> to_onnx(keras.Sequential([keras.Input((2,))]), "model.tflite")
        Traceback (most recent call last):
        ValueError: `path` must end in .onnx. Received: path='model.tflite'
    """
    path = files.checked(path, ".onnx")
    missing = [name for name in _ONNX if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"Writing ONNX needs {listed(_ONNX)}, and {listed(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing. "
            f"Install: pip install {' '.join(missing)}"
        )
    graph = graph_of(model)
    if has_nested_outputs(graph):
        raise ValueError(
            "`model` must have its outputs in one list or one dict, because tf2onnx reads no "
            f"nested ones. Received: {graph.output!r}"
        )
    with files.work_folder(path) as work, in_float32(graph):
        # Keras's exporter asks that a model was called once.
        graph(in_structure(graph, examples(graph, 1)))
        made = os.path.join(work, "model.onnx")
        with (
            _saying("be converted to ONNX", graph),
            quiet(),
            warnings.catch_warnings(),
        ):
            # Keras 3.15.1 asks NumPy 2 for `np.object`, to mend tf2onnx.
            warnings.filterwarnings("ignore", "In the future `np.object`", FutureWarning)
            graph.export(made, format="onnx", verbose=False)
        with _saying("be run by onnxruntime", graph):
            run = _run_onnx(made)
            run(examples(graph, 1))
        check_same(model, graph, run)
        files.replaced(made, path)
    return path


_ONNX = ("tf2onnx", "onnx", "onnxruntime")


@contextlib.contextmanager
def _saying(what, graph):
    """Turn an error of another package, whose classes are private, into a sentence."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        reason, instead = cause(error), "Write a SavedModel or LiteRT file instead"
        if node := re.search(r'In Node, \("([^"]*)", (\w+),', str(error)):
            layer = LayerNames(graph).of(node[1])
            reason = f"ONNX does not have the operation {node[2]} of the layer {layer}."
            instead = f"Replace that layer, or w{instead[1:]}"
        failure = RuntimeError(f"The model cannot {what}: {reason} Nothing was written. {instead}.")
        failure.__notes__ = getattr(error, "__notes__", [])
        raise failure from error


def _run_onnx(path):
    import onnxruntime  # pyright: ignore[reportMissingImports] (asked for by `find_spec`)

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda named: session.run(None, named)


def _run_saved_model(path):
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    return lambda graph, named: keras.tree.flatten(loaded.serve(in_structure(graph, named)))
