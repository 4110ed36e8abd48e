"""Networks of texts as their device files take them: names, order, parity, what is inside."""

import json
import warnings
import zipfile
from types import SimpleNamespace

import flatbuffers
import keras
import numpy as np
import pytest
from tensorflow.lite.python import schema_py_generated as schema

from kerastl import backbones, export
from kerastl.backbones import vocabularies
from kerastl.export import Carried, flatbuffer, metadata
from kerastl.tasks import Classification, PreparePictures, PrepareTexts, TrainedFor
from kerastl.tasks.settings import CompressSettings, ExportSettings
from tests.backbones import text_cases as cases
from tests.backbones.test_hostile_lines import HOSTILE
from tests.export.test_export_metadata import Table

keras_hub = pytest.importorskip("keras_hub")

LENGTH = 12
FILE = {"rtol": 0, "atol": 1e-4}  # of issue 18: a float file repeats the network's arithmetic


def classifier(backbone, num_parts=1, tokens=None):
    """A network of two classes on `backbone` with a head that is not regular, and its `Prepare`."""
    rng = np.random.default_rng(0)
    head = keras.layers.Dense(2, activation="softmax", name="classes")
    model = keras.Model(backbone.input, head(backbone.output), name="texts")
    head.kernel.assign(rng.normal(size=head.kernel.shape))
    return model, PrepareTexts(tokens, LENGTH, num_parts)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    folder = cases.bert_folder(tmp_path_factory.mktemp("bert"))
    tokens = backbones.load_tokens(folder)
    return classifier(backbones.load(str(folder), pooling="avg"), tokens=tokens)


@pytest.fixture(scope="module")
def bert_file(bert, tmp_path_factory):
    """The path of the float file of a run with this network, its labels and task inside."""
    model, prepare = bert
    known = TrainedFor(Classification(), prepare, ("bad", "good"), seed=1)
    form = known.on_device(model)
    path = tmp_path_factory.mktemp("file") / "model.tflite"
    export.to_litert(form.model, path, labels=known.outputs, carried=known.carried(form))
    return path


def one_by_one(model, prepare, examples):
    """What `model` gives for examples alone, each as long as it is and no longer."""
    given = []
    for parts in examples:
        ids = [prepare.tokens.ids([part]) for part in parts]
        around = 2 + (len(prepare.tokens.between) if len(parts) > 1 else 0)
        length = min(LENGTH, sum(len(one[0]) for one in ids) + around)
        second = ids[1] if len(parts) > 1 else None
        if second is None:
            row = prepare.tokens.pack(ids[0], max(length, 3))
        else:
            row = prepare.tokens.pack(ids[0], max(length, around + 2), second=second)
        given.append(np.asarray(model(row, training=False))[0])
    return np.array(given)


def test_a_file_gives_what_the_network_gives_on_hostile_lines(bert, bert_file):
    """Padding, an empty text and texts longer than the file takes among them."""
    model, prepare = bert
    examples = [(text,) for text in HOSTILE.values()]
    device = prepare.for_device(model).prepare
    inputs = device.rows(examples).padded(np.arange(len(examples)))
    lengths = inputs["mask"].sum(1)
    assert lengths.min() == 2 and (lengths == LENGTH).sum() > 1  # empty ones, and cut ones
    given = export.LiteRTModel(bert_file).predict(inputs)
    np.testing.assert_allclose(given, one_by_one(model, prepare, examples), **FILE)
    assert np.ptp(given[:, 0]) > 500 * FILE["atol"]  # not one answer to all


def test_inputs_are_called_and_ordered_as_mediapipe_wants_them(bert_file):
    model = schema.ModelT.InitFromPackedBuf(bert_file.read_bytes(), 0)
    graph = model.subgraphs[0]
    tensors = [graph.tensors[k] for k in graph.inputs]
    assert [t.name.decode() for t in tensors] == ["ids", "mask", "segment_ids"]
    assert {t.type for t in tensors} == {schema.TensorType.INT32}
    assert [t.shape.tolist() for t in tensors] == [[1, LENGTH]] * 3
    known = {entry.tensorIndex: entry.name.decode() for entry in model.signatureDefs[0].inputs}
    assert [known[k] for k in graph.inputs] == ["ids", "mask", "segment_ids"]
    codes = {max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes}
    assert schema.BuiltinOperator.CUSTOM not in codes


def test_the_process_unit_points_to_the_vocabulary(bert_file):
    """Fields of metadata_schema.fbs 1.5.0, read with the flatbuffers package alone."""
    root = Table(flatbuffer.read_buffer(bert_file.read_bytes(), "TFLITE_METADATA"))
    assert root.text(7) == "1.1.0"  # min_parser_version
    graph = root.first(3)
    assert graph.first(2).text(0) == "ids"
    unit = graph.first(5)  # input_process_units
    assert unit.byte(0) == 4  # ProcessUnitOptions: BertTokenizerOptions
    words = unit.inner(1).first(0)  # vocab_file
    assert (words.text(0), words.byte(2)) == ("vocab.txt", 5)  # AssociatedFileType: VOCABULARY
    assert graph.first(3).first(6).text(0) == "labels.txt"
    assert root.first(6).text(0) == "task.json"  # of the model
    assert root.table.Offset(4 + 2 * 6) and isinstance(root.table, flatbuffers.table.Table)
    with zipfile.ZipFile(bert_file) as archive:
        assert archive.namelist() == ["labels.txt", "task.json", "vocab.txt"]
        assert archive.read("vocab.txt").decode().splitlines() == cases.WORD_PIECES
        assert json.loads(archive.read("task.json"))["prepare"]["length"] == LENGTH


def test_what_is_inside_reads_texts_as_the_run_does(bert, bert_file):
    _, prepare = bert
    content = bert_file.read_bytes()
    carried = metadata.read_task(content), metadata.read_vocabulary(content)
    known = TrainedFor.inside(*carried, bert_file)
    assert (known.outputs, known.seed, known.objective.name) == (
        ("bad", "good"), 1, "classification"
    )  # fmt: skip
    lines = list(HOSTILE.values())
    for own, other in zip(prepare.tokens.ids(lines), known.prepare.tokens.ids(lines), strict=True):
        np.testing.assert_array_equal(own, other)
    assert vocabularies.are_alike(prepare.tokens, known.prepare.tokens)
    assert known.prepare.length == LENGTH and known.prepare.on_device


def test_a_file_is_scored_as_its_run_was(bert, bert_file):
    _, prepare = bert
    told = TrainedFor(
        Classification(scored_by="auc"), prepare.for_device(bert[0]).prepare, ("a", "b")
    )
    words = metadata.read_vocabulary(bert_file.read_bytes())
    assert TrainedFor.inside(told.to_json(), words, bert_file).objective.scored_by == "auc"


@pytest.mark.parametrize("text", ["no JSON", "[]", "{}", '{"prepare": {"word_pieces": null}}'])
def test_a_task_of_another_maker_is_refused(text, bert_file):
    with pytest.raises((ValueError, FileNotFoundError), match=r"model\.tflite"):
        TrainedFor.inside(text, None, bert_file)


def test_a_vocabulary_that_is_changed_keeps_the_task(bert_file, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(bert_file.read_bytes())
    export.add_vocabulary(path, ["[PAD]", "the"])
    content = path.read_bytes()
    assert metadata.read_vocabulary(content) == ("[PAD]", "the")
    assert metadata.read_task(content) == metadata.read_task(bert_file.read_bytes())


def test_labels_with_separators_of_their_own_stay_one_line():
    carried = Carried(json.dumps({"a": "x\u2028y"}, ensure_ascii=False), ["[PAD]"])
    assert [file.lines for file in carried.files] == [('{"a": "x\u2028y"}',), ("[PAD]",)]


def test_an_unused_input_is_taken_all_the_same(tmp_path):
    """DistilBERT knows no segments, and MediaPipe gives them: the file takes and drops them."""
    network = keras_hub.models.DistilBertBackbone(
        vocabulary_size=len(cases.WORD_PIECES), max_sequence_length=16, **cases.SMALL
    )
    tokens = backbones.Tokens(cases.tokenizers()["distilbert"]())
    pooled = keras.Model(network.input, network.output[:, 0])
    model, prepare = classifier(pooled, tokens=tokens)
    form = prepare.for_device(model)
    export.to_litert(form.model, tmp_path / "m.tflite")
    lite = export.LiteRTModel(tmp_path / "m.tflite")
    assert [tensor.name for tensor in lite.inputs] == ["ids", "mask", "segment_ids"]
    examples = [("a cat sat",), ("the old wall.",)]
    inputs = form.prepare.rows(examples).padded(np.arange(2))
    given = lite.predict(inputs)
    np.testing.assert_allclose(given, one_by_one(model, prepare, examples), **FILE)
    inputs["segment_ids"] = inputs["segment_ids"] + 1
    np.testing.assert_array_equal(lite.predict(inputs), given)


def test_pairs_are_packed_with_their_segments(bert, tmp_path):
    model, prepare = bert
    pairs = PrepareTexts(prepare.tokens, LENGTH, 2)
    form = pairs.for_device(model)
    export.to_litert(form.model, tmp_path / "m.tflite")
    examples = [("a cat", "the fox"), ("the quick brown fox jumped", "old dogs sat on a log")]
    inputs = form.prepare.rows(examples).padded(np.arange(2))
    assert inputs["segment_ids"].sum(1).tolist() == [3, 5]  # with what ends them; the cut one 4 + 1
    given = export.LiteRTModel(tmp_path / "m.tflite").predict(inputs)
    np.testing.assert_allclose(given, one_by_one(model, pairs, examples), **FILE)


def test_mediapipe_reads_accents_otherwise_and_a_notice_counts_them(bert):
    _, prepare = bert
    texts = ["A cat", "caf\u00e9 na\u00efve", "THE FOX"]
    assert vocabularies.differing_in_mediapipe(prepare.tokens, texts) == [1]

    def data(texts):
        return SimpleNamespace(test=SimpleNamespace(parts=[(text,) for text in texts]))

    (line,) = prepare.device_notices(data(texts))
    assert "1 of the 3 texts held out" in line
    assert prepare.device_notices(data(texts[:1])) == ()
    assert "keeps accents" in prepare.device_notices(None)[0]
    cased = backbones.Tokens(keras_hub.models.BertTokenizer(cases.WORD_PIECES, lowercase=False))
    assert "lower-cases ASCII letters always" in PrepareTexts(cased, 8).device_notices(None)[0]
    assert "takes pairs" in PrepareTexts(prepare.tokens, 8, 2).device_notices(None)[0]


def test_tokenizer_json_of_byte_pairs_cuts_and_packs_as_the_run_does():
    from tokenizers import Tokenizer

    tokens = backbones.Tokens(cases.tokenizers()["roberta"]())
    (name, content), = vocabularies.files_for_apps(tokens, LENGTH).items()  # fmt: skip
    assert name == "tokenizer.json"
    theirs = Tokenizer.from_str(content.decode())
    texts = [*HOSTILE.values(), "the fox " * 9]
    packed = tokens.pack(tokens.ids(texts), LENGTH)
    plain = [i for i, text in enumerate(texts) if "<mask>" not in text]
    for i in plain:
        found = theirs.encode(texts[i])
        assert found.ids == packed["token_ids"][i].tolist()
        assert found.attention_mask == packed["padding_mask"][i].tolist()
    first, second = "the fox", "the cat"
    pair = tokens.pack(tokens.ids([first]), LENGTH, second=tokens.ids([second]))
    assert theirs.encode(first, second).ids == pair["token_ids"][0].tolist()


def test_a_sentencepiece_model_is_what_an_app_gets():
    tokens = backbones.Tokens(cases.tokenizers()["albert"]())
    (name, content), = vocabularies.files_for_apps(tokens, 8).items()  # fmt: skip
    assert name == "spiece.model" and content == tokens.tokenizer.proto


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (ExportSettings(quantize="int8", io_dtype="int8"), r"`io_dtype` \(--io-dtype\) is for pic"),
        (ExportSettings(quantize="int16x8"), "int16x8"),
        (ExportSettings(input_range=(0, 1)), r"`input_range` \(--input-range\)"),
        (CompressSettings(prune_channels=0.3), r"`prune_channels` .* composite"),
        (CompressSettings(qat=True), r"`qat` .* composite"),
        (CompressSettings(augment="strong"), "`augment`"),
        (CompressSettings(augment="light"), "`augment`"),
        (CompressSettings(cache_dir="cc"), "`cache_dir`"),
        (CompressSettings(input_range=(0, 1)), "`input_range`"),
    ],
)
def test_what_is_for_pictures_is_refused_by_name(settings, message, bert, tmp_path):
    _, prepare = bert
    with pytest.raises(ValueError, match=message):
        prepare.settled(settings, tmp_path / "model.keras")


def test_what_is_not_said_is_settled_for_texts(bert, tmp_path):
    _, prepare = bert
    path = tmp_path / "model.keras"
    assert prepare.settled(ExportSettings(), path).quantize == "dynamic"
    assert prepare.settled(ExportSettings(quantize="none"), path).quantize == "none"
    assert prepare.settled(ExportSettings(format="saved_model"), path).quantize == "none"
    for given in ({}, {"augment": "none"}):
        small = prepare.settled(CompressSettings(**given), path)
        assert (small.augment, small.learning_rate) == ("none", 1e-4)
    assert PreparePictures((8, 8)).settled(CompressSettings(), path).augment == "light"
    assert prepare.settled(CompressSettings(learning_rate=0.01), path).learning_rate == 0.01


@pytest.mark.parametrize("length", [2, 17])
def test_a_length_without_room_or_positions_is_refused(length, bert):
    model, prepare = bert
    with pytest.raises(ValueError, match=r"`length` \(--length\) must be at least 3.*at most 16"):
        prepare.for_device(model, length)


def test_a_ladder_passes_over_integers_that_are_slower(tmp_path, monkeypatch):
    """Times are made up: 2 ms in float32, 3 in int8, 2.1 in dynamic."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax")])
    x = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    options = {"ladder": ("int8", "dynamic"), "representative_data": x, "max_drop": 1.0}
    for slower, tried in ((True, ["int8"]), (False, ["int8", "dynamic"])):
        times = iter([2.0, 3.0, 2.1])
        monkeypatch.setattr(export.LiteRTModel, "milliseconds", lambda *_, t=times: next(t))
        path = tmp_path / f"{slower}.tflite"
        made = export.to_litert_within(model, path, x, np.zeros(20), slower=slower, **options)
        assert [rung.name for rung in made.rungs] == tried
    assert "slower than float32 here" in made.rungs[0].note


def test_int8_keeps_scores_beside_what_a_mask_hides(tmp_path):
    """With -1e9 among them, 8 bits leave one step for all scores, and answers are uniform."""
    scores, mask = keras.Input((6,), name="scores"), keras.Input((6,), name="mask", dtype="int32")
    given = keras.layers.Softmax(name="shares")(keras.layers.Rescaling(1.0)(scores), mask=mask)
    model = keras.Model({"scores": scores, "mask": mask}, given)
    rng = np.random.default_rng(0)
    x = {"scores": rng.normal(0, 3, (60, 6)).astype("float32")}
    x["mask"] = (np.arange(6) < rng.integers(2, 7, (60, 1))).astype("int32")
    path = tmp_path / "m.tflite"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a cast of the mask stays float
        export.to_litert(model, path, quantization="int8", representative_data=x)
    error = np.abs(export.LiteRTModel(path).predict(x) - model.predict(x, verbose=0))
    assert error.mean() < 0.02 and error.max() < 0.2
