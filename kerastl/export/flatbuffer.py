"""A `.tflite` file read and written as objects: the one place that uses its schema.

`tensorflow.lite.python.schema_py_generated` is generated from the public schema of the format, but
its module is not public API (seen in TensorFlow 2.21). It can go when ai_edge_litert
offers a reader.
"""

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kerastl.export.tidy import tidy

_BETWEEN_DTYPES = ("QUANTIZE", "DEQUANTIZE")
_NUMBERS = ("float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64")


@dataclasses.dataclass(frozen=True)
class Operation:
    """One kind of operation in a file.

    Args:
        op: Name in the schema (`CONV_2D`); what the plain runtime lacks is `CUSTOM:` and its
            own name, such as `CUSTOM:FlexErfinv`.
        dtype: Dtype of its result.
        weights: Dtype of its weights, or None if it has none.
        count: Int, how often it occurs.
    """

    op: str
    dtype: str
    weights: str | None
    count: int

    @property
    def in_float(self) -> bool:
        """Whether it computes in floating point, the steps to and from that left out."""
        return self.dtype.startswith("float") and self.op not in _BETWEEN_DTYPES

    @property
    def in_integers(self) -> bool:
        """Whether it computes on quantized activations."""
        return self.dtype in ("int8", "uint8", "int16") and self.op not in _BETWEEN_DTYPES


def is_litert(content: bytes) -> bool:
    """Whether these bytes start as a LiteRT file does."""
    return bytes(content[4:8]) == IDENTIFIER


def operation_table(content: bytes) -> tuple[Operation, ...]:
    """Tuple of `Operation`, the most frequent first."""
    counts: collections.Counter[tuple[str, str, str | None]] = collections.Counter()
    for op, graph, operator in _operators(content):
        dtype = graph.dtype(operator.outputs[0]) if len(operator.outputs) else "none"
        counts[op, dtype, graph.weights(operator)] += 1
    return tuple(Operation(*key, count) for key, count in counts.most_common())


def operations(content: bytes) -> dict[str, int]:
    """Dict from operation to how often it occurs, the most frequent first."""
    counts = collections.Counter(op for op, _, _ in _operators(content))
    return dict(counts.most_common())


def constants(content: bytes) -> list[np.ndarray]:
    """The arrays of numbers that a file carries, each as a flat NumPy array, each buffer once.

    Quantized weights have a zero point of 0, so that a zero is a zero in every dtype.
    """
    schema, found = _schema(), {}
    model = _parse(schema, content)
    for index in range(len(model.subgraphs)):
        for buffer, dtype, data in _Graph(schema, model, index).constants():
            if dtype in _NUMBERS:
                found[buffer] = np.frombuffer(data.tobytes(), dtype)
    return list(found.values())


def edges(content: bytes) -> list[tuple[str, list[str], list[str]]]:
    """The operations of the main graph as `(op, names of inputs, names of outputs)`.

    Inputs are tensors that another operation or the caller makes: constants are left out.
    """
    return [
        (op, graph.activations(operator.inputs), graph.activations(operator.outputs))
        for op, graph, operator in _operators(content)
        if graph.index == 0
    ]


def cut_after(content: bytes, count: int) -> bytes:
    """The file with the first `count` operations of its main graph; it gives what the last does."""
    model = _parse(_schema(), content)
    graph = model.subgraphs[0]
    graph.operators = graph.operators[:count]
    graph.outputs, model.signatureDefs = list(graph.operators[-1].outputs), []
    return packed(model, len(content))


def renamed(
    content: bytes,
    *,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    order: Sequence[str] = (),
) -> bytes:
    """The same file, tidied, with other names for the inputs and outputs of its one signature.

    Args:
        content: Bytes of a file.
        inputs: Dict from the signature's input names to new ones; others stay.
        outputs: The same for outputs.
        order: New names of inputs in the order that the file is to list them in; others come last.

    Returns:
        Bytes of a file that differs in names and in the order of inputs alone; names inside are
            made short (`tidy`).
    """
    model = _parse(_schema(), content)
    tensors = model.subgraphs[0].tensors
    signature = model.signatureDefs[0]
    for entries, names in ((signature.inputs, inputs), (signature.outputs, outputs)):
        for entry in entries:
            old = entry.name.decode()
            entry.name = tensors[entry.tensorIndex].name = names.get(old, old).encode()
    places = {name.encode(): place for place, name in enumerate(order)}
    graph = model.subgraphs[0]
    graph.inputs = sorted(graph.inputs, key=lambda k: places.get(tensors[k].name, len(places)))
    tidy(model)
    return packed(model, len(content))


def with_buffer(content: bytes, name: str, data: bytes) -> bytes:
    """The same file with `data` as the metadata called `name`, in place of one of that name.

    Args:
        content: Bytes of a file.
        name: String.
        data: Bytes.
    """
    schema = _schema()
    model = _parse(schema, content)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(data, "uint8")
    entry.name, entry.buffer = name, len(model.buffers)
    model.buffers.append(buffer)
    kept = [old for old in model.metadata or [] if old.name.decode() != name]
    model.metadata = [*kept, entry]
    return packed(model, len(content) + len(data))


def read_buffer(content: bytes, name: str) -> bytes | None:
    """The metadata called `name` as bytes, or None."""
    root = _schema().Model.GetRootAsModel(content, 0)
    for k in range(root.MetadataLength()):
        entry = root.Metadata(k)
        if entry.Name().decode() == name:
            return root.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
    return None


def output_tensors(content: bytes) -> list[str]:
    """Names of the tensors behind the signature's outputs output_0, output_1, ..., in order."""
    model = _parse(_schema(), content)
    outputs = sorted(model.signatureDefs[0].outputs, key=lambda entry: entry.name)
    return [model.subgraphs[0].tensors[entry.tensorIndex].name.decode() for entry in outputs]


class _Graph:
    """A subgraph, with what its tensors are in words."""

    def __init__(self, schema: Any, model: Any, index: int) -> None:
        self.index = index
        self._tensors = model.subgraphs[index].tensors
        self._buffers = model.buffers
        types = vars(schema.TensorType).items()
        self._dtypes = {v: k.lower() for k, v in types if isinstance(v, int)}

    def dtype(self, tensor: int) -> str:
        return self._dtypes[self._tensors[tensor].type]

    def weights(self, operator: Any) -> str | None:
        """Dtype of the largest constant that `operator` takes, if it is no single number."""
        constants = [self._tensors[k] for k in operator.inputs if k >= 0 and self._constant(k)]
        arrays = [t for t in constants if t.shape is not None and len(t.shape) > 1]
        if not arrays:
            return None
        largest = max(arrays, key=lambda tensor: tensor.shape.prod())
        return self._dtypes[largest.type]

    def constants(self) -> Iterator[tuple[int, str, np.ndarray]]:
        """Each constant as `(number of its buffer, dtype, bytes)`."""
        for tensor in self._tensors:
            data = self._buffers[tensor.buffer].data
            if data is not None and len(data):
                yield tensor.buffer, self._dtypes[tensor.type], data

    def activations(self, indices: Iterable[int]) -> list[str]:
        chosen = [k for k in indices if k >= 0 and not self._constant(k)]
        return [self._tensors[k].name.decode() for k in chosen]

    def _constant(self, tensor):
        buffer = self._buffers[self._tensors[tensor].buffer]
        return (buffer.data is not None and len(buffer.data) > 0) or bool(buffer.offset)


def _operators(content):
    """Each operation as `(name, its _Graph, its object)`."""
    schema = _schema()
    builtin = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    model = _parse(schema, content)
    for index, subgraph in enumerate(model.subgraphs):
        graph = _Graph(schema, model, index)
        for operator in subgraph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            # Old files keep the number in a byte-wide field, new ones in a wider one.
            name = builtin[max(code.builtinCode, code.deprecatedBuiltinCode)]
            custom = name == "CUSTOM"
            yield f"CUSTOM:{code.customCode.decode()}" if custom else name, graph, operator


def _schema() -> Any:  # generated code, whose comments name wrong types
    from tensorflow.lite.python import schema_py_generated

    return schema_py_generated


def _parse(schema, content):
    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))


IDENTIFIER = b"TFL3"  # bytes 4 to 8 of every file
_ALIGNMENT = 16  # of weights, by the format's schema; the Python package of 2026 leaves it out


def packed(model: Any, size: int) -> bytes:
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

    def __init__(self, table: Any) -> None:
        self._table, self._builder, self._place = table, None, None

    def __getattr__(self, name):
        return getattr(self._table, name)

    def Pack(self, builder: Any) -> Any:
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
