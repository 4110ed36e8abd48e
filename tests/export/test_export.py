"""LiteRT files: written whole and checked or not at all, run, compared with the model."""

import gzip
import os
from pathlib import Path

import keras
import numpy as np
import pytest

from kerastl import backbones, export
from kerastl._base.quiet import quiet
from kerastl.export import conversion, flatbuffer
from tests.tolerances import EXACT, REDUCTION

DATA = Path(__file__).parents[3] / "shared" / "data"
NOTOP = DATA / "mobilenet_0.25_224" / "mobilenet_v1_0.25_224_notop.weights.h5"


class Tuner(keras.Model):
    """A functional model with a `call` and a `train_step` of its own, compiled and trained."""

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=False, mask=mask)

    def train_step(self, data):
        return super().train_step(data)


@pytest.fixture(scope="module")
def model():
    image = keras.Input((12, 10, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    x = keras.layers.Conv2D(4, 3, activation="relu")(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.5)(x)
    model = Tuner(image, keras.layers.Dense(3, activation="softmax", name="probabilities")(x))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(np.zeros((2, 12, 10, 3)), np.zeros(2), verbose=0)
    return model


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 12, 10, 3)).astype("uint8")


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model.tflite"
    assert export.to_litert(model, path, labels=["daisy", "rose", "café au lait"]) == str(path)
    return path


def test_file_repeats_the_model_with_its_names_and_labels(file, model, pixels):
    lite = export.LiteRTModel(file)
    assert [(t.name, t.shape, t.dtype) for t in lite.inputs] == [
        ("image", (1, 12, 10, 3), "float32")
    ]
    assert [(t.name, t.shape) for t in lite.outputs] == [("probabilities", (1, 3))]
    assert lite.labels == ("daisy", "rose", "café au lait")
    assert lite.size_bytes == os.path.getsize(file)
    np.testing.assert_allclose(lite.predict(pixels), model.predict(pixels, verbose=0), **REDUCTION)


def test_nothing_else_is_left_beside_the_file(file):
    assert sorted(p.name for p in file.parent.iterdir()) == ["labels.txt", "model.tflite"]


def test_parity_measures_what_numpy_does(file, model, pixels):
    result = export.parity(model, file, pixels)
    ours = model.predict(pixels, verbose=0).astype("float64")
    theirs = export.LiteRTModel(file).predict(pixels)
    assert result.max_abs_error == np.abs(ours - theirs).max()
    assert result.mean_abs_error == pytest.approx(np.abs(ours - theirs).mean(), rel=1e-12)
    assert result.agreement == 1.0
    assert result.num_examples == 5
    assert result.size_bytes == os.path.getsize(file)
    assert result.median_ms > 0
    assert result.operations["CONV_2D"] == 1
    assert result.operations["FULLY_CONNECTED"] == 1
    assert not any(name.startswith("CUSTOM") for name in result.operations)


def test_parity_tells_accuracy_sizes_and_operations(file, model, pixels):
    found = model.predict(pixels, verbose=0).argmax(1)
    labels = np.where(np.arange(5) < 3, found, (found + 1) % 3)  # three of five are right
    result = export.parity(model, file, pixels, labels)
    assert result.model_accuracy == result.file_accuracy == pytest.approx(0.6)
    assert result.gzip_bytes == len(gzip.compress(file.read_bytes(), mtime=0))
    assert result.int8_share == 0.0
    rows = {(row.op, row.dtype, row.weights): row.count for row in result.ops}
    assert rows["CONV_2D", "float32", "float32"] == rows["SOFTMAX", "float32", None] == 1
    assert "| accuracy of the file" in str(result) and "| CONV_2D" in str(result)
    one_hot = np.eye(3)[labels]
    assert export.parity(model, file, pixels, one_hot).file_accuracy == result.file_accuracy
    with pytest.raises(ValueError, match=r"Received: labels of shape \(4,\), scores of shape"):
        export.parity(model, file, pixels, labels[:4])


def test_parity_sees_a_model_that_differs(file, model, pixels):
    other = keras.models.clone_model(keras.Model(model.inputs[0], model.outputs[0]))
    head = other.layers[-1]
    head.set_weights([np.zeros((4, 3), "float32"), np.array([0, 0, 5], "float32")])
    result = export.parity(other, file, pixels)
    # softmax of (0, 0, 5), by hand: (0.00665, 0.00665, 0.98670)
    theirs = export.LiteRTModel(file).predict(pixels)
    expected = np.abs(theirs - [0.00664835, 0.00664835, 0.9867033]).max()
    assert result.max_abs_error == pytest.approx(expected, abs=1e-6)
    assert result.agreement == np.mean(theirs.argmax(1) == 2)


def test_parity_refuses_another_networks_file(file, model, pixels):
    other = keras.Model(model.inputs[0], keras.layers.Flatten()(model.inputs[0]))
    with pytest.raises(ValueError, match="not the same network"):
        export.parity(other, file, pixels)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 12, 11, 3)), r"Received: shape=\(2, 12, 11, 3\)"),
        (np.zeros((0, 12, 10, 3)), "at least one example"),
        ({"image": np.zeros((1, 12, 10, 3)), "more": np.zeros(1)}, "must have the keys"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(file, x, message):
    with pytest.raises(ValueError, match=message):
        export.LiteRTModel(file).predict(x)


def test_several_inputs_outputs_and_examples_a_batch(tmp_path):
    first, second = keras.Input((4,), name="b"), keras.Input((4,), name="a", dtype="int32")
    total = keras.layers.Dense(3, name="large")(first + keras.ops.cast(second, "float32"))
    model = keras.Model([first, second], [keras.layers.Dense(2, name="small")(first), total])
    path = export.to_litert(model, tmp_path / "two.tflite", batch_size=2)
    lite = export.LiteRTModel(path)
    data = {"b": np.random.default_rng(0).random((3, 4), "float32"), "a": np.ones((3, 4), int)}
    small, large = model.predict([data["b"], data["a"]], verbose=0)
    received = lite.predict(data)  # three examples in batches of two
    np.testing.assert_allclose(received["small"], small, **REDUCTION)
    np.testing.assert_allclose(received["large"], large, **REDUCTION)
    assert export.parity(model, lite, [data["b"], data["a"]]).max_abs_error < 1e-5
    with pytest.raises(ValueError, match="'a' must hold integers"):
        lite.predict({**data, "a": np.full((3, 4), 0.5)})


def test_a_sequential_model(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="scores")])
    lite = export.LiteRTModel(export.to_litert(model, tmp_path / "model.tflite"))
    x = np.random.default_rng(0).random((3, 4), "float32")
    assert lite.outputs[0].name == "scores"
    np.testing.assert_allclose(lite.predict(x), model.predict(x, verbose=0), **REDUCTION)
    assert export.parity(model, lite, x).agreement == 1.0


def test_operations_that_litert_lacks_are_refused_by_name(tmp_path):
    matrix = keras.Input((3, 3))
    model = keras.Model(matrix, keras.ops.linalg.inv(matrix))
    path = tmp_path / "model.tflite"
    with pytest.raises(ValueError, match=r"does not have: FlexMatrixInverse.*allow_flex=True"):
        export.to_litert(model, path)
    assert not list(tmp_path.iterdir())
    export.to_litert(model, path, allow_flex=True)
    assert "CUSTOM:FlexMatrixInverse" in flatbuffer.operations(path.read_bytes())
    with pytest.raises(ValueError, match="cannot be run by this LiteRT runtime"):
        export.LiteRTModel(path)


def test_operations_that_the_converter_refuses_are_named(tmp_path):
    values = keras.Input((3,))
    model = keras.Model(values, keras.ops.erfinv(values))
    with pytest.raises(ValueError, match="operations that LiteRT does not have: Erfinv"):
        export.to_litert(model, tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


def test_a_file_that_lost_its_weights_is_refused(model, tmp_path, monkeypatch):
    def without_weights(content, **names):
        schema = flatbuffer._schema()
        parsed = flatbuffer._parse(schema, renamed(content, **names))
        for buffer in parsed.buffers:
            if buffer.data is not None and len(buffer.data) > 100:  # the convolution's kernel
                buffer.data = np.zeros_like(buffer.data)
        import flatbuffers

        builder = flatbuffers.Builder(len(content))
        builder.Finish(parsed.Pack(builder), flatbuffer.IDENTIFIER)
        return bytes(builder.Output())

    renamed = flatbuffer.renamed
    monkeypatch.setattr(conversion.flatbuffer, "renamed", without_weights)
    with pytest.raises(RuntimeError, match="does not repeat the model"):
        export.to_litert(model, tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


def test_a_call_that_is_not_the_graph_is_found_out(tmp_path):
    class Doubled(keras.Model):
        def call(self, inputs, training=None, mask=None):
            return 2 * super().call(inputs, training=training, mask=mask)

    inputs = keras.Input((3,))
    model = Doubled(inputs, keras.layers.Dense(2, bias_initializer="ones")(inputs))
    with pytest.raises(RuntimeError, match="whose `call` does more than its graph"):
        export.to_litert(model, tmp_path / "model.tflite")


def test_a_full_disk_leaves_the_old_file(model, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "/somewhere/temporary")

    path = tmp_path / "model.tflite"
    path.write_bytes(b"what was there before")
    monkeypatch.setattr(conversion, "write_endpoint", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*model\.tflite'"):
        export.to_litert(model, path)
    assert path.read_bytes() == b"what was there before"
    assert [p.name for p in tmp_path.iterdir()] == ["model.tflite"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quantization": "int9"}, "Received: quantization='int9'. Closest: 'int8'"),
        ({"io_dtype": "int8"}, "needs quantization='int8'"),
        ({"quantization": "int8", "io_dtype": "int16"}, "needs quantization='int16x8'"),
        ({"quantization": "int8"}, "`representative_data`.* Received: None. About 100"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"labels": ["daisy"]}, "each of the model's 3 outputs. Received: 1 labels"),
        ({"labels": ["a", "b", "c\nd"]}, "one line of text"),
    ],
)
def test_arguments_are_checked_before_any_work(model, settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export.to_litert(model, tmp_path / "model.tflite", **settings)


def test_paths_and_models_that_cannot_be_written(model, tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.tflite"):
        export.to_litert(model, tmp_path / "model.lite")
    with pytest.raises(FileNotFoundError, match="folder of `path` must exist"):
        export.to_litert(model, tmp_path / "nowhere" / "model.tflite")
    for unbuilt in (keras.Sequential([keras.layers.Dense(1)]), keras.Model(), "model.keras"):
        with pytest.raises(ValueError, match="must be a built keras"):
            export.to_litert(unbuilt, tmp_path / "model.tflite")
    any_size = keras.Input((None, 4), name="tokens")
    with pytest.raises(ValueError, match=r"input 'tokens' of shape \(None, None, 4\)"):
        export.to_litert(
            keras.Model(any_size, keras.layers.Dense(1)(any_size)), tmp_path / "model.tflite"
        )


def test_files_that_are_no_litert_files(tmp_path):
    (tmp_path / "model.tflite").write_text("just some text")
    with pytest.raises(ValueError, match="is not a LiteRT"):
        export.LiteRTModel(tmp_path / "model.tflite")
    (tmp_path / "model.tflite").write_bytes(b"\0\0\0\0TFL3 and then nothing")
    with pytest.raises(ValueError, match="cannot be run"):
        export.LiteRTModel(tmp_path / "model.tflite")


def test_quiet_holds_back_native_output_and_keeps_it_for_errors(capfd):
    with quiet():
        os.write(2, b"chatter\n")
    assert capfd.readouterr() == ("", "")
    with pytest.raises(ValueError, match="wrong") as caught, quiet():
        os.write(2, b"the reason\n")
        raise ValueError("wrong")
    assert any("the reason" in note for note in caught.value.__notes__)
    os.write(1, b"after")
    assert capfd.readouterr().out == "after"


@pytest.mark.slow
@pytest.mark.skipif(not NOTOP.exists(), reason=f"{NOTOP} is not here")
def test_real_backbone_on_photographs(tmp_path):
    photographs = sorted((DATA / "flowers" / "test").glob("*/*.jpg"))[::15]
    pixels = np.stack(
        [np.asarray(keras.utils.load_img(p, target_size=(96, 96))) for p in photographs]
    )
    model = backbones.load("mobilenet", weights=NOTOP, alpha=0.25, image_size=96)
    path = export.to_litert(model, tmp_path / "model.tflite")
    result = export.parity(model, path, pixels)
    assert result.max_abs_error < 1e-4 * float(np.abs(model(pixels)).max())
    assert result.operations["DEPTHWISE_CONV_2D"] == 13
    # 218,544 weights of the network as float32 (batch norms folded), and little else.
    assert 0.9 < result.size_bytes / (4 * model.count_params()) < 1.1


def test_threads_do_not_change_the_numbers(file, pixels):
    with pytest.raises(ValueError, match=r"`threads` must be an int in \[1, 1024\]"):
        export.LiteRTModel(file, threads=0)
    np.testing.assert_allclose(
        export.LiteRTModel(file, threads=1).predict(pixels),
        export.LiteRTModel(file, threads=2).predict(pixels),
        **EXACT,
    )
