"""A parsed `.tflite` written as bytes: small, and with its weights where kernels want them."""

IDENTIFIER = b"TFL3"  # bytes 4 to 8 of every file
_OF_CONVERTER = b"CONVERSION_METADATA"  # its version and options; read by nothing that runs a file
_ALIGNMENT = 16  # of weights, by the format's schema; the Python package of 2026 leaves it out


def packed(model, size):
    """The file of a `ModelT`.

    Args:
        model: `ModelT`.
        size: Int, about how many bytes it will take.
    """
    _share_tables(model)
    builder = _sharing_builder(size)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def tidy(model):
    """Shorten what a `ModelT` says besides numbers: a twenty-fifth of a small quantized network.

    The converter names a tensor after every operation that went into it, each with the model's
    name before and a number behind. Of `net_1/conv_1/convolution;net_1/norm_1/add` stays `conv`,
    the layer, or `conv:2` where a tensor has that name already. What a signature names keeps its
    name. Empty buffers are all one. What the converter says of itself is left out.
    """
    model.metadata = [entry for entry in model.metadata or [] if entry.name != _OF_CONVERTER]
    for index, graph in enumerate(model.subgraphs):
        entries = [
            entry
            for signature in model.signatureDefs or []
            if signature.subgraphIndex == index
            for entry in [*signature.inputs, *signature.outputs]
        ]
        named = {entry.tensorIndex for entry in entries}
        taken = {graph.tensors[k].name.decode() for k in named}
        for k, tensor in enumerate(graph.tensors):
            if k not in named:
                tensor.name = _unique(_layer(tensor.name.decode()), taken).encode()
    _share_empty_buffers(model)


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


def _share_tables(model):
    """Have equal quantizations and equal options of operations be one table of the file.

    After every ReLU6 of a network stands the same scale, and most of its convolutions have the
    same options.
    """
    first = {}
    for graph in model.subgraphs:
        for owner, name in [
            *((tensor, "quantization") for tensor in graph.tensors),
            *((operator, "builtinOptions") for operator in graph.operators),
        ]:
            table = getattr(owner, name)
            if table is not None and not isinstance(table, _Once):
                setattr(owner, name, first.setdefault(_content(table), _Once(table)))


def _content(table):
    """What a table of plain numbers and vectors says, to be compared."""
    told = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in vars(table).items()}
    return type(table).__name__, repr(sorted(told.items()))


class _Once:
    """A table that is written to a file when it is first asked for; later only pointed to."""

    def __init__(self, table):
        self._table, self._builder, self._place = table, None, None

    def __getattr__(self, name):
        return getattr(self._table, name)

    def Pack(self, builder):
        if builder is not self._builder:
            self._builder, self._place = builder, self._table.Pack(builder)
        return self._place


def _sharing_builder(size):
    """A builder that writes equal vectors and strings once and points to them from everywhere.

    A kernel quantized per channel has a 64-bit zero point for each, all zero, and its bias again:
    a fifth of a small network's file. Weights (vectors of bytes) are left as they are.
    """
    import flatbuffers

    class Builder(flatbuffers.Builder):
        def __init__(self, size):
            super().__init__(size)
            self._written = {}

        def StartVector(self, elemSize, numElems, alignment):
            aligned = max(alignment, _ALIGNMENT) if elemSize == 1 else alignment
            return super().StartVector(elemSize, numElems, aligned)

        def CreateNumpyVector(self, x):
            if x.dtype.itemsize == 1:
                return super().CreateNumpyVector(x)
            key = (x.dtype.str, x.tobytes())
            if key not in self._written:
                self._written[key] = super().CreateNumpyVector(x)
            return self._written[key]

        def CreateString(self, s, encoding="utf-8", errors="strict"):
            if s not in self._written:
                self._written[s] = super().CreateString(s, encoding, errors)
            return self._written[s]

    return Builder(size)
