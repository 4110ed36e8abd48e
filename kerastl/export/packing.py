"""A parsed `.tflite` written as bytes: small, and with its weights where kernels want them."""

IDENTIFIER = b"TFL3"  # bytes 4 to 8 of every file
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
