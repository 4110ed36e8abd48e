"""TFLite metadata: what MediaPipe reads, read back without the code that wrote it."""

import base64
import io
import zipfile

import flatbuffers
import keras
import numpy as np
import pytest

from kerastl import export
from kerastl.export import flatbuffer, metadata
from tests.tolerances import EXACT

# Written by mediapipe 1.2.2's own metadata_schema_py_generated: ModelMetadata of an image input and
# an output with the associated file labelmap.txt of type TENSOR_AXIS_LABELS.
MEDIAPIPE = base64.b64decode(
    "CAAAAE0wMDFk////CAAAANgAAAABAAAAEAAAAAwADAAAAAAACAAEAAwAAAAIAAAAbAAAAAEAAAAYAAAAAAASAAwACAAA"
    "AAAAAAAAAAAABAASAAAACAAAADgAAAABAAAAEAAAAAAACgAMAAgAAAAHAAoAAAAAAAACBAAAAAwAAABsYWJlbG1hcC50"
    "eHQAAAAABQAAAHNjb3JlAAAAAQAAABAAAAAMAAwACAAAAAAABAAMAAAAEAAAACQAAAAIAAoACQAEAAgAAAAMAAAAAAIG"
    "AAgABwAGAAAAAAAAAQUAAABpbWFnZQAAAA8AAABJbWFnZUNsYXNzaWZpZXIA"
)
LABELS = ("daisy", "café au lait")


@pytest.fixture(scope="module")
def model():
    pixels = keras.Input((4, 6, 3), name="pixels")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(pixels))
    return keras.Model(pixels, keras.layers.Dense(2, name="scores")(x), name="flowers")


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("metadata") / "model.tflite"
    export.to_litert(model, path, labels=LABELS)
    return path


class Table:
    """The fields of a table by number, read with the flatbuffers package alone."""

    def __init__(self, data, position=None):
        root = int.from_bytes(data[:4], "little")
        self.table = flatbuffers.table.Table(data, root if position is None else position)

    def place(self, field):
        return self.table.Offset(4 + 2 * field) + self.table.Pos

    def text(self, field):
        return self.table.String(self.place(field)).decode()

    def byte(self, field):
        return self.table.Bytes[self.place(field)]

    def uint(self, field):
        return self.table.Get(flatbuffers.number_types.Uint32Flags, self.place(field))

    def floats(self, field):
        offset = self.table.Offset(4 + 2 * field)
        return self.table.GetVectorAsNumpy(flatbuffers.number_types.Float32Flags, offset).tolist()

    def inner(self, field):
        return Table(self.table.Bytes, self.table.Indirect(self.place(field)))

    def first(self, field):
        start = self.table.Vector(self.table.Offset(4 + 2 * field))
        return Table(self.table.Bytes, self.table.Indirect(start))


def test_the_schema_s_fields_say_what_the_model_takes_and_gives(file):
    data = flatbuffer.read_buffer(file.read_bytes(), "TFLITE_METADATA")
    assert data[4:8] == b"M001"
    root = Table(data)
    assert root.text(0) == "flowers"
    image = root.first(3).first(2)
    assert image.text(0) == "pixels"
    content = image.inner(3)
    assert content.byte(0) == 2  # ContentProperties: ImageProperties
    assert content.inner(1).byte(0) == 1  # ColorSpaceType: RGB
    assert [content.inner(1).inner(1).uint(k) for k in (0, 1)] == [6, 4]  # width, height
    unit = image.first(4)
    assert unit.byte(0) == 1  # ProcessUnitOptions: NormalizationOptions
    assert (unit.inner(1).floats(0), unit.inner(1).floats(1)) == ([0.0], [1.0])  # mean, std
    assert (image.inner(5).floats(0), image.inner(5).floats(1)) == ([255.0], [0.0])
    scores = root.first(3).first(3)
    assert scores.text(0) == "scores"
    assert scores.first(6).text(0) == "labels.txt"
    assert scores.first(6).byte(2) == 2  # AssociatedFileType: TENSOR_AXIS_LABELS


def test_labels_lie_in_an_archive_behind_the_model(file):
    with zipfile.ZipFile(file) as archive:
        assert archive.namelist() == ["labels.txt"]
        assert archive.read("labels.txt").decode() == "daisy\ncafé au lait\n"
        # The readers map the archive into memory and so want it as it is.
        assert archive.getinfo("labels.txt").compress_type == zipfile.ZIP_STORED


def test_labels_travel_in_the_file(file, tmp_path):
    alone = tmp_path / "renamed.tflite"
    alone.write_bytes(file.read_bytes())
    assert export.LiteRTModel(alone).labels == LABELS


def test_a_file_of_mediapipe_is_read(file, tmp_path):
    content = flatbuffer.with_buffer(file.read_bytes(), "TFLITE_METADATA", MEDIAPIPE)
    whole = io.BytesIO()
    whole.write(content)
    with zipfile.ZipFile(whole, "a") as archive:
        archive.writestr("labelmap.txt", "rose\r\ntulip")
    path = tmp_path / "foreign.tflite"
    path.write_bytes(whole.getvalue())
    assert export.LiteRTModel(path).labels == ("rose", "tulip")


def test_a_file_without_metadata_has_no_labels(file, tmp_path):
    parsed = flatbuffer._parse(flatbuffer._schema(), file.read_bytes())
    parsed.metadata = []
    path = tmp_path / "bare.tflite"
    path.write_bytes(flatbuffer.packed(parsed, 1000))
    assert export.LiteRTModel(path).labels is None


def test_equal_models_give_equal_files(model, file, tmp_path):
    export.to_litert(model, tmp_path / "again.tflite", labels=LABELS)
    assert (tmp_path / "again.tflite").read_bytes() == file.read_bytes()


def test_nothing_is_claimed_of_inputs_whose_range_is_unknown(tmp_path):
    picture = keras.Input((4, 6, 3), name="picture")
    model = keras.Model(picture, keras.layers.GlobalAveragePooling2D()(picture))
    path = tmp_path / "model.tflite"
    export.to_litert(model, path)
    assert metadata.read_pixels(path.read_bytes()) == ()
    assert metadata.read_labels(path.read_bytes()) is None


def test_a_vocabulary_joins_the_labels(file, model, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(file.read_bytes())
    before = export.LiteRTModel(path)
    export.add_vocabulary(path, ["[PAD]", "the"])
    content = path.read_bytes()
    assert metadata.read_vocabulary(content) == ("[PAD]", "the")
    assert metadata.read_labels(content) == LABELS
    assert metadata.read_pixels(content) == ("pixels",)
    assert metadata.read_name(content) == "flowers"
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3))
    np.testing.assert_allclose(
        export.LiteRTModel(path).predict(pixels), before.predict(pixels), **EXACT
    )


@pytest.mark.parametrize("words", [[], ["a", "b\nc"], [1]])
def test_what_is_no_vocabulary_is_refused(file, words):
    before = file.read_bytes()
    with pytest.raises(ValueError, match="`words` must be lines of text"):
        export.add_vocabulary(file, words)
    assert file.read_bytes() == before


def test_equal_vectors_are_written_once(file):
    """Zero points of kernels per channel are a 64-bit zero each, over and over."""
    schema = flatbuffer._schema()
    parsed = flatbuffer._parse(schema, file.read_bytes())
    size = len(flatbuffer.packed(parsed, 1000))
    for tensor in parsed.subgraphs[0].tensors:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.zeroPoint = np.zeros(1000, "int64")
    packed = flatbuffer.packed(parsed, 1000)
    assert 8000 < len(packed) - size < 9000
    again = flatbuffer._parse(schema, packed)
    assert all(len(t.quantization.zeroPoint) == 1000 for t in again.subgraphs[0].tensors)


def test_equal_tables_are_written_once_in_each_file(file, monkeypatch):
    schema = flatbuffer._schema()

    def alike():
        parsed = flatbuffer._parse(schema, file.read_bytes())
        for tensor in parsed.subgraphs[0].tensors:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = np.float32([0.5])
        return parsed

    parsed = alike()
    content = flatbuffer.packed(parsed, 1000)
    assert (
        flatbuffer.packed(parsed, 1000) == content
    )  # from tables that another file has pointed to
    again = flatbuffer._parse(schema, content).subgraphs[0].tensors
    assert all(tensor.quantization.scale.tolist() == [0.5] for tensor in again)
    monkeypatch.setattr(flatbuffer, "_share_tables", lambda model: None)
    apart = len(flatbuffer.packed(alike(), 1000)) - len(content)
    assert apart >= 8 * (len(again) - 1)  # a table is 8 bytes at the least


def test_weights_lie_where_the_format_asks_for_them(file):
    """`force_align: 16` of the schema, which the flatbuffers package for Python leaves out."""
    content = file.read_bytes()
    root = flatbuffer._schema().Model.GetRootAsModel(content, 0)
    start = np.frombuffer(content, "uint8").ctypes.data
    arrays = [root.Buffers(i) for i in range(root.BuffersLength()) if root.Buffers(i).DataLength()]
    places = [array.DataAsNumpy().ctypes.data - start for array in arrays]
    assert len(places) > 2 and not any(place % 16 for place in places)


def test_tensors_have_names_of_layers_each_once(file):
    parsed = flatbuffer._parse(flatbuffer._schema(), file.read_bytes())
    names = [tensor.name.decode() for tensor in parsed.subgraphs[0].tensors]
    assert len(set(names)) == len(names)
    assert not any("/" in name or ";" in name for name in names)
    empty = [b for b in parsed.buffers if b.data is None or not len(b.data)]
    assert len(empty) == 1 and parsed.buffers[0] is empty[0]
