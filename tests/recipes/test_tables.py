"""Several labels a picture, and a number a picture: from a table to a verified device file."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

from kerastl import compress, evaluate, export_model, fine_tune, predict
from kerastl.export import LiteRTModel
from kerastl_cli.main import run

FAST = {"backbone": "glyphnet", "augment": "none", "batch_size": 8}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """80 pictures: light or dark, striped or not; their tables; and a run on each."""
    home, rng = tmp_path_factory.mktemp("tables"), np.random.default_rng(0)
    data = home / "data"
    data.mkdir()
    labels, values = ["file,labels"], ["file,value"]
    for i in range(80):
        grey, striped = int(rng.integers(20, 230)), bool(rng.integers(2))
        pixels = np.clip(rng.normal(grey, 15, (40, 40, 3)), 0, 255)
        pixels[::4] = 255 - pixels[::4] if striped else pixels[::4]
        Image.fromarray(pixels.astype("uint8")).save(data / f"{i}.png")
        said = ["light"] * (grey > 125) + ["striped"] * striped
        labels.append(f"{i}.png,{'|'.join(said)}")
        values.append(f"{i}.png,{10 * grey}")
    (data / "labels.csv").write_text("\n".join(labels))
    (data / "values.csv").write_text("\n".join(values))
    return home


@pytest.fixture(scope="module")
def labelled(home):
    return fine_tune(home / "data", home / "labelled", strategy="probe", export="int8", **FAST)


@pytest.fixture(scope="module")
def measured(home):
    table = home / "data" / "values.csv"
    trained = {"strategy": "full", "keep": "last", "epochs": 12}
    return fine_tune(table, home / "measured", export="int8", **trained, **FAST)


def test_several_labels_from_table_to_device(home, labelled):
    metrics = labelled.metrics
    assert metrics["objective"] == "multi_label" and metrics["score"] > 0.9  # by chance a half
    assert set(metrics["per_label"]) == {"light", "striped"}
    assert metrics["tflite"]["score"] > 0.9 and metrics["tflite"]["agreement"] > 0.9
    assert (labelled.folder / "labels.txt").read_text().split() == ["light", "striped"]
    file = LiteRTModel(labelled.folder / "model.tflite")
    assert file.labels == ("light", "striped")
    report = evaluate(labelled.folder / "model.tflite", home / "data")
    assert report["num_examples"] == 80 and report["score"] > 0.95
    assert "the score includes what it was trained on" in report["notices"][0]
    assert [row["name"] for row in report["files"]] == [
        "model.keras", "float.tflite", "model.tflite",
    ]  # fmt: skip
    told = [set(answer["labels"]) for answer in predict(labelled.folder, [home / "data"])]
    assert {"light"} in told and set() in told  # no forced choice


@pytest.mark.slow
def test_a_number_from_table_to_device(home, measured):
    metrics = measured.metrics
    assert metrics["objective"] == "regression" and metrics["score"] > 0.8
    assert metrics["tflite"]["score"] > 0.8 and metrics["tflite"]["agreement"] is None
    assert not (measured.folder / "labels.txt").exists()
    answer, *_ = predict(measured.folder / "model.tflite", home / "data" / "0.png")
    value = float((home / "data" / "values.csv").read_text().splitlines()[1].split(",")[1])
    assert answer["value"] == pytest.approx(value, abs=400)  # values spread by 600
    said = json.loads((measured.folder / "task.json").read_text())
    assert said["objective"] == "regression" and said["prepare"]["image_size"] == [32, 32]


@pytest.mark.slow
@pytest.mark.parametrize("name, table", [("labelled", "labels.csv"), ("measured", "values.csv")])
def test_compressed_and_exported(home, name, table, request, tmp_path):
    """Through zeros and an int8 file within a drop of the objective's own score."""
    result = request.getfixturevalue(name)
    table = home / "data" / table
    smaller = compress(
        result.folder, table, tmp_path / "small", prune=0.5, epochs=2, batch_size=8,
        augment="none", max_drop=0.3,
    )  # fmt: skip
    rows = smaller.metrics["rows"]
    assert [row["name"] for row in rows] == ["float", "pruned", "int8"]
    assert rows[-1]["score"] > 0.7 and rows[1]["sparsity"] > 0.4
    file = tmp_path / "file.tflite"
    said = export_model(result.folder, file, data=table, quantize="int8", max_drop=0.3)
    assert said.ladder.chosen.accepted and file.stat().st_size < 0.35 * said.rows[0]["bytes"]


def test_saved_models_are_open_to_stock_keras(measured):
    """The layer that brings numbers into their units is Keras's own."""
    saved = keras.models.load_model(measured.folder / "model.keras")
    x = np.full((1, 32, 32, 3), 125.0, "float32")
    np.testing.assert_array_equal(saved.predict(x, verbose=0), measured.model.predict(x, verbose=0))


def test_another_kind_of_data_is_refused(home, labelled, measured, tmp_path):
    with pytest.raises(ValueError, match=r"learnt multi_label.*is for regression"):
        evaluate(labelled.folder, home / "data" / "values.csv")
    with pytest.raises(ValueError, match=r"learnt regression.*is for multi_label"):
        compress(measured.folder, home / "data", tmp_path / "out")
    other = home / "data" / "other.csv"
    other.write_text("file,labels\n0.png,light|zebra\n1.png,\n2.png,light\n")
    with pytest.raises(ValueError, match="zebra"):
        evaluate(labelled.folder, other)
    other.unlink()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,value,split\n0.png,1,train\n1.png,2,train\n2.png,3,test\n", "to measure on"),
        ("file,value,split\n0.png,1,train\n1.png,1,train\n2.png,3,test\n", "to train on"),
        ("file,labels,split\n0.png,a,train\n1.png,b,train\n2.png,,test\n", "must have a label"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_training(home, text, words, tmp_path):
    table = home / "data" / "few.csv"
    table.write_text(text)
    with pytest.raises(ValueError, match=words):
        fine_tune(table, tmp_path / "run", epochs=10**5, **FAST)
    assert list(tmp_path.iterdir()) == []
    table.unlink()


def test_a_label_that_nothing_trains_is_told(home, tmp_path):
    table = home / "data" / "rare.csv"
    rows = [f"{i}.png,{'a' if i % 2 else ''},train" for i in range(8)]
    table.write_text("\n".join(["file,labels,split", *rows, "8.png,a|rare,test", "9.png,,test"]))
    result = fine_tune(table, tmp_path / "run", strategy="probe", export="none", **FAST)
    assert "No picture to train on has the label rare." in result.metrics["notices"]
    table.unlink()


def test_the_command_line_prints_what_the_objective_says(home, labelled, measured, capsys):
    assert run(["evaluate", str(measured.folder), str(home / "data" / "values.csv")]) == 0
    out = capsys.readouterr().out
    assert "R²" in out and "mean absolute error" in out
    assert run(["predict", str(labelled.folder), str(home / "data" / "0.png")]) == 0
    assert "striped" in capsys.readouterr().out
