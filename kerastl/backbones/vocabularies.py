"""The vocabulary of `Tokens` for a device file: inside it, or beside it for an app."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kerastl._base.checks import one_of
from kerastl._keras import hub_repairs
from kerastl.backbones import hub
from kerastl.backbones.tokens import Tokens

# What makes a WordPiece tokenizer of KerasHub, but for its words and special tokens.
_OPTIONS = ("lowercase", "strip_accents", "split", "split_on_cjk", "suffix_indicator", "oov_token")
# Lower-case letters beyond ASCII, which is all that MediaPipe lower-cases.
_ASCII = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def word_pieces(tokens: Tokens) -> dict[str, Any] | None:
    """How a WordPiece tokenizer splits texts, ready for JSON; None for another kind.

    With the words, `tokenizer.get_vocabulary()`, `of_word_pieces` makes the same `Tokens` of it.
    """
    import keras_hub

    tokenizer = tokens.tokenizer
    if not isinstance(tokenizer, keras_hub.tokenizers.WordPieceTokenizer):
        return None
    told = {name: getattr(tokenizer, name) for name in _OPTIONS}
    return {"kind": type(tokenizer).__name__, **told, "cleaning": list(tokens.cleaning)}


def of_word_pieces(words: Sequence[str], said: Mapping[str, Any]) -> Tokens:
    """The `Tokens` that `word_pieces` told of, with its `words`.

    Raises:
        ValueError: If `said` is of no WordPiece tokenizer of KerasHub.
    """
    keras_hub = hub.import_keras_hub()
    base = keras_hub.tokenizers.WordPieceTokenizer
    known = [
        name
        for name in dir(keras_hub.models)
        if isinstance(made := getattr(keras_hub.models, name), type) and issubclass(made, base)
    ]
    kind = one_of(said["kind"], known, "kind")
    options = {name: said[name] for name in _OPTIONS}
    tokenizer = getattr(keras_hub.models, kind)(list(words), **options)
    return Tokens(tokenizer, cleaning=tuple(said["cleaning"]))


def is_cased(tokens: Tokens) -> bool:
    """Whether a WordPiece tokenizer tells capitals from small letters."""
    return not tokens.tokenizer.lowercase and "lower" not in tokens.cleaning


def differing_in_mediapipe(tokens: Tokens, texts: Sequence[str]) -> list[int]:
    """Which of `texts` MediaPipe's TextClassifier reads otherwise than a WordPiece tokenizer.

    It lower-cases ASCII letters, always, and nothing else, and keeps accents; so the same words
    with that in front are its ids.

    Example:
        >>> import keras_hub
        >>> words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cafe", "cat"]
        >>> made = keras_hub.models.BertTokenizer(words, lowercase=True, strip_accents=True)
        >>> differing_in_mediapipe(Tokens(made), ["A cat", "a café"])
        [1]
    """
    told: Any = word_pieces(tokens)
    plain = {**told, "lowercase": False, "strip_accents": False, "split_on_cjk": True}
    theirs = of_word_pieces(tokens.tokenizer.get_vocabulary(), {**plain, "cleaning": []})
    lowered = [text.translate(_ASCII) for text in texts]
    pairs = zip(tokens.ids(texts), theirs.ids(lowered), strict=True)
    return [i for i, (own, other) in enumerate(pairs) if own.tolist() != other.tolist()]


def files_for_apps(tokens: Tokens, length: int) -> dict[str, bytes]:
    """Files with which an app without KerasHub reads texts as `tokens` does, by name.

    Of byte pairs `tokenizer.json`, which the package `tokenizers` and its kin take: it cuts, packs
    and fills up to `length` by itself. Of sentencepiece the model, `spiece.model`. None where the
    tokenizer is of another kind.
    """
    tokenizer = tokens.tokenizer
    if hasattr(tokenizer, "merges"):
        return {"tokenizer.json": _fast(tokens, length).encode()}
    proto = getattr(tokenizer, "proto", None)
    return {} if proto is None else {"spiece.model": bytes(proto)}


def _fast(tokens, length):
    """The JSON of a tokenizer of the package `tokenizers` that packs as `Tokens.pack`."""
    import tokenizers

    made = tokenizers.Tokenizer.from_str(hub_repairs.fast_tokenizer(tokens.tokenizer))
    named = {i: str(made.id_to_token(i)) for i in (*tokens.start, *tokens.between, *tokens.end)}
    start, between, end = (
        [named[i] for i in part] for part in (tokens.start, tokens.between, tokens.end)
    )
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single=[*start, "$A", *end],
        pair=[*start, "$A", *between, "$B", *end],
        special_tokens=[(name, i) for i, name in named.items()],
    )
    pad = str(made.id_to_token(tokens.pad))
    made.enable_truncation(length)
    made.enable_padding(length=length, pad_id=tokens.pad, pad_token=pad)
    return json.dumps(json.loads(made.to_str()), ensure_ascii=False, indent=1) + "\n"


def are_alike(one: Tokens, other: Tokens) -> bool:
    """Whether two `Tokens` give the same ids for every text."""
    return one is other or _told(one) == _told(other)


def _told(tokens):
    tokenizer = tokens.tokenizer
    config = {k: v for k, v in tokenizer.get_config().items() if k not in ("name", "dtype")}
    split = getattr(tokenizer, "split_on_cjk", None), getattr(tokenizer, "merges", None)
    proto = getattr(tokenizer, "proto", None)
    words = tokenizer.get_vocabulary()
    return type(tokenizer).__name__, config, split, proto, list(words), tokens.cleaning
