"""SavedModel and ONNX: whole and equal to the model, or not there."""

import importlib.util
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


def test_onnx_without_its_packages_says_what_to_install(model, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs tf2onnx and onnx\. Install: pip install tf2onnx"):
        export.to_onnx(model, tmp_path / "m.onnx")
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
