"""SavedModel and ONNX: whole and equal to the model, or not there."""

import importlib.util
import pathlib
import sys

import keras
import numpy as np
import pytest

from kerastl import export
from kerastl.export import portable
from tests.tolerances import REDUCTION

HAS_ONNX = all(importlib.util.find_spec(name) for name in ("tf2onnx", "onnx", "onnxruntime"))


@pytest.fixture(scope="module")
def model():
    first, second = keras.Input((4,), name="a"), keras.Input((4,), name="b", dtype="int32")
    total = first + keras.ops.cast(second, "float32")
    return keras.Model([first, second], keras.layers.Dense(3, name="scores")(total))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return [rng.random((5, 4), "float32"), rng.integers(0, 9, (5, 4)).astype("int32")]


def test_a_saved_model_repeats_the_model(model, data, tmp_path):
    import tensorflow as tf

    path = export.to_saved_model(model, tmp_path / "saved")
    loaded = tf.saved_model.load(path)
    received = loaded.serve(data)
    np.testing.assert_allclose(received, model.predict(data, verbose=0), **REDUCTION)
    marker = tmp_path / "saved" / "left.txt"
    marker.write_text("from before")
    export.to_saved_model(model, path)  # an older one is replaced, not mixed with
    assert not marker.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["saved"]


def test_what_is_no_saved_model_is_not_replaced(model, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="an older SavedModel"):
        export.to_saved_model(model, tmp_path / "notes")
    assert (tmp_path / "notes" / "mine.txt").read_text() == "mine"


def test_a_saved_model_that_differs_is_not_put_in_place(model, tmp_path, monkeypatch):
    def wrong(_):
        return lambda graph, named: [np.zeros((2, 3))]

    monkeypatch.setattr(portable, "_run_saved_model", wrong)
    with pytest.raises(RuntimeError, match="does not repeat the model"):
        export.to_saved_model(model, tmp_path / "saved")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ((), r"needs tf2onnx, onnx, onnxruntime.* Install: pip install tf2onnx onnx onnxruntime"),
        (("tf2onnx", "onnx"), r"onnxruntime is missing\. Install: pip install onnxruntime"),
    ],
)
def test_onnx_without_its_packages_says_what_to_install(
    model, tmp_path, monkeypatch, there, message
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in there or None)
    with pytest.raises(ImportError, match=message):
        export.to_onnx(model, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


class Runtime:
    """Stands in for onnxruntime, and for what Keras writes: fails, lies, or gives what it should.

    Attributes:
        fails: An error to raise when a file is opened.
        error: Float, added to what the model gives.
    """

    fails, error = None, 0.0

    def __init__(self, model):
        self.model = model

    def InferenceSession(self, path, providers):
        assert pathlib.Path(path).read_bytes() == b"onnx" and providers == ["CPUExecutionProvider"]
        if self.fails:
            raise self.fails
        return self

    def run(self, names, given):
        return [self.model([given["a"], given["b"]]).numpy() + self.error]


@pytest.fixture
def runtime(model, monkeypatch):
    def write(self, path, **_):
        with open(path, "wb") as file:
            file.write(b"onnx")

    found = Runtime(model)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "onnxruntime", found)
    monkeypatch.setattr(keras.Model, "export", write)
    return found


def test_onnx_is_run_before_it_is_put_in_place(model, runtime, tmp_path):
    path = export.to_onnx(model, tmp_path / "m.onnx")
    assert pathlib.Path(path).read_bytes() == b"onnx"
    runtime.error = 0.1
    with pytest.raises(RuntimeError, match=r"does not repeat the model: outputs differ by 0\.1"):
        export.to_onnx(model, tmp_path / "other.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


class InvalidGraph(Exception):
    """As onnxruntime's, which comes from a private module."""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            'In Node, ("net_1/scores_1/Gelu/Erfc", Erfc, "", -1) : ("x": tensor(float),) -> '
            "Error No Op registered for Erfc with domain_version of 15",
            r"ONNX does not have the operation Erfc of the layer scores\. Nothing was written\.",
        ),
        ("[ONNXRuntimeError] : 1 : FAIL : no memory", "run by onnxruntime: .*no memory.*Nothing"),
    ],
)
def test_an_error_of_onnxruntime_becomes_a_sentence(model, runtime, tmp_path, error, message):
    runtime.fails = InvalidGraph(error)
    with pytest.raises(RuntimeError, match=message):
        export.to_onnx(model, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not HAS_ONNX, reason="tf2onnx, onnx or onnxruntime is not installed")
def test_onnx_names_the_operation_that_it_lacks(tmp_path):
    i = keras.Input((4,), name="i")
    gelu = keras.Model(i, keras.layers.Dense(2, activation="gelu", name="scores")(i))
    with pytest.raises(RuntimeError, match="does not have the operation Erfc of the layer scores"):
        export.to_onnx(gelu, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not HAS_ONNX, reason="tf2onnx, onnx or onnxruntime is not installed")
def test_onnx_repeats_the_model(model, data, tmp_path):
    import onnxruntime

    path = export.to_onnx(model, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(path)
    (received,) = session.run(None, dict(zip("ab", data, strict=True)))
    np.testing.assert_allclose(received, model.predict(data, verbose=0), **REDUCTION)
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
    assert "tf2onnx" in sys.modules
