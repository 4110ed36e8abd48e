"""What a `.tflite` says besides numbers, made short."""

from typing import Any

_OF_CONVERTER = b"CONVERSION_METADATA"  # its version and options; read by nothing that runs a file
_OF_BIASES = (2, 4)  # int32 and int64 in the schema's TensorType: numbers at a scale are biases


def tidy(model: Any) -> None:
    """Shorten what a `ModelT` says besides numbers: a twenty-fifth of a small quantized network.

    The converter names a tensor after every operation that went into it, each with the model's
    name before and a number behind. Of `net_1/conv_1/convolution;net_1/norm_1/add` stays `conv`,
    the layer, or `conv:2` where a tensor has that name already: what a layer gives comes before its
    weights. What a signature names keeps its name. Quantized biases, which nothing looks up, are
    called as their weights are. Empty buffers are all one. What the converter says of itself is
    left out.
    """
    model.metadata = [entry for entry in model.metadata or [] if entry.name != _OF_CONVERTER]
    for index, graph in enumerate(model.subgraphs):
        entries = [
            entry
            for signature in model.signatureDefs or []
            if signature.subgraphIndex == index
            for entry in [*signature.inputs, *signature.outputs]
        ]
        _name_tensors(graph, {entry.tensorIndex for entry in entries})
    _share_empty_buffers(model)


def _name_tensors(graph, fixed):
    """Name the tensors of `graph` by their layers, except those at the indices `fixed`."""
    weights = _weights_of_biases(graph)
    taken = {graph.tensors[k].name.decode() for k in fixed}
    made = {k for operator in graph.operators for k in operator.outputs}
    others = set(range(len(graph.tensors))) - fixed - weights.keys()
    for k in sorted(others, key=lambda k: (k not in made, k)):
        tensor = graph.tensors[k]
        tensor.name = _unique(_layer(tensor.name.decode()), taken).encode()
    for bias, kernel in weights.items():
        graph.tensors[bias].name = graph.tensors[kernel].name


def _weights_of_biases(graph):
    """Dict from the tensors that are quantized biases to those of the weights beside them."""
    return {
        operator.inputs[2]: operator.inputs[1]
        for operator in graph.operators
        if len(operator.inputs) == 3 and _is_bias(graph.tensors[operator.inputs[2]])
    }


def _is_bias(tensor):
    scales = tensor.quantization.scale if tensor.quantization else None
    return tensor.type in _OF_BIASES and scales is not None and len(scales) > 0


def _layer(name):
    """The layer of a tensor, from the names of operations that the converter has joined.

    >>> _layer("net_1/conv_1/convolution;net_1/norm_1/add"), _layer("image"), _layer("a_1/add")
    ('conv', 'image', 'a')
    """
    first = name.split(";")[0].split("/")
    layer = first[1] if len(first) > 2 else first[0]
    return layer.removesuffix("_1") if len(first) > 1 else layer


def _unique(name, taken):
    unique, number = name, 1
    while unique in taken:
        number += 1
        unique = f"{name}:{number}"
    taken.add(unique)
    return unique


def _share_empty_buffers(model):
    """Point tensors without data to buffer 0, which the format keeps empty for them.

    Buffers that nothing points to are left out.
    """
    places, kept = {0: 0}, [model.buffers[0]]
    tensors = [tensor for graph in model.subgraphs for tensor in graph.tensors]
    variables = {tensor.buffer for tensor in tensors if tensor.isVariable}
    used = {owner.buffer for owner in (*tensors, *(model.metadata or []))}
    for place, buffer in enumerate(model.buffers[1:], 1):
        has_data = (buffer.data is not None and len(buffer.data)) or buffer.offset
        if (has_data and place in used) or place in variables:
            places[place] = len(kept)
            kept.append(buffer)
    model.buffers = kept
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.buffer = places.get(tensor.buffer, 0)
    for entry in model.metadata or []:
        entry.buffer = places.get(entry.buffer, 0)
