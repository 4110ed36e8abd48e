"""The ladder: finds the layers that int8 destroys, keeps these in float, and says so."""

import os

import keras
import numpy as np
import pytest

from kerastl import export
from kerastl.backbones.glyphs import class_names, load_glyphnet, render_glyphs
from kerastl.export import Ladder, Rung, selective


@pytest.fixture(scope="module")
def glyphs():
    return render_glyphs(300, seed=(4, 2))  # not a training seed


@pytest.fixture(scope="module")
def spoiled():
    """The glyph network with one channel of two layers 300 times as large.

    The convolution after it takes that back, so in float nothing changes; in 8 bits the other
    channels of these layers fall between two steps.
    """
    model = load_glyphnet(include_top=True)
    for stage in ("stage_1", "stage_2"):
        norm, after = (model.get_layer(f"{stage}_{name}") for name in ("conv1_bn", "conv2"))
        gamma, beta, mean, variance = norm.get_weights()
        gamma[3], beta[3] = 300 * gamma[3], 300 * beta[3]
        norm.set_weights([gamma, beta, mean, variance])
        (kernel,) = after.get_weights()
        kernel[:, :, 3] /= 300
        after.set_weights([kernel])
    return model


@pytest.fixture(scope="module")
def ladder(spoiled, glyphs, tmp_path_factory):
    images, labels = glyphs
    return export.to_litert_within(
        spoiled,
        tmp_path_factory.mktemp("ladder") / "model.tflite",
        images[100:],
        labels[100:],
        representative_data=(images[:100], labels[:100]),
        class_names=class_names(),
    )


def test_the_spoiled_layers_are_found_and_kept_in_float(ladder):
    worst = {entry.layer for entry in ladder.layers[:2]}
    assert worst == {
        "stage_1_conv1 + stage_1_conv1_bn + stage_1_relu1",
        "stage_2_conv1 + stage_2_conv1_bn + stage_2_relu1",
    }
    # Steps of 1/255 of 300: what is left of the others is near nothing. Sound layers: 30 and more.
    assert ladder.layers[1].sqnr_db < 10 and np.median([e.sqnr_db for e in ladder.layers]) > 30
    assert ladder.chosen.name == "int8_mixed"
    assert {entry.layer for entry in ladder.chosen.kept} == worst


def test_the_report_of_layers_names_them_too(spoiled, ladder, glyphs):
    report = export.layer_errors(spoiled, glyphs[0][:100])
    assert [e.layer for e in report.need_care] == [e.layer for e in ladder.layers[:2]]
    shown = str(report).splitlines()
    assert shown[0] == f"2 of {len(report.layers)} layers need care (under 10 dB)."
    assert report.need_care[0].layer in shown[4] and len(shown) == 4 + len(report.layers)
    assert len(report.table(3).splitlines()) == 7


def test_each_rung_is_measured_and_the_last_is_taken(ladder):
    assert [rung.name for rung in ladder.rungs] == ["int8", "int8_mixed", "int8_mixed"]
    assert [rung.accepted for rung in ladder.rungs] == [False, False, True]
    assert ladder.rungs[0].accuracy < ladder.model_accuracy - 0.3
    assert ladder.chosen.accuracy >= ladder.model_accuracy - 0.01
    sizes = [rung.size_bytes for rung in (*ladder.rungs, ladder.baseline)]
    assert sizes == sorted(sizes)
    assert all(rung.median_ms > 0 for rung in ladder.rungs)


def test_the_file_written_is_the_rung_taken(ladder, spoiled, glyphs):
    images, labels = (part[100:] for part in glyphs)
    result = export.parity(spoiled, ladder.path, images, labels)
    assert result.file_accuracy == ladder.chosen.accuracy
    assert result.model_accuracy == ladder.model_accuracy
    assert export.LiteRTModel(ladder.path).labels == class_names()
    in_float = {row.op: row.count for row in result.ops if row.in_float}
    # The two spoiled convolutions and the two that take their results.
    assert in_float == {"CONV_2D": 4}
    assert sorted(os.listdir(os.path.dirname(ladder.path))) == ["labels.txt", "model.tflite"]


def test_the_table_says_what_was_done(ladder):
    text = str(ladder)
    assert text.startswith("int8_mixed with 2 layers in float: accuracy 0.")
    assert "| int8_mixed, 2 in float (taken) |" in text
    assert "| stage_1_conv1 + stage_1_conv1_bn + stage_1_relu1 |" in text


def test_int8_that_lost_the_signal_is_refused(spoiled, glyphs, tmp_path):
    with pytest.raises(RuntimeError, match="`to_litert_within` finds the layers"):
        export.to_litert(
            spoiled, tmp_path / "m.tflite", quantization="int8", representative_data=glyphs
        )
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def small():
    pixels = keras.Input((8, 8, 3), name="pixels")
    x = keras.layers.Conv2D(4, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(pixels))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(pixels, keras.layers.Dense(3, name="scores")(x))


@pytest.fixture(scope="module")
def examples(small):
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3)).astype("float32")
    return images, small.predict(images, verbose=0).argmax(1)


def test_int8_is_taken_where_it_does(small, examples, tmp_path):
    result = export.to_litert_within(
        small, tmp_path / "m.tflite", *examples, representative_data=examples, max_drop=0.2
    )
    assert [rung.name for rung in result.rungs] == ["int8"]
    assert result.layers == ()
    assert export.parity(small, result.path, examples[0]).int8_share == 1.0


def test_a_ladder_without_int8_needs_no_data(small, examples, tmp_path):
    result = export.to_litert_within(
        small, tmp_path / "m.tflite", *examples, ladder=("float16",), max_drop=0.0
    )
    assert result.chosen.name == "float16"
    with pytest.raises(ValueError, match="needs `representative_data`"):
        export.to_litert_within(small, tmp_path / "m.tflite", *examples)


def test_nothing_is_written_if_no_rung_holds(small, examples, tmp_path):
    values = iter([1.0, 1.0, 0.5])  # the model, its float32 file, float16
    settings = {"max_drop": 0.1, "score": lambda scores, labels: next(values)}
    with pytest.raises(RuntimeError, match=r"(?s)No rung.*within 0.1.*\| float16 +\| +0.5000"):
        export.to_litert_within(
            small, tmp_path / "m.tflite", *examples, ladder=("float16",), **settings
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_drop": 2}, r"`max_drop` must be a number in \[0, 1\]"),
        ({"ladder": ("int8_mixd",)}, "Closest: 'int8_mixed'"),
        ({"class_names": ["a"]}, "each of the model's 3 outputs"),
    ],
)
def test_arguments_are_checked(small, examples, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        export.to_litert_within(small, tmp_path / "m.tflite", *examples, **settings)


def test_labels_must_go_with_the_scores(small, examples, tmp_path):
    with pytest.raises(ValueError, match=r"labels of shape \(7,\), scores of shape \(30, 3\)"):
        export.to_litert_within(small, tmp_path / "m.tflite", examples[0], np.zeros(7))


def test_the_median_channel_decides():
    # By hand: 20 dB, 10 dB, 40 dB, and a channel without signal, which says nothing.
    signal, error = np.array([100.0, 10, 1e4, 0]), np.array([1.0, 1, 1, 1])
    assert selective._median_db(signal, error) == pytest.approx(20)


def test_a_rung_that_failed_is_told():
    failed = Rung("int8", note="no kernel for COS")
    taken = Rung("float16", 0.9, 50, 40, 2.0, accepted=True)
    text = str(Ladder("m.tflite", 0.9, Rung("float32", 0.9, 100, 80, 1.0), (failed, taken)))
    assert "int8: no kernel for COS" in text
    assert text.startswith("float16: accuracy 0.9000 (model 0.9000), 0.50 of the size, 2 ms (1 in")
    assert "slower than float32" in text


def test_int8_that_is_nearly_all_float_is_passed_over(spoiled, glyphs, tmp_path, monkeypatch):
    """Its accuracy would do, but float16 is smaller."""
    monkeypatch.setattr("kerastl.export.ladder._LARGEST", 0.3)
    images, labels = glyphs
    result = export.to_litert_within(
        spoiled,
        tmp_path / "m.tflite",
        images[100:],
        labels[100:],
        representative_data=(images[:100], labels[:100]),
    )
    names = [rung.name for rung in result.rungs]
    assert names.count("int8_mixed") == 1 and result.chosen.name in ("dynamic", "float16")
    assert "int8_mixed: hardly smaller than float32" in str(result)
