"""`evaluate` and `predict` of models of anybody's: logits, one score of two classes, labels."""

import os

import keras
import numpy as np
import pytest
from PIL import Image

from kerastl import evaluate, export, export_model, predict
from kerastl.recipes.finished import load_run

L = keras.layers


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Dark and light pictures in class folders, and a table of two labels."""
    home = tmp_path_factory.mktemp("pictures")
    rows = ["file,labels"]
    for i in range(12):
        folder = home / "classes" / ("dark" if i < 6 else "light")
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (10 + 20 * i,) * 3).save(folder / f"{i}.png")
        said = "light|seen" if i >= 6 else "seen"
        rows.append(f"classes/{folder.name}/{i}.png,{said}")
    (home / "table.csv").write_text("\n".join(rows))
    return home


def network(width, activation=None):
    """Scores by the mean of a picture, in the middle between dark and light 0."""
    x = keras.Input((8, 8, 3))
    y = L.GlobalAveragePooling2D()(L.Rescaling(1 / 25.5, -5.0)(x))
    head = L.Dense(width, activation=activation, name="head")
    model = keras.Model(x, head(y))
    kernel = np.zeros((3, width), "float32")
    kernel[:, -1] = 100.0  # far from a probability
    if activation == "sigmoid":
        kernel[:, -1] = 0.3
    head.set_weights([kernel, np.zeros(width, "float32")])
    return model


def saved(path, width, activation=None, loss=None):
    model = network(width, activation)
    if loss is not None:
        model.compile(loss=loss)
    model.save(path)
    return path


binary = keras.losses.BinaryCrossentropy
sparse = keras.losses.SparseCategoricalCrossentropy
MODELS = {
    "one logit": (1, None, binary(from_logits=True)),
    "one sigmoid": (1, "sigmoid", None),
    "logits": (2, None, sparse(from_logits=True)),
    "logits of an unknown loss": (2, None, None),
}


@pytest.mark.parametrize("kind", MODELS)
def test_classes_of_any_scores(kind, pictures, tmp_path):
    path = saved(tmp_path / "m.keras", *MODELS[kind])
    (tmp_path / "labels.txt").write_text("dark\nlight\n")
    report = evaluate(path, pictures / "classes")
    assert report["score"] == 1.0 and report["objective"] == "classification"
    assert report["num_examples"] == 12 and 0 <= report["loss"] < 1
    for answer in predict(path, pictures / "classes"):
        shares = {one["label"]: one["probability"] for one in answer["top"]}
        assert sum(shares.values()) == pytest.approx(1.0)
        assert answer["top"][0]["label"] == answer["file"].split("/")[-2]


@pytest.mark.parametrize("kind", MODELS)
def test_export_counts_them_rightly(kind, pictures, tmp_path):
    path = saved(tmp_path / "m.keras", *MODELS[kind])
    said = export_model(
        path, tmp_path / "m.tflite", data=pictures / "classes", quantize="dynamic", max_drop=0.0
    )
    assert said.ladder.model_accuracy == 1.0
    assert [row["score"] for row in said.rows] == [1.0, 1.0] and said.rows[1]["agreement"] == 1.0


def test_what_is_no_file_is_no_model(pictures, tmp_path):
    for name in ("m.keras", "m.tflite"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(ValueError, match="is no file but a pipe"):
            predict(tmp_path / name, pictures / "classes")
    path = saved(tmp_path / "good.keras", 2, "softmax")
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ValueError, match=r"pipe\.jpg is not a readable image \(no file but a pipe"):
        predict(path, tmp_path / "pipe.jpg")


def test_the_file_of_one_logit_with_two_names(pictures, tmp_path):
    path = export.to_litert(network(1), tmp_path / "m.tflite")
    with pytest.raises(ValueError, match="One number is a score of two classes where a sigmoid"):
        predict(path, pictures / "classes")
    (tmp_path / "labels.txt").write_text("dark\nlight\n")
    assert evaluate(path, pictures / "classes")["score"] == 1.0


def test_the_file_of_one_sigmoid_says_so_itself(pictures, tmp_path):
    path = export.to_litert(network(1, "sigmoid"), tmp_path / "m.tflite")
    (tmp_path / "labels.txt").write_text("dark\nlight\n")
    assert evaluate(path, pictures / "classes")["score"] == 1.0


@pytest.mark.parametrize(
    ("activation", "loss"), [("sigmoid", None), (None, binary(from_logits=True))]
)
def test_several_labels(activation, loss, pictures, tmp_path):
    model = network(2, activation)
    head = model.get_layer("head")
    kernel, _ = head.get_weights()
    head.set_weights([kernel[:, ::-1].copy(), np.array([0, 5], "float32")])  # light, seen
    if loss is not None:
        model.compile(loss=loss)
    model.save(tmp_path / "m.keras")
    (tmp_path / "labels.txt").write_text("light\nseen\n")
    report = evaluate(tmp_path / "m.keras", pictures / "table.csv")
    assert report["objective"] == "multi_label" and report["exact"] == 1.0
    for answer in predict(tmp_path / "m.keras", pictures / "classes"):
        expected = ["light"] * ("light" in answer["file"]) + ["seen"]
        assert sorted(answer["labels"]) == expected
        assert all(0 <= one["probability"] <= 1 for one in answer["top"])


def test_a_sigmoid_for_each_of_several_classes(pictures, tmp_path):
    """The data say that each picture has one of them."""
    path = saved(tmp_path / "m.keras", 2, "sigmoid", "binary_crossentropy")
    with pytest.raises(ValueError, match=r"Put a labels\.txt beside .*m\.keras, a name a line"):
        evaluate(path, pictures / "classes")
    (tmp_path / "labels.txt").write_text("dark\nlight\n")
    report = evaluate(path, pictures / "classes")
    assert report["objective"] == "classification" and report["score"] == 1.0


def test_a_number_stays_a_number(pictures, tmp_path):
    path = saved(tmp_path / "m.keras", 1, None, "mse")
    assert "value" in predict(path, pictures / "classes")[0]


def test_a_file_believes_its_own_labels_and_says_so(pictures, tmp_path):
    path = export.to_litert(network(2, "softmax"), tmp_path / "m.tflite", labels=["dark", "light"])
    assert evaluate(path, pictures / "classes")["score"] == 1.0
    (tmp_path / "labels.txt").write_text("light\ndark\n")
    with pytest.warns(
        UserWarning, match=r"other names than the file itself, which is believed: dark"
    ):
        report = evaluate(path, pictures / "classes")
    assert report["score"] == 1.0


def test_a_run_believes_its_task_and_says_so(tmp_path):
    from kerastl.tasks import Classification, PreparePictures, TrainedFor

    path = saved(tmp_path / "model.keras", 2, "softmax")
    known = TrainedFor(Classification(), PreparePictures((8, 8)), ("dark", "light"), 0)
    (tmp_path / "task.json").write_text(known.to_json())
    (tmp_path / "labels.txt").write_text("light\ndark\n")
    with pytest.warns(UserWarning, match=r"other names than the task\.json, which is believed"):
        assert load_run(path.parent).trained_for.outputs == ("dark", "light")
