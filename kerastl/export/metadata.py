"""TFLite metadata: what the inputs and outputs mean, and the labels, inside the file.

A flatbuffer in the file's metadata `TFLITE_METADATA` says it; associated files are in a ZIP archive
appended to the model. MediaPipe Tasks, the LiteRT Task Library and Android Studio read both.
The package that wrote it, tflite-support, is no longer maintained, and mediapipe's writer brings
OpenCV and more along, so the few tables that are needed are written here by field number.

References:
    https://github.com/google/mediapipe/blob/master/mediapipe/tasks/metadata/metadata_schema.fbs,
    version 1.5.0
"""

import dataclasses
import io
import zipfile
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from kerastl.export import flatbuffer, labels

if TYPE_CHECKING:
    from kerastl.export.litert_model import Tensor

BUFFER = "TFLITE_METADATA"
IDENTIFIER = b"M001"
_PARSER_VERSION = "1.0.1"  # the oldest reader that knows every field used here
_PARSER_OF_WORDS = "1.1.0"  # and process units of a whole graph
_AXIS_LABELS, _VOCABULARY, _RGB, _GRAYSCALE = 2, 5, 1, 2  # enumerations of the schema
_FEATURE, _IMAGE = 1, 2  # members of the union ContentProperties
_NORMALIZATION, _BERT_TOKENIZER = 1, 4  # members of the union ProcessUnitOptions
_UNKNOWN = 0  # an enumeration's value for a file that the schema has no word for
_BERT_TOKENIZER_FILE = -1  # ours alone: a vocabulary that belongs to a process unit
TASK = "task.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of the files in the archive, so that equal files are equal


def embedded(
    content: bytes,
    inputs: "Sequence[Tensor]",
    outputs: "Sequence[Tensor]",
    *,
    name: str,
    pixels: Collection[str] = (),
    files: Sequence["AssociatedFile"] = (),
) -> bytes:
    """`content` with its metadata, and its associated files in an archive behind it.

    Args:
        content: Bytes of a LiteRT file; metadata and files that it has are replaced.
        inputs: Sequence of `Tensor` in the file's order.
        outputs: The same for outputs.
        name: String, the model's name.
        pixels: Names of the inputs that take pixels 0 to 255. They are described as pictures that
            need no normalization: the model does its own. Of others nothing is claimed.
        files: Sequence of `AssociatedFile`.

    Returns:
        Bytes of the file.
    """
    described = _model(inputs, outputs, name, pixels, files)
    content = flatbuffer.with_buffer(content, BUFFER, Writer().finished(described, IDENTIFIER))
    return _with_archive(content, files) if files else content


@dataclasses.dataclass(frozen=True)
class AssociatedFile:
    """A text file inside a LiteRT file: `name`, `lines`, and what it is for."""

    name: str
    lines: tuple[str, ...]
    kind: int
    description: str


@dataclasses.dataclass(frozen=True)
class Carried:
    """What a file of texts carries inside, beside its labels.

    Args:
        task: String, what `task.json` says of the network: how texts are prepared and what its
            answers mean.
        words: Sequence of the words of a WordPiece vocabulary in the order of their numbers, which
            an input process unit then points to as MediaPipe's TextClassifier wants it; or None.
    """

    task: str
    words: Sequence[str] | None = None

    @property
    def files(self) -> tuple[AssociatedFile, ...]:
        """Tuple of `AssociatedFile`."""
        if self.words is None:
            return (task_file(self.task),)
        words = dataclasses.replace(vocabulary_file(self.words), kind=_BERT_TOKENIZER_FILE)
        return (task_file(self.task), words)


def task_file(text: str) -> AssociatedFile:
    """What a network was trained for, JSON, as a file that belongs to the model."""
    lines = tuple(text.removesuffix("\n").split("\n"))
    return AssociatedFile(TASK, lines, _UNKNOWN, "How kerastl reads examples for this network.")


def label_file(names: Sequence[str]) -> AssociatedFile:
    """The class names, as a file that belongs to the first output."""
    return AssociatedFile(
        labels.FILE_NAME, tuple(names), _AXIS_LABELS, "Names of the classes, one a line."
    )


def vocabulary_file(words: Sequence[str]) -> AssociatedFile:
    """The words of a tokenizer, as a file that belongs to the first input.

    Raises:
        ValueError: If there are no words, or one is no line of text.
    """
    for word in tuple(words) or (None,):
        if not isinstance(word, str) or "\n" in word:
            raise ValueError(f"`words` must be lines of text, one at least. Received: {word!r}")
    return AssociatedFile(
        "vocab.txt", tuple(words), _VOCABULARY, "Words of the tokenizer, one a line."
    )


def read_labels(content: bytes) -> tuple[str, ...] | None:
    """The class names that a file carries, or None: those of its first output with such."""
    return _read(content, tensors=3, kind=_AXIS_LABELS)


def read_vocabulary(content: bytes) -> tuple[str, ...] | None:
    """The words of the tokenizer that a file carries, of an input or a process unit; or None."""
    name = _name_in_unit(content)
    return _lines(content, name) if name else _read(content, tensors=2, kind=_VOCABULARY)


def read_task(content: bytes) -> str | None:
    """What the `task.json` inside a file says, or None where it has none."""
    data = flatbuffer.read_buffer(content, BUFFER)
    if data is None or TASK not in [file.text(0) for file in Reader.root(data).tables(6)]:
        return None
    lines = _lines(content, TASK)
    return None if lines is None else "\n".join(lines)


def _name_in_unit(content):
    """Name of the vocabulary of a WordPiece tokenizer that the metadata speak of, or None."""
    data = flatbuffer.read_buffer(content, BUFFER)
    graphs = [] if data is None else Reader.root(data).tables(3)
    for unit in [unit for graph in graphs for unit in graph.tables(5)]:
        options = unit.table(1)
        if unit.byte(0) == _BERT_TOKENIZER and options is not None:
            for file in options.tables(0):
                return file.text(0)
    return None


def read_name(content: bytes) -> str | None:
    """The model's name that a file carries, or None."""
    data = flatbuffer.read_buffer(content, BUFFER)
    return None if data is None else Reader.root(data).text(0)


def read_pixels(content: bytes) -> tuple[str, ...]:
    """Names of the inputs that a file says are pictures."""
    data = flatbuffer.read_buffer(content, BUFFER)
    if data is None:
        return ()
    inputs = [entry for graph in Reader.root(data).tables(3) for entry in graph.tables(2)]
    contents = [(entry.text(0), entry.table(3)) for entry in inputs]
    return tuple(
        name for name, what in contents if name is not None and what and what.byte(0) == _IMAGE
    )


def _read(content, tensors, kind):
    return _lines(content, _file_name(content, tensors, kind))


def _lines(content, name):
    """The lines of the file `name` in the archive behind a model, or None without one."""
    if name is None or not zipfile.is_zipfile(io.BytesIO(content)):
        return None
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if name not in archive.namelist():
            return None
        return labels.lines(archive.read(name).decode("utf-8"))


def _with_archive(content, files):
    whole = io.BytesIO()
    whole.write(content)
    # Not compressed: the readers map the archive into memory.
    with zipfile.ZipFile(whole, "a", zipfile.ZIP_STORED) as archive:
        for file in files:
            archive.writestr(zipfile.ZipInfo(file.name, _EPOCH), labels.text(file.lines))
    return whole.getvalue()


def _model(inputs, outputs, name, pixels, files):
    """ModelMetadata as `{field number: value}`, tables nested."""
    first = [_picture(tensor) if tensor.name in pixels else _plain(tensor) for tensor in inputs]
    last = [_plain(tensor) for tensor in outputs]
    graph, model = {2: first, 3: last}, {0: name, 7: _PARSER_VERSION}
    owners = {_AXIS_LABELS: last[0], _VOCABULARY: first[0], _UNKNOWN: model}
    for file in files:
        if file.kind == _BERT_TOKENIZER_FILE:
            words = {0: file.name, 1: file.description, 2: Byte(_VOCABULARY)}
            graph[5] = [{0: Byte(_BERT_TOKENIZER), 1: {0: [words]}}]
            model[7] = _PARSER_OF_WORDS
            continue
        owner = owners[file.kind]
        entry = {0: file.name, 1: file.description, 2: Byte(file.kind)}
        owner[6] = [*owner.get(6, []), entry]
    return model | {3: [graph]}


def _plain(tensor):
    """TensorMetadata: 0 name, 1 description, 3 content, 4 process units, 5 stats, 6 files."""
    return {0: tensor.name, 3: {0: Byte(_FEATURE), 1: {}}}


def _picture(tensor):
    gray = tensor.shape[-1] == 1
    height, width = tensor.shape[1:3]
    image = {0: Byte(_GRAYSCALE if gray else _RGB), 1: {0: Whole(width), 1: Whole(height)}}
    normalization = {0: np.zeros(1, "float32"), 1: np.ones(1, "float32")}
    return {
        0: tensor.name,
        1: f"{'Gray' if gray else 'RGB'} pixels, 0 to 255.",
        3: {0: Byte(_IMAGE), 1: image},
        4: [{0: Byte(_NORMALIZATION), 1: normalization}],
        5: {0: np.full(1, 255, "float32"), 1: np.zeros(1, "float32")},
    }


def _file_name(content, tensors, kind):
    """Name of the first file of `kind` that the metadata of an input or output speaks of."""
    data = flatbuffer.read_buffer(content, BUFFER)
    if data is None:
        return None
    for subgraph in Reader.root(data).tables(3):
        for tensor in subgraph.tables(tensors):
            for file in tensor.tables(6):
                if file.byte(2) == kind:
                    return file.text(0)
    return None


class Byte(int):
    """A number in a field of one byte."""


class Whole(int):
    """A number in a field of an unsigned 32-bit integer."""


class Writer:
    """Writes nested tables given as `{field number: value}`.

    Values are `Byte`, `Whole`, strings, arrays, tables, and lists of tables.
    """

    def __init__(self) -> None:
        import flatbuffers

        self._builder = flatbuffers.Builder(1024)

    def finished(self, table: dict[int, Any], identifier: bytes) -> bytes:
        """The bytes of a flatbuffer whose root is `table`."""
        self._builder.Finish(self._table(table), identifier)
        return bytes(self._builder.Output())

    def _table(self, fields):
        # What a table points to must be written before the table is begun.
        written = {k: v if isinstance(v, int) else self._away(v) for k, v in fields.items()}
        self._builder.StartObject(max(fields, default=-1) + 1)
        for slot, value in written.items():
            if isinstance(value, Byte):
                self._builder.PrependInt8Slot(slot, value, 0)
            elif isinstance(value, Whole):
                self._builder.PrependUint32Slot(slot, value, 0)
            else:
                self._builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        return self._builder.EndObject()

    def _away(self, value):
        """The offset of what does not lie in the table itself."""
        if isinstance(value, str):
            return self._builder.CreateString(value)
        if isinstance(value, dict):
            return self._table(value)
        if isinstance(value, np.ndarray):
            return self._builder.CreateNumpyVector(value)
        offsets = [self._table(entry) for entry in value]
        self._builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self._builder.PrependUOffsetTRelative(offset)
        return self._builder.EndVector()


class Reader:
    """Reads a table by field number."""

    def __init__(self, data: bytes, position: int) -> None:
        from flatbuffers.table import Table

        self._table = Table(data, position)

    @classmethod
    def root(cls, data: bytes) -> Self:
        return cls(data, int.from_bytes(data[:4], "little"))

    def tables(self, slot: int) -> list["Reader"]:
        offset = self._offset(slot)
        if not offset:
            return []
        start = self._table.Vector(offset)
        places = [start + 4 * k for k in range(self._table.VectorLen(offset))]
        return [Reader(self._table.Bytes, self._table.Indirect(place)) for place in places]

    def table(self, slot: int) -> "Reader | None":
        place = self._table.Pos + self._offset(slot)
        return Reader(self._table.Bytes, self._table.Indirect(place))

    def text(self, slot: int) -> str | None:
        return self._table.String(self._offset(slot) + self._table.Pos).decode("utf-8")

    def byte(self, slot: int) -> int:
        offset = self._offset(slot)
        return self._table.Bytes[self._table.Pos + offset] if offset else 0

    def _offset(self, slot):
        return self._table.Offset(4 + 2 * slot)
