"""Lines that tokenizers disagree about, against the `tokenizers` package.

Where ids differ the line is listed, so that a test fails when KerasHub changes either way. docs/
texts.md says what the differences mean.
"""

import pytest

from kerastl.backbones import Tokens, load_tokens
from tests.backbones import text_cases as cases

keras_hub = pytest.importorskip("keras_hub")

HOSTILE = {
    "accents": "Café naïve façade Ångström",
    "combining": "Cafe\u0301 nai\u0308ve",
    "cjk": "日本語 and 中文mixed",
    "emoji": "good 😀👍🏽 fox",
    "zero_width": "the fo\u200bx",
    "nfkc": "ﬁne ﬂow ① Ａｂｃ",
    "sharp_s": "Straße GROẞ",
    "literal_mask": "a [MASK] cat [SEP] sat <mask> </s>",
    "long_word": "a " + "unablerunning" * 10 + "x cat",
    "tabs": "a\tcat\r\nsat\u00a0on\u3000log",
    "control": "the\x00 fox\x07\x97 ran\ufffd",
    "empty": "",
    "mixed_case": "ThE QUICK bRoWn FoX",
    "punctuation": "!!!???...,,, --- ‘x’ “y” €5 ±",
    "double_space": "a  cat",
    "numbers": "1234567 3.14 1,000,000 ½ ²",
    "right_to_left": "שלום עולם مرحبا the fox",
}
# KerasHub's lower-casing is NFKC case folding: ﬁ, ①, ½ and … come apart, ß becomes ss. Names of
# special tokens in a text are words for KerasHub; Hugging Face makes the special tokens of them,
# which lets a text write its own.
FOLDED = {"nfkc", "numbers", "sharp_s"}
LITERAL = {"literal_mask"}


def differing(ours, theirs):
    """The names of the lines of `HOSTILE` whose ids differ."""
    ids = ours.ids(list(HOSTILE.values()))
    return {
        name
        for name, own, text in zip(HOSTILE, ids, HOSTILE.values(), strict=True)
        if own.tolist() != theirs.encode(text, add_special_tokens=False).ids
    }


def test_word_pieces_of_a_made_up_vocabulary(tmp_path):
    tokens = load_tokens(cases.bert_folder(tmp_path / "bert"))
    # The made-up vocabulary can write neither ½ nor ß, folded or not.
    assert differing(tokens, cases.fast_bert(lowercase=True)) == {"nfkc"} | LITERAL


@pytest.mark.skipif(not cases.ENCODER.is_dir(), reason="needs a real encoder: KERASTL_ENCODER")
def test_word_pieces_of_a_real_vocabulary():
    from tokenizers import Tokenizer

    theirs = Tokenizer.from_file(str(cases.ENCODER / "tokenizer.json"))
    theirs.no_padding()
    theirs.no_truncation()
    assert differing(load_tokens(cases.ENCODER), theirs) == FOLDED | LITERAL


def test_keras_hub_alone_differs_more(tmp_path):
    """When this fails KerasHub cleans texts itself, and `cleaning` of WordPiece can go."""
    folder = cases.bert_folder(tmp_path / "bert")
    alone = Tokens(keras_hub.models.Tokenizer.from_preset(str(folder)))
    more = {"accents", "combining", "tabs", "zero_width"}
    assert differing(alone, cases.fast_bert(lowercase=True)) == {"nfkc"} | LITERAL | more


def test_cased_word_pieces(tmp_path):
    """Without case folding only the literal tokens are left."""
    folder = cases.bert_folder(tmp_path / "bert", tokenizer={"do_lower_case": False})
    theirs = cases.fast_bert(lowercase=False, strip_accents=False)
    assert differing(load_tokens(folder), theirs) == LITERAL


def fast_bytes(tokenizer, cut):
    """The `tokenizers` package with the byte pairs of `tokenizer`, on words that `cut` gives."""
    import tokenizers as fast

    pairs = [tuple(merge.split()) for merge in tokenizer.merges]
    made = fast.Tokenizer(fast.models.BPE(dict(tokenizer.vocabulary), pairs))
    made.pre_tokenizer = cut
    made.add_special_tokens(tokenizer.special_tokens)
    return made


def llama3():
    ends = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>")
    return keras_hub.models.Llama3Tokenizer(*cases.byte_pairs(*ends, "<|eot_id|>"))


def qwen():
    return keras_hub.models.QwenTokenizer(*cases.byte_pairs("<|endoftext|>"))


def by_pattern(numbers):
    """The pattern in the tokenizer.json of Llama 3, with {1,3}, and of Qwen 2, with nothing."""
    from tokenizers import Regex, pre_tokenizers

    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + numbers + "|"
        r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([split, level])


def as_gpt2():
    from tokenizers.pre_tokenizers import ByteLevel

    return ByteLevel(add_prefix_space=False)


BYTES = [
    (cases.tokenizers()["gpt2"], as_gpt2, {"double_space"}),
    (cases.tokenizers()["roberta"], as_gpt2, {"double_space"}),
    (llama3, lambda: by_pattern("{1,3}"), {"double_space", "numbers"}),
    (qwen, lambda: by_pattern(""), {"double_space", "numbers"}),
]


@pytest.mark.parametrize(("make", "cut", "alone"), BYTES)
def test_bytes(make, cut, alone):
    """Equal, and when the first line fails KerasHub cuts texts itself: `cut_as_trained` can go."""
    tokenizer = make()
    theirs = fast_bytes(tokenizer, cut())
    ids = tokenizer.tokenize(list(HOSTILE.values()))
    lines = zip(HOSTILE, ids, HOSTILE.values(), strict=True)
    assert {name for name, own, text in lines if own != theirs.encode(text).ids} == alone
    assert differing(Tokens(tokenizer), theirs) == set()
