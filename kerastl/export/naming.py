"""The graph of a model, and the names under which it and its file speak of the same tensors."""

import keras


def graph_of(model):
    """`model` as a plain functional model on the same layers: no optimizer, no `call` of its own.

    Raises:
        ValueError: If the model declares no inputs and so has no graph.
    """
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise ValueError(
            "`model` must be a built keras.Model with declared inputs (functional or Sequential). "
            f"Received: {type(model).__module__}.{type(model).__qualname__}"
        )
    if isinstance(model, keras.Sequential):  # has no `input` before its first call
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return keras.Model(model.input, model.output, name=model.name)


def inputs_by_name(graph, data):
    """Dict from the graph's input names to the arrays of `data`, whatever structure they are in.

    A file lists its inputs in an order of its own, so names are what holds.

    Raises:
        ValueError: If there are not as many arrays as inputs.
    """
    names = [tensor.name for tensor in keras.tree.flatten(graph.input)]
    arrays = keras.tree.flatten(data)
    if len(names) != len(arrays):
        raise ValueError(
            f"The model has {len(names)} inputs: {', '.join(names)}. "
            f"Received: {len(arrays)} arrays."
        )
    return dict(zip(names, arrays, strict=True))


def output_names(graph):
    """Names of the outputs as `keras.tree.flatten` lists them: keys of a dict, else layer names."""
    return sorted(graph.output) if isinstance(graph.output, dict) else list(graph.output_names)
