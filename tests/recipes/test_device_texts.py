"""Device files of texts through the verbs: tune, export, predict, evaluate, compress."""

import json
import shutil

import keras
import numpy as np
import pytest

from kerastl import FineTuner, backbones, compression, fine_tune
from kerastl.export import LiteRTModel
from kerastl.recipes import compress, device_files, evaluate, export_model, predict
from kerastl.recipes.finished import load_run, read_for
from kerastl.recipes.run_folder import RunFolder
from kerastl.tasks import find_source
from kerastl.tasks.settings import ReadSettings
from kerastl_cli.main import run as cli
from tests.backbones import text_cases as cases
from tests.recipes.test_texts import rows

keras_hub = pytest.importorskip("keras_hub")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    (folder / "train.tsv").write_text(rows(48, 1))
    (folder / "test.tsv").write_text(rows(24, 2) + "pet\tcaf\u00e9 cat\n")
    return folder


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    path = tmp_path_factory.mktemp("lines") / "lines.txt"
    path.write_text("the cat sat\nCaf\u00e9 old dog\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(table, tmp_path_factory):
    """A run that solved its head, with the device files that texts get by default."""
    home = tmp_path_factory.mktemp("run")
    tensors = cases.bert_tensors(layers=1, scale=0.1)
    network = cases.bert_folder(home / "bert", tensors=tensors, num_hidden_layers=1)
    return fine_tune(table, home / "run", backbone=str(network), strategy="probe")


@pytest.fixture(scope="module")
def byte_run(table, tmp_path_factory):
    """The same of a RoBERTa, whose vocabulary is of byte pairs, without a device file."""
    home = tmp_path_factory.mktemp("bytes")
    tokenizer = cases.tokenizers()["roberta"]()
    network = keras_hub.models.RobertaBackbone(
        vocabulary_size=tokenizer.vocabulary_size(), max_sequence_length=32, **cases.SMALL
    )
    network.save_to_preset(str(home / "preset"))
    tokenizer.save_to_preset(str(home / "preset"))
    options = {"backbone": str(home / "preset"), "strategy": "probe", "export": "none"}
    return fine_tune(table, home / "run", **options)


def answers(path, lines):
    """The probability of `pet` for each line."""
    told = predict(path, lines, top=2)
    best = [{one["label"]: one["probability"] for one in answer["top"]} for answer in told]
    return np.array([one["pet"] for one in best])


def test_a_run_has_a_dynamic_file_and_the_float_one_beside(run):
    names = {path.name for path in run.folder.iterdir()}
    assert {"model.tflite", "float.tflite", "tokens", "task.json", "labels.txt"} <= names
    metrics = run.metrics
    assert metrics["tflite"]["quantization"] == "dynamic"
    assert metrics["float_tflite"]["quantization"] is None
    assert metrics["float_tflite"]["max_abs_error"] < 1e-4
    assert metrics["tflite"]["median_ms"] > 0
    assert metrics["float_tflite"]["score"] == pytest.approx(metrics["score"])
    assert any("1 of the 25 texts held out" in line for line in metrics["notices"])
    length = json.loads((run.folder / "task.json").read_text())["prepare"]["length"]
    assert {t.shape for t in LiteRTModel(run.folder / "model.tflite").inputs} == {(1, length)}


def test_a_lone_file_reads_new_texts_by_what_is_inside(run, lines, table, tmp_path, monkeypatch):
    lone = tmp_path / "moved.tflite"
    shutil.copy(run.folder / "float.tflite", lone)
    monkeypatch.setattr(backbones.Tokens, "load", None)  # nothing is looked for beside it
    np.testing.assert_allclose(answers(lone, lines), answers_of_network(run, lines), atol=1e-4)
    report = evaluate(lone, table)
    assert report["score"] == pytest.approx(run.metrics["score"])
    assert [row["name"] for row in report["files"]] == ["moved.tflite"]


def answers_of_network(run, lines):
    """By hand, from the model in memory and the tokenizer of the network, accents stripped."""
    tokens = backbones.load_tokens(run.folder.parent / "bert")
    texts = lines.read_text(encoding="utf-8").splitlines()
    packed = tokens.pack(tokens.ids(texts), 8)
    return np.asarray(run.model(packed, training=False))[:, 1]


def test_evaluate_measures_the_forms_of_a_run_side_by_side(run, table):
    report = evaluate(run.folder / "model.tflite", table)
    names = [row["name"] for row in report["files"]]
    assert names == ["model.keras", "float.tflite", "model.tflite"]
    assert report["files"][1]["agreement"] == 1.0 and report["files"][1]["max_abs_error"] < 1e-4
    assert report["notices"] == []


@pytest.mark.slow
def test_a_file_of_another_length_is_not_compared(run, table, tmp_path):
    folder = shutil.copytree(run.folder, tmp_path / "run")
    result = export_model(folder, folder / "short.tflite", quantize="none", length=6)
    assert [row["name"] for row in result.rows] == ["float32", "short.tflite"]
    report = evaluate(folder / "short.tflite", table)
    assert [row["name"] for row in report["files"]] == ["model.keras", "short.tflite"]
    assert "another input" in report["notices"][0]


@pytest.mark.slow
def test_byte_pairs_lie_beside_and_their_lack_is_told(byte_run, lines, tmp_path):
    out = tmp_path / "app" / "model.tflite"
    out.parent.mkdir()
    result = export_model(byte_run.folder, out, quantize="none")
    assert "tokens/ beside it" in result.notices[0] and "tokenizer.json" in result.notices[0]
    names = {path.name for path in out.parent.iterdir()}
    assert names == {"model.tflite", "labels.txt", "tokens", "tokenizer.json"}
    assert [tensor.name for tensor in LiteRTModel(out).inputs] == ["ids", "mask"]
    np.testing.assert_allclose(answers(out, lines), answers(byte_run.folder, lines), atol=1e-4)
    lone = tmp_path / "lone" / "model.tflite"
    lone.parent.mkdir()
    shutil.copy(out, lone)
    with pytest.raises(FileNotFoundError, match="the folder tokens of its run must lie beside it"):
        predict(lone, lines)


def test_another_vocabulary_beside_a_file_is_refused(byte_run, run, tmp_path):
    shutil.copytree(run.folder / "tokens", tmp_path / "tokens")
    with pytest.raises(FileExistsError, match="holds another vocabulary than the model's"):
        export_model(byte_run.folder, tmp_path / "model.tflite")
    assert [path.name for path in tmp_path.iterdir()] == ["tokens"]


def test_int8_is_calibrated_on_training_texts(run, table, tmp_path):
    with pytest.warns(UserWarning, match="stayed float32"):
        result = export_model(run.folder, tmp_path / "m.tflite", data=table, quantize="int8")
    assert [row["name"] for row in result.rows] == ["float32", "int8"]
    assert "1 of the 25 texts held out" in result.notices[0]
    assert LiteRTModel(tmp_path / "m.tflite").inputs[0].dtype == "int32"


def test_what_was_trained_is_not_lost_for_a_file_that_loses_too_much(
    run, table, tmp_path, monkeypatch
):
    def loses(deployed, path, **options):
        if options:
            raise RuntimeError("What was exported does not repeat the model: it lost")
        shutil.copy(run.folder / "float.tflite", path)

    monkeypatch.setattr(device_files.Deployed, "write", loses)
    data = read_for(load_run(run.folder), find_source(table), ReadSettings())
    with RunFolder(tmp_path / "again") as again:
        told = device_files.write_device_files(again, run.model, data, "int8")
    assert "tflite" not in told and told["float_tflite"]["agreement"] == 1.0
    assert told["notices"][-1].startswith("There is no model.tflite: What was exported does not")
    assert [path.name for path in (tmp_path / "again").iterdir()] == ["float.tflite"]


@pytest.mark.slow
def test_compress_prunes_the_blocks_and_leaves_the_embeddings(run, table, tmp_path):
    out = tmp_path / "small"
    result = compress(run.folder, table, out, prune=0.5, epochs=1, max_drop=1.0, distill=0.0)
    assert [row["name"] for row in result.metrics["rows"]] == ["float", "pruned", "dynamic"]
    assert result.metrics["rows"][-1]["agreement"] is not None
    found = compression.sparsity(FineTuner.from_model(result.model))
    zeros = {row.path: row.sparsity for row in found.rows}
    assert zeros["token_embedding"] == 0.0
    inside = [share for path, share in zeros.items() if "transformer_layer" in path]
    assert len(inside) == 6 and min(inside) > 0.4
    lone = tmp_path / "lone.tflite"
    shutil.copy(out / "model.tflite", lone)
    assert evaluate(lone, table)["score"] == pytest.approx(result.metrics["score"])
    assert (out / "tokens").is_dir() and (out / "float.tflite").is_file()


def test_bad_input_gets_one_clear_line_and_exit_2(run, table, lines, tmp_path, capsys):
    folder, data = str(run.folder), str(table)
    base = ["export", folder, "--out", str(tmp_path / "m.tflite")]
    small = ["compress", folder, "--data", data, "--out", str(tmp_path / "small")]
    broken = tmp_path / "broken.tflite"
    broken.write_bytes((run.folder / "model.tflite").read_bytes()[:900])
    pictures = tmp_path / "pictures"
    for name in ("pet", "beast"):
        (pictures / name).mkdir(parents=True)
        for i in range(2):
            keras.utils.save_img(pictures / name / f"{i}.png", np.zeros((8, 8, 3)))
    commands = {
        "length": ([*base, "--length", "99"], "at most 16, the positions of the network"),
        "io": ([*base, "--quantize", "int8", "--io-dtype", "int8"], "ids are int32"),
        "no data": ([*base, "--quantize", "int8"], "--data"),
        "ladder of float": ([*base, "--quantize", "none", "--max-drop", "0.1"], "quantized file"),
        "range": ([*base, "--input-range", "0", "1"], "ids have no range"),
        "channels": ([*small, "--prune-channels", "0.3"], "(--prune-channels) is for networks of"),
        "rounding": ([*small, "--qat"], "(--qat) is for networks of"),
        "augment": ([*small, "--augment", "strong"], "(--augment) is for pictures"),
        "a device file": (["compress", f"{folder}/model.tflite", "--data", data], ".keras file"),
        "cut file": (["predict", str(broken), str(lines)], "broken.tflite"),
        "no texts": (["predict", f"{folder}/model.tflite", str(tmp_path / "gone.txt")], "gone.txt"),
        "pictures": (["evaluate", f"{folder}/model.tflite", str(pictures)], "takes texts"),
        "range of texts": (
            ["predict", f"{folder}/model.tflite", str(lines), "--input-range", "0", "1"],
            "`input_range` is for models of pictures",
        ),
        "export": (["tune", data, "--backbone", "x", "--export", "int4"], "int4"),
    }  # fmt: skip
    before = sorted(tmp_path.rglob("*"))
    for name, (arguments, words) in commands.items():
        code = cli(arguments)
        err = capsys.readouterr().err
        assert code == 2, (name, err)
        assert words in err.strip().splitlines()[-1], (name, err)
        assert "Traceback" not in err, name
        assert sorted(tmp_path.rglob("*")) == before, name
