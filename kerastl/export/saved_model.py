"""SavedModels: written so that a signature can hold every output, and what is in one."""

import os
from collections.abc import Callable, Iterable
from typing import Any

import keras

from kerastl.export.naming import AnyModel, LayerNames, has_nested_outputs, output_names

_VARIANT = 21  # DT_VARIANT in TensorFlow's types.proto: a list of tensors


def write_saved_model(graph: keras.Model, path: str) -> None:
    """Write `graph` as Keras's own exporter does, and nested outputs, too, as a flat dict."""
    if has_nested_outputs(graph):
        names = output_names(graph)
        signature = keras.tree.map_structure(
            lambda t: keras.InputSpec(t.dtype, t.shape, name=t.name), graph.input
        )
        write_endpoint(
            graph,
            lambda x: dict(zip(names, keras.tree.flatten(graph(x)), strict=True)),
            signature,
            path,
        )
    else:
        graph.export(path, format="tf_saved_model", verbose=False)


def write_endpoint(
    graph: keras.Model, function: Callable[..., Any], signature: Any, path: str
) -> None:
    """Write a SavedModel whose one signature is `function`, which calls `graph`."""
    archive: Any = keras.export.ExportArchive()  # of the backend in use
    archive.track(graph)
    archive.add_endpoint("serve", function, input_signature=[signature])
    archive.write_out(path, verbose=False)


def run_saved_model(path: str) -> Callable[..., list[Any]]:
    """A function from arrays by name to the outputs of the SavedModel at `path`, as a flat list."""
    import tensorflow as tf

    signature = tf.saved_model.load(path).signatures["serving_default"]

    def run(named):
        given = {name: tf.convert_to_tensor(array) for name, array in named.items()}
        return keras.tree.flatten(signature(**given))

    return run


def has_fake_quant(saved: str) -> bool:
    """Whether the SavedModel at `saved` brings its own ranges, as quantization-aware training
    leaves them."""
    return any(node.op.startswith("FakeQuantWithMinMax") for node in _nodes(saved))


def layers_that_loop(saved: str, graph: AnyModel) -> list[str]:
    """Names of the layers of `graph` that loop over lists of tensors, as recurrent ones do."""
    loops = ("While", "StatelessWhile")
    found = [
        node.name
        for node in _nodes(saved)
        if node.op in loops and _VARIANT in node.attr["T"].list.type
    ]
    return _named(found, graph)


def layers_that_use(saved: str, graph: AnyModel, operations: Iterable[str]) -> list[str]:
    """Names of the layers of `graph` that need one of TensorFlow's `operations`."""
    wanted = set(operations)
    return _named([node.name for node in _nodes(saved) if node.op in wanted], graph)


def _named(paths, graph):
    names = LayerNames(graph)
    return list(dict.fromkeys(names.of(path) for path in paths))


def _nodes(saved):
    from tensorflow.core.protobuf import saved_model_pb2

    with open(os.path.join(saved, "saved_model.pb"), "rb") as file:
        graph = saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs[0].graph_def
    for part in (graph.node, *(function.node_def for function in graph.library.function)):
        yield from part
