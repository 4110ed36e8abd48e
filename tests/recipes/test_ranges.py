"""Models whose pictures were scaled outside them: the range is compared, or asked for."""

import keras
import numpy as np
import pytest
from PIL import Image

from kerastl import compress, evaluate, export, export_model, fine_tune, predict
from kerastl.export.calibration import range_of_file
from kerastl.recipes.finished import load_predictor
from kerastl.tasks import PreparePictures

L = keras.layers


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Three colours to tell apart, and models trained on them: outside / 255, or on pixels."""
    home, rng = tmp_path_factory.mktemp("ranges"), np.random.default_rng(0)
    y = np.arange(48) % 3
    x = rng.integers(0, 90, (48, 16, 16, 3)).astype("uint8")
    x[np.arange(48), :, :, y] += 110
    for i, pixels in enumerate(x):
        (home / "data" / f"c{y[i]}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(home / "data" / f"c{y[i]}" / f"{i}.png")
    for name, scale, normed in (
        ("unit", 1 / 255, False),
        ("normed", 1 / 255, True),
        ("raw", 1, False),
    ):
        keras.utils.set_random_seed(1)
        inputs = h = keras.Input((16, 16, 3), name="i")
        h = L.Conv2D(8, 3, use_bias=not normed)(h)
        h = L.ReLU()(L.BatchNormalization(momentum=0.5)(h) if normed else h)
        outputs = L.Dense(3, activation="softmax")(L.GlobalAveragePooling2D()(h))
        model = keras.Model(inputs, outputs)
        rate = 1e-2 if scale < 1 else 1e-3
        model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
        model.fit(x * np.float32(scale), y, epochs=40, verbose=0)
        model.save(home / f"{name}.keras")
    (home / "labels.txt").write_text("c0\nc1\nc2\n")
    unit = keras.models.load_model(home / "unit.keras")
    for io_dtype in ("float32", "uint8"):
        export.to_litert(
            unit, home / f"{io_dtype}.tflite", quantization="int8", io_dtype=io_dtype,
            representative_data=x / np.float32(255),
        )  # fmt: skip
    return home


@pytest.mark.slow_but("raw")
@pytest.mark.parametrize("name", ["unit", "raw"])
def test_export_does_not_calibrate_before_it_knows(name, home, tmp_path):
    out, data = tmp_path / "m.tflite", home / "data"
    with pytest.raises(ValueError, match=r"does not say which values it takes.*--input-range"):
        export_model(home / f"{name}.keras", out, data=data, quantize="int8")
    assert not out.exists()
    taken = (0, 1) if name == "unit" else (0, 255)
    said = export_model(home / f"{name}.keras", out, data=data, quantize="int8", input_range=taken)
    assert said.rows[-1]["score"] == 1.0
    low, high = range_of_file(out.read_bytes(), export.LiteRTModel(out).inputs[0])
    assert low == 0 and 0.7 * taken[1] < high < 1.1 * taken[1]


def test_statistics_refuse_pixels_and_the_user_may_say(home, tmp_path):
    with pytest.raises(ValueError, match=r"times as far spread as in the training.*--input-range"):
        export_model(
            home / "normed.keras", tmp_path / "m.tflite", data=home / "data", quantize="int8"
        )
    with pytest.raises(ValueError, match="times as far spread"):
        evaluate(home / "normed.keras", home / "data")
    said = export_model(
        home / "normed.keras", tmp_path / "m.tflite", data=home / "data", quantize="int8",
        input_range=(0, 1),
    )  # fmt: skip
    assert said.rows[-1]["score"] == 1.0 and not said.notices


def test_a_backbone_that_was_trained_on_other_values_is_refused(home, tmp_path):
    words = r"for the backbone, pixels 0 to 255, .* times as far spread.* Put its scaling inside it"
    settings = {"epochs": 1, "augment": "none", "export": "none"}
    with pytest.raises(ValueError, match=words):
        fine_tune(home / "data", tmp_path / "run", backbone=str(home / "normed.keras"), **settings)
    assert not list(tmp_path.iterdir())


def test_compress_trains_on_what_the_model_takes_or_not_at_all(home, tmp_path):
    settings = {"prune": 0.5, "epochs": 1, "augment": "none", "max_drop": 1.0}
    with pytest.raises(ValueError, match="does not say which values it takes"):
        compress(home / "unit.keras", home / "data", tmp_path / "a", **settings)
    with pytest.raises(ValueError, match=r"To train, .* pixels 0 to 255.*Rescaling"):
        compress(home / "unit.keras", home / "data", tmp_path / "b", input_range=(0, 1), **settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["float32.tflite", "uint8.tflite"])
def test_the_scale_of_a_file_says_what_it_takes(name, home):
    words = r"takes \[0, 0\.\d+\], as the scale of its input says, and pictures become pixels 0 to"
    with pytest.raises(ValueError, match=words):
        load_predictor(home / name)
    with pytest.raises(ValueError, match=words):
        predict(home / name, home / "data")
    report = evaluate(home / name, home / "data", input_range=(0, 1))
    assert report["score"] == 1.0
    answers = predict(home / name, home / "data", input_range=(0, 1))
    assert all(answer["top"][0]["label"] in answer["file"] for answer in answers)


def test_where_nothing_says_evaluate_and_predict_tell_what_they_give(home):
    report = evaluate(home / "raw.keras", home / "data")
    assert report["score"] == 1.0 and "pictures become pixels 0 to 255" in report["notices"][0]
    with pytest.warns(UserWarning, match="pictures become pixels 0 to 255"):
        predict(home / "raw.keras", home / "data")
    report = evaluate(home / "unit.keras", home / "data", input_range=(0, 1))
    assert report["score"] == 1.0 and not report["notices"]


def test_a_range_is_kept_and_checked():
    prepare = PreparePictures((8, 8)).in_range((-1, 1))
    assert PreparePictures.from_config(prepare.to_config()) == prepare
    assert prepare.gives == "values -1 to 1"
    with pytest.raises(ValueError, match="two numbers, the lower first"):
        prepare.in_range((1, 0))
