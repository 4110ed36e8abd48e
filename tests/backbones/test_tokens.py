"""Texts as ids, and packing that equals that of KerasHub's own preprocessors."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from kerastl import backbones
from kerastl.backbones import Tokens, load_tokens, max_length
from kerastl.tasks.settings import TuneSettings
from tests.backbones import text_cases as cases

keras_hub = pytest.importorskip("keras_hub")


@pytest.fixture(scope="module")
def tokens():
    """`Tokens` of each family, made once."""
    return {family: Tokens(make()) for family, make in cases.tokenizers().items()}


def assert_equal(packed, expected):
    assert set(packed) == set(expected)
    for name, array in packed.items():
        assert array.dtype == "int32"
        np.testing.assert_array_equal(array, np.asarray(expected[name]).astype("int32"), name)


def test_ids_and_packing_by_hand(tokens):
    """[CLS] 2, [SEP] 3, [PAD] 0; "jumped" is jump ##ed."""
    bert = tokens["bert"]
    ids = {piece: i for i, piece in enumerate(cases.WORD_PIECES)}
    first, second = bert.ids(["The fox jumped.", ""])
    np.testing.assert_array_equal(first, [ids[p] for p in ("the", "fox", "jump", "##ed", ".")])
    assert first.dtype == second.dtype == "int32" and second.shape == (0,)
    assert (bert.start, bert.between, bert.end, bert.pad, bert.unknown) == ((2,), (3,), (3,), 0, 1)
    packed = bert.pack([first, second], 6)
    np.testing.assert_array_equal(packed["token_ids"], [[2, *first[:4], 3], [2, 3, 0, 0, 0, 0]])
    np.testing.assert_array_equal(packed["padding_mask"], [[1] * 6, [1, 1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(packed["segment_ids"], np.zeros((2, 6)))


@pytest.mark.parametrize("family", cases.ENCODERS)
@pytest.mark.parametrize("length", [4, 9, 40])
def test_packing_equals_keras_hubs(family, length, tokens):
    ours = tokens[family]
    theirs = cases.preprocessor_of(family, ours.tokenizer, length)
    assert_equal(ours.pack(ours.ids(cases.TEXTS), length), theirs(cases.TEXTS))


@pytest.mark.parametrize("family", cases.ENCODERS)
def test_pairs_equal_keras_hubs(family, tokens):
    """All lengths of both texts against every room: who gives way, and by how much."""
    ours = tokens[family]
    words = [" ".join(["fox"] * n) for n in range(5)]
    pairs = list(itertools.product(words, words))
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    for length in range(6, 14):
        theirs = cases.preprocessor_of(family, ours.tokenizer, length)
        packed = ours.pack(ours.ids(first), length, second=ours.ids(second))
        assert_equal(packed, theirs(x=(first, second)))


@pytest.mark.parametrize("family", cases.DECODERS)
@pytest.mark.parametrize("length", [4, 9, 40])
def test_causal_packing_equals_keras_hubs(family, length, tokens):
    """Which packs one token more: inputs are all but the last, targets all but the first."""
    ours = tokens[family]
    theirs, targets, weights = cases.preprocessor_of(family, ours.tokenizer, length)(cases.TEXTS)
    packed = ours.pack(ours.ids(cases.TEXTS), length + 1)
    assert_equal({name: array[:, :-1] for name, array in packed.items()}, theirs)
    np.testing.assert_array_equal(packed["token_ids"][:, 1:], targets)
    np.testing.assert_array_equal(packed["padding_mask"][:, 1:], weights)


def test_electra_is_packed_as_a_bert(tokens):
    """KerasHub has no preprocessor for it; its backbone takes what BERT's takes."""
    ids = tokens["bert"].ids(cases.TEXTS)
    assert_equal(tokens["electra"].pack(ids, 9), tokens["bert"].pack(ids, 9))


@pytest.mark.parametrize("family", [*cases.ENCODERS, *cases.DECODERS, "electra"])
def test_inputs_are_those_of_the_backbone(family, tokens):
    small = {**cases.SMALL, "vocabulary_size": 60}
    heads = {"num_query_heads": 2, "num_key_value_heads": 1}
    decoder = {key: value for key, value in small.items() if key != "num_heads"} | heads
    models = keras_hub.models
    made = {
        "bert": lambda: models.BertBackbone(**small),
        "distilbert": lambda: models.DistilBertBackbone(**small),
        "electra": lambda: models.ElectraBackbone(
            **{"vocab_size" if k == "vocabulary_size" else k: v for k, v in small.items()},
            embedding_dim=8,
        ),
        "roberta": lambda: models.RobertaBackbone(**small),
        "albert": lambda: models.AlbertBackbone(**small, embedding_dim=8),
        "deberta": lambda: models.DebertaV3Backbone(**small),
        "xlm_roberta": lambda: models.XLMRobertaBackbone(**small),
        "f_net": lambda: models.FNetBackbone(
            **{k: v for k, v in small.items() if k != "num_heads"}
        ),
        "gpt2": lambda: models.GPT2Backbone(**small),
        "llama": lambda: models.LlamaBackbone(**decoder),
        "gemma": lambda: models.GemmaBackbone(**decoder, head_dim=4),
    }[family]()
    assert set(tokens[family].inputs) == set(made.input)
    assert tokens[family].segments == ("segment_ids" in made.input)
    assert tokens[family].causal == (family in cases.DECODERS)
    learnt = {"gpt2": 1024, "llama": None, "gemma": None, "deberta": None}
    assert max_length(backbones.load(made)) == learnt.get(family, 512)


@pytest.mark.parametrize("family", cases.tokenizers())
def test_saved_and_loaded_ids_are_equal(family, tokens, tmp_path):
    ours = tokens[family]
    ours.save(tmp_path / "run" / "tokens")
    for load in (Tokens.load, load_tokens):
        loaded = load(tmp_path / "run" / "tokens")
        for ids, expected in zip(loaded.ids(cases.TEXTS), ours.ids(cases.TEXTS), strict=True):
            np.testing.assert_array_equal(ids, expected)
        kept = ("start", "between", "end", "pad", "unknown", "vocabulary_size", "inputs", "causal")
        assert [getattr(loaded, key) for key in kept] == [getattr(ours, key) for key in kept]


def test_what_a_saved_tokenizer_would_lose(tmp_path):
    """KerasHub's `get_config` leaves `split_on_cjk` out; `cleaning` is no part of its tokenizer."""
    made = keras_hub.models.BertTokenizer(cases.WORD_PIECES, split_on_cjk=False)
    ours = Tokens(made, cleaning=("controls",))
    text = ["日本", "ca\u200bt"]
    ours.save(tmp_path / "tokens")
    loaded = Tokens.load(tmp_path / "tokens")
    for ids, expected in zip(loaded.ids(text), ours.ids(text), strict=True):
        np.testing.assert_array_equal(ids, expected)
    # When the next line fails KerasHub saves it, and `complete_saved_tokenizer` can go.
    assert "split_on_cjk" not in made.get_config()


def test_a_fresh_process_reads_saved_tokens(tokens, tmp_path):
    tokens["gpt2"].save(tmp_path / "tokens")
    program = (
        "import sys; from kerastl import backbones; assert 'keras_hub' not in sys.modules; "
        "print(backbones.Tokens.load(sys.argv[1]).ids(['the cat'])[0].tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "tokens")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tokens["gpt2"].ids(["the cat"])[0].tolist())


def test_chunks_change_nothing(tokens, monkeypatch):
    whole = tokens["bert"].ids(cases.TEXTS)
    monkeypatch.setattr("kerastl.backbones.tokens._CHUNK", 2)
    for ids, expected in zip(tokens["bert"].ids(cases.TEXTS), whole, strict=True):
        np.testing.assert_array_equal(ids, expected)


def test_unknown_share_by_hand(tokens):
    """Two of four words; bytes can write everything."""
    bert, text = tokens["bert"], ["the zebra", "fox ζ"]
    assert bert.unknown_share(bert.ids(text)) == 0.5
    assert bert.unknown_share([]) == bert.unknown_share(bert.ids([""])) == 0.0
    assert tokens["gpt2"].unknown is None
    assert tokens["gpt2"].unknown_share(tokens["gpt2"].ids(text)) == 0.0


@pytest.mark.parametrize("family", ["albert", "deberta", "xlm_roberta", "llama", "gemma"])
def test_sentence_pieces_count_what_they_cannot_write(family, tokens):
    ours = tokens[family]
    assert ours.unknown in ours.ids(["ζ"])[0]
    assert 0 < ours.unknown_share(ours.ids(["the fox ζ"])) < 0.5


def test_refusals(tokens):
    bert, gpt2 = tokens["bert"], tokens["gpt2"]
    ids = bert.ids(cases.TEXTS)
    with pytest.raises(TypeError, match="sequence of strings"):
        bert.ids("one text")
    with pytest.raises(TypeError, match=r"texts\[1\]=None, of type NoneType"):
        bert.ids(["a", None])
    with pytest.raises(ValueError, match="int of at least 3"):
        bert.pack(ids, 2)
    with pytest.raises(ValueError, match="int of at least 5"):
        bert.pack(ids, 4, second=ids)
    with pytest.raises(ValueError, match="2 for 5 texts"):
        bert.pack(ids, 8, second=ids[:2])
    with pytest.raises(ValueError, match="takes texts alone"):
        gpt2.pack(gpt2.ids(["a"]), 8, second=gpt2.ids(["a"]))
    with pytest.raises(ValueError, match="has a preprocessor for"):
        Tokens(keras_hub.tokenizers.WordPieceTokenizer(cases.WORD_PIECES))


def test_a_tokenizer_too_large_for_its_backbone_is_refused(tokens, tmp_path):
    small = keras_hub.models.RobertaBackbone(vocabulary_size=20, **cases.SMALL)
    fits = keras_hub.models.RobertaBackbone(vocabulary_size=400, **cases.SMALL)
    roberta = tokens["roberta"]
    size = roberta.vocabulary_size
    roberta.check_fits(backbones.load(fits))
    with pytest.raises(ValueError, match=f"it has {size} ids.*embeddings for 20"):
        roberta.check_fits(backbones.load(small))
    small.save_to_preset(tmp_path)
    roberta.tokenizer.save_to_preset(tmp_path)
    with pytest.raises(ValueError, match="embeddings for 20"):
        load_tokens(tmp_path, backbone=backbones.load(tmp_path))
    assert load_tokens(f"hub:{tmp_path}").vocabulary_size == size


def test_unknown_presets_and_those_without_a_tokenizer_are_refused(tmp_path):
    with pytest.raises(ValueError, match="Closest: 'bert_tiny_en_uncased'"):
        load_tokens("hub:bert_tiny_en_uncase")
    with pytest.raises(ValueError, match="Closest: 'bert_tiny_en_uncased'"):
        backbones.load("bert_tiny_en_uncase")
    with pytest.raises(FileNotFoundError, match=r"as `Tokens\.save`"):
        Tokens.load(tmp_path)
    keras_hub.models.ViTBackbone(
        image_shape=(8, 8, 3), patch_size=(4, 4), num_layers=1, num_heads=1, hidden_dim=4, mlp_dim=4
    ).save_to_preset(tmp_path)
    with pytest.raises(ValueError, match="must be a text network with a tokenizer"):
        load_tokens(tmp_path)


def test_a_preset_by_its_bare_name(monkeypatch):
    """No preset can be fetched here: that KerasHub is asked for this one is what is seen."""
    asked = []

    def refuse(preset, *_, **__):
        asked.append(preset)
        raise OSError("Failed to resolve 'api.kaggle.com'")

    monkeypatch.setattr(keras_hub.models.Backbone, "from_preset", refuse)
    monkeypatch.setattr(keras_hub.models.Tokenizer, "from_preset", refuse)
    with pytest.raises(ConnectionError, match="bert_tiny_en_uncased"):
        backbones.load("bert_tiny_en_uncased")
    with pytest.raises(ConnectionError, match=r"tokenizer of 'bert_tiny_en_uncased'.*a folder"):
        load_tokens("bert_tiny_en_uncased")
    assert asked == ["bert_tiny_en_uncased"] * 2


def test_objects_of_keras_hub_and_keras_nlp_are_taken(tmp_path):
    """A tokenizer, what has one, and networks; keras_nlp is another name of KerasHub."""
    keras_nlp = pytest.importorskip("keras_nlp")
    small = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}
    tokenizer = keras_nlp.models.BertTokenizer(
        cases.WORD_PIECES, lowercase=True, strip_accents=True
    )
    preprocessor = keras_nlp.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=8)
    backbone = keras_nlp.models.BertBackbone(
        len(cases.WORD_PIECES), max_sequence_length=16, **small
    )
    task = keras_nlp.models.BertTextClassifier(backbone, num_classes=2, preprocessor=preprocessor)
    expected = load_tokens(tokenizer, backbone=backbone).ids(cases.TEXTS)
    for one in (preprocessor, task):
        for ids, wanted in zip(load_tokens(one).ids(cases.TEXTS), expected, strict=True):
            np.testing.assert_array_equal(ids, wanted)
    whole, headless = backbones.load(backbone, pooling="avg"), backbones.load(task, pooling="avg")
    inputs = load_tokens(task).pack(expected[:1], 8)
    np.testing.assert_array_equal(
        whole.predict(inputs, verbose=0), headless.predict(inputs, verbose=0)
    )
    with pytest.raises(TypeError, match="A backbone has no words"):
        load_tokens(backbone)
    with pytest.raises(TypeError, match=r"a name or a path.*BertBackbone.*save_to_preset"):
        TuneSettings(backbone=backbone)
    task.save_to_preset(tmp_path / "task")  # as that message has it
    again = load_tokens(
        tmp_path / "task", backbone=backbones.load(tmp_path / "task", pooling="avg")
    )
    np.testing.assert_array_equal(again.ids(cases.TEXTS)[0], expected[0])
