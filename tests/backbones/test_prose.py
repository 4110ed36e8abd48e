"""The embedded encoder of texts: what ships, how it reads, and what it knows."""

import numpy as np
import pytest

from kerastl import backbones
from kerastl.backbones.masked import masked_lm, masking_of
from kerastl.backbones.prose import load_prosenet, prosenet, sentences
from kerastl.backbones.prose import network as prose
from tests.backbones.text_cases import tokenizers

SHIPPED = 2_000_000  # bytes that may ship


@pytest.fixture(scope="module")
def tokens():
    return backbones.load_tokens("prosenet")


@pytest.fixture(scope="module")
def backbone():
    return backbones.load("prosenet")


def test_it_is_small_enough_to_ship():
    sizes = [path.stat().st_size for path in (prose.WEIGHTS, prose.VOCABULARY)]
    assert sum(sizes) <= SHIPPED
    assert prose.WEIGHTS.with_name("sentences.tsv").stat().st_size <= 300_000


def test_it_reads_lower_case_without_accents_and_every_sign_of_ascii(tokens, backbone):
    assert tokens.ids(["The CAFÉ"])[0].tolist() == tokens.ids(["the cafe"])[0].tolist()
    assert backbones.max_length(backbone) == 128
    ascii_signs = "".join(map(chr, range(32, 127)))
    spoken = [ascii_signs, "zebra xylophone 2026 qwzx", "it's #1: {a|b} ~ `c` ^_^ \\ @me"]
    assert tokens.unknown_share(tokens.ids(spoken)) == 0
    tokens.check_fits(backbone)


def test_by_name_it_is_the_mean_over_real_pieces(tokens, backbone):
    inputs = tokens.pack(tokens.ids(["A cat sat.", "Species vary in a state of nature."]), 16)
    given = load_prosenet()(inputs)["sequence_output"].numpy().astype("float64")
    mask = inputs["padding_mask"][..., None]
    mean = (given * mask).sum(axis=1) / mask.sum(axis=1)
    np.testing.assert_allclose(backbone(inputs).numpy(), mean, rtol=1e-5, atol=1e-5)


def test_its_weights_are_what_is_in_the_file_and_none_are_random(backbone):
    again = backbones.load("prosenet")
    for one, other in zip(backbone.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, one.astype("float16"))
    fresh = backbones.load("prosenet", weights=None)
    assert not np.array_equal(fresh.get_weights()[0], again.get_weights()[0])


def test_it_tells_two_authors_apart_from_few_sentences(tokens, backbone):
    """A regression on 20 sentences of each: far above the same on random weights."""
    from sklearn.linear_model import LogisticRegression

    train, labels, test, truth = sentences(seed=0)
    test, truth = test[:300], truth[:300]

    def score(model):
        known, asked = (
            model.predict(tokens.pack(tokens.ids(part), 48), verbose=0) for part in (train, test)
        )
        centre, spread = known.mean(axis=0), known.std(axis=0) + 1e-6
        regression = LogisticRegression(max_iter=1000).fit((known - centre) / spread, labels)
        return regression.score((asked - centre) / spread, truth)

    knows, knows_nothing = score(backbone), score(backbones.load("prosenet", weights=None))
    assert knows > 0.9 > knows_nothing + 0.1


def test_sentences_are_divided_anew_by_each_seed():
    train, labels, test, truth = sentences(seed=1, labels_per_author=5)
    assert np.bincount(labels).tolist() == [5, 5] and not set(train) & set(test)
    assert len(train) + len(test) == len(set(train) | set(test)) == len(truth) + 10
    assert train == sentences(seed=1, labels_per_author=5)[0]
    assert train != sentences(seed=2, labels_per_author=5)[0]
    with pytest.raises(ValueError, match="labels_per_author"):
        sentences(labels_per_author=10_000)


def test_what_it_does_not_take_is_refused():
    with pytest.raises(ValueError, match=r"'prosenet' takes texts.*image_size=32"):
        backbones.load("prosenet", image_size=32)
    with pytest.raises(ValueError, match=r"Received: gelu='tanh'"):
        backbones.load("prosenet", gelu="tanh")
    with pytest.raises(ValueError, match="was never trained"):
        backbones.load("prosenet", pooling="own")
    with pytest.raises(ValueError, match=r"Closest: .*prosenet"):
        backbones.load("prosnet")


def test_weights_that_are_missing_are_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(prose, "WEIGHTS", tmp_path / "prosenet.weights.h5")
    with pytest.raises(FileNotFoundError, match=r"pretrain_text_encoder.py"):
        load_prosenet()


def test_masked_heads_end_in_the_embedding_itself(tokens):
    network = prosenet(60)
    model = masked_lm(network, network.output["sequence_output"])
    new = {id(one) for one in model.weights} - {id(one) for one in network.weights}
    shapes = sorted(tuple(one.shape) for one in model.weights if id(one) in new)
    assert shapes == [(60,), (128,), (128,), (128,), (128, 128)]  # bias; dense and norm
    assert model.output.shape == (None, None, 60)
    masking = masking_of(tokens)
    words = tokens.tokenizer.get_vocabulary()
    named = {words[one] for one in masking.special}
    assert (words[masking.mask], named) == (
        "[MASK]", {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    )  # fmt: skip


def test_a_vocabulary_without_a_mask_is_refused_with_the_reason():
    gpt2 = backbones.Tokens(tokenizers()["gpt2"]())
    with pytest.raises(ValueError, match=r"an encoder whose vocabulary has an id.*GPT2Tokenizer"):
        masking_of(gpt2)
