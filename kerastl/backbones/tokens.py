"""From texts to the ids that a text backbone takes, and what is packed around them.

It is one file of over 400 lines because where a tokenizer comes from, what it does to a text and
what is packed around its ids are read together.
"""

import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from kerastl import _keras
from kerastl._base import files
from kerastl._base.types import PathLike
from kerastl._keras import hub_repairs
from kerastl.backbones import hub, huggingface
from kerastl.backbones.prose import network as prose
from kerastl.backbones.weights import explained

_CHUNK = 1024  # texts that are tokenized at a time: their ids lie in Python lists until then
_CLEANING = "cleaning.json"

# Families for which KerasHub has no preprocessor, but whose texts are packed as a BERT's.
_AS_BERT = ("ElectraTokenizer",)


def load_tokens(name: Any, *, backbone: keras.Model | None = None) -> "Tokens":
    """The tokenizer that belongs to a text backbone, with what is packed around its ids.

    Args:
        name: What `load` takes for a text backbone: a preset of KerasHub by name, `"hub:PRESET"`,
            a handle, or a folder with a preset or with the files of Hugging Face. A folder that
            `Tokens.save` wrote is taken too, and `"prosenet"`. So is an object of KerasHub, or of
            keras_nlp, which is today another name of it: a tokenizer, or a preprocessor or a task
            that has one.
        backbone: `keras.Model` that is to take the ids, to see whether they fit. None does not
            look.

    Returns:
        `Tokens`.

    Raises:
        ValueError: If there is no such preset, if it has no tokenizer, or if `backbone` has fewer
            embeddings than the tokenizer has ids.
        FileNotFoundError: If a folder lacks the vocabulary.
        ConnectionError: If the tokenizer could not be downloaded.
        ImportError: If KerasHub is not installed.
        TypeError: If it is an object without a tokenizer.
    """
    if not isinstance(name, (str, os.PathLike)):
        tokens = Tokens(_tokenizer_in(name))
    elif _is_saved(name := os.fspath(name)):
        tokens = Tokens.load(name)
    elif name == prose.NAME:
        tokens = Tokens(prose.prose_tokenizer())
    else:
        preset = hub.checked(name)
        with explained(f"The tokenizer of {preset!r}", "or pass a folder with its files."):
            tokens = Tokens(_tokenizer_of(preset), cleaning=huggingface.cleaning(preset))
    if backbone is not None:
        tokens.check_fits(backbone)
    return tokens


def max_length(backbone: keras.Model) -> int | None:
    """The longest row of tokens that a text backbone takes, or None where nothing limits it.

    A network with learnt positions has as many as it was made with; one with rotary or relative
    positions takes any length.

    Example:
        >>> import keras_hub
        >>> max_length(keras_hub.models.BertBackbone(
        ...     vocabulary_size=9, num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=4,
        ...     max_sequence_length=64))
        64
    """
    for layer in _keras.with_sublayers(backbone):
        if layer.name == "position_embedding" and hasattr(layer, "sequence_length"):
            return int(layer.sequence_length)
    return None


class Tokens:
    """Texts as ids, for one text backbone, and how ids are packed into its inputs.

    It wraps a tokenizer of KerasHub and reads off KerasHub's preprocessor of that family what goes
    around the ids, so that `pack(ids(texts), length)` gives what that preprocessor gives. Kept
    apart, ids can be counted, cut and put into lengths of their own before they are packed.

    Args:
        tokenizer: Tokenizer of KerasHub, with its vocabulary. It is changed: from now on byte
            pairs cut a text into words first, as they were trained to, and that of a causal model
            reads the names of special tokens as text.
        cleaning: Tuple of steps that change a text before `tokenizer` sees it, as
            `huggingface.cleaning` gives for checkpoints that have them in code.

    Attributes:
        tokenizer: The tokenizer itself.
        start: Tuple of ids before a text.
        between: Tuple of ids between the texts of a pair; empty for a causal model, which takes
            none.
        end: Tuple of ids after the last text.
        pad: Int, the id that fills up.
        unknown: Int, the id of what the vocabulary cannot write, or None where it can write all.
        vocabulary_size: Int, one more than the largest id.
        causal: Bool, whether the family is a causal language model.
        segments: Bool, whether the backbone takes `segment_ids`.
        inputs: Tuple of the names of the backbone's inputs.

    Raises:
        ValueError: If KerasHub has no preprocessor that packs texts for `tokenizer`.

    Example:
        >>> import keras_hub
        >>> words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "##s"]
        >>> tokens = Tokens(keras_hub.models.BertTokenizer(words, lowercase=True))
        >>> tokens.ids(["A cat", "cats"])
        [array([5, 6], dtype=int32), array([6, 7], dtype=int32)]
        >>> tokens.pack(tokens.ids(["cats"]), 6)["token_ids"]
        array([[2, 6, 7, 3, 0, 0]], dtype=int32)
    """

    def __init__(self, tokenizer: Any, *, cleaning: tuple[str, ...] = ()) -> None:
        hub_repairs.cut_as_trained(tokenizer)
        self.tokenizer = tokenizer
        self.cleaning = tuple(cleaning)
        preprocessor, self.causal = _preprocessor_of(tokenizer)
        if self.causal:
            hub_repairs.escape_special_tokens(tokenizer)
        packer: Any = preprocessor.packer
        self.start = _as_ids(packer.start_value)
        self.between = () if self.causal else _as_ids(packer.sep_value)
        self.end = _as_ids(packer.end_value)
        self.pad = int(packer.pad_value)
        self.unknown = _unknown_of(tokenizer)
        self.vocabulary_size = int(tokenizer.vocabulary_size())
        example = preprocessor("a")
        self.inputs = tuple(example[0] if isinstance(example, tuple) else example)
        self.segments = "segment_ids" in self.inputs
        if not set(self.inputs) <= {"token_ids", "padding_mask", "segment_ids"}:
            raise ValueError(
                "`tokenizer` must be of a network that takes texts alone. Received: "
                f"{type(tokenizer).__name__}, whose network takes {', '.join(self.inputs)}"
            )

    def ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each of `texts`, without what is packed around them.

        No text of a causal language model can write a special token: `<|endoftext|>` is read as
        the letters that it is made of.

        Args:
            texts: Sequence of strings, of any length; an empty one has no ids.

        Returns:
            List of int32 arrays `(tokens,)`, one a text.

        Raises:
            TypeError: If `texts` is one string, or holds something else.
        """
        if isinstance(texts, (str, bytes)):
            raise TypeError(f"`texts` must be a sequence of strings. Received: texts={texts!r}")
        found = []
        for chunk in _chunks(texts):
            cleaned = [huggingface.clean(text, self.cleaning) for text in chunk]
            found += [np.asarray(ids, "int32") for ids in self.tokenizer.tokenize(cleaned)]
        return found

    def pack(
        self,
        ids: Sequence[np.ndarray],
        length: int,
        *,
        second: Sequence[np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        """One batch of the backbone's inputs: what is too long is cut, what is short filled up.

        What stands around the ids always stays. The two texts of a pair give way as KerasHub has
        it, "round robin": token by token in turn, until the room is used up.

        Args:
            ids: Sequence of int arrays `(tokens,)`, as `ids` gives.
            length: Int, the tokens of a row, those around the texts included; at most
                `max_length(backbone)`.
            second: As `ids`, the second text of each pair. None for texts alone.

        Returns:
            Dict from the names of `inputs` to int32 arrays `(texts, length)`.

        Raises:
            ValueError: If `length` leaves no room for a token of each text, if the pairs are not
                as many as the texts, or if the model takes no pairs.

        References:
            The packing of Devlin et al., 2019 (BERT), section 3, https://arxiv.org/abs/1810.04805
        """
        self._check_pack(ids, length, second)
        token_ids = np.full((len(ids), length), self.pad, "int32")
        is_token = np.zeros((len(ids), length), "int32")
        segment_ids = np.zeros((len(ids), length), "int32")
        for row, first in enumerate(ids):
            other = None if second is None else second[row]
            whole, begin = self._row(first, other, length)
            token_ids[row, : len(whole)] = whole
            is_token[row, : len(whole)] = 1
            segment_ids[row, begin : len(whole)] = 1
        if not self.causal:  # as KerasHub: of an encoder, what looks like padding is
            is_token &= token_ids != self.pad
        arrays = {"token_ids": token_ids, "padding_mask": is_token, "segment_ids": segment_ids}
        return {name: arrays[name] for name in self.inputs}

    def _row(self, first, second, length):
        """The ids of one row, and where its second segment begins."""
        room = length - len(self.start) - len(self.end)
        if second is None:
            whole = np.concatenate([self.start, first[:room], self.end])
            return whole, len(whole)
        room -= len(self.between)
        kept = min(len(first), max(room - len(second), room - room // 2))
        begin = len(self.start) + kept + len(self.between)
        parts = [self.start, first[:kept], self.between, second[: room - kept], self.end]
        return np.concatenate(parts), begin

    def _check_pack(self, ids, length, second):
        if second is not None and self.causal:
            raise ValueError(
                "A causal language model takes texts alone. Received: `second` for "
                f"{type(self.tokenizer).__name__}. Join the texts of a pair yourself."
            )
        if second is not None and len(second) != len(ids):
            raise ValueError(
                "`second` must hold as many texts as `ids`. Received: "
                f"{len(second)} for {len(ids)} texts"
            )
        around = len(self.start) + len(self.end) + (1 if second is None else len(self.between) + 2)
        if isinstance(length, bool) or not isinstance(length, int) or length < around:
            raise ValueError(
                f"`length` must be an int of at least {around}: what is packed around the ids, and "
                f"a token of each text. Received: length={length!r}"
            )

    def unknown_share(self, ids: Sequence[np.ndarray]) -> float:
        """The share of all `ids` that are `unknown`, in [0, 1]; 0 where nothing can be.

        Above 0.01 a tokenizer hardly fits its texts: another language, or signs it never saw.
        """
        total = sum(len(one) for one in ids)
        if self.unknown is None or total == 0:
            return 0.0
        return sum(int(np.count_nonzero(one == self.unknown)) for one in ids) / total

    def check_fits(self, backbone: keras.Model) -> None:
        """Raise ValueError if `backbone` has fewer token embeddings than there are ids.

        Args:
            backbone: `keras.Model` with a layer `token_embedding`, as text networks of KerasHub
                have at some depth. Another has nothing to compare.
        """
        for layer in _keras.with_sublayers(backbone):
            size = getattr(layer, "input_dim", None)
            if layer.name == "token_embedding" and size is not None:
                if size < self.vocabulary_size:
                    raise ValueError(
                        f"The tokenizer must fit the backbone: it has {self.vocabulary_size} ids, "
                        f"and {backbone.name!r} embeddings for {size}. Load both from the same "
                        "preset or folder."
                    )
                return

    def save(self, folder: PathLike) -> None:
        """Write all that is needed to read texts again into `folder`, wholly or not at all.

        The files are those of a KerasHub preset, `tokenizer.json` and `assets/`.

        Args:
            folder: Path of a folder, made anew; what is there goes.
        """
        folder = pathlib.Path(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with files.work_folder(folder) as work:
            made = pathlib.Path(work, "tokens")
            made.mkdir()
            self.tokenizer.save_to_preset(str(made))
            path = made / "tokenizer.json"
            config = json.loads(path.read_text(encoding="utf-8"))
            hub_repairs.complete_saved_tokenizer(self.tokenizer, config)
            path.write_text(json.dumps(config, indent=1), encoding="utf-8")
            (made / _CLEANING).write_text(json.dumps(self.cleaning), encoding="utf-8")
            files.replaced(made, folder)

    @classmethod
    def load(cls, folder: PathLike) -> "Tokens":
        """The `Tokens` that `save` wrote into `folder`; needs no network.

        Raises:
            FileNotFoundError: If there are none.
        """
        folder = os.fspath(folder)
        if not _is_saved(folder):
            raise FileNotFoundError(
                "A folder of tokens must hold tokenizer.json and cleaning.json, as `Tokens.save` "
                f"writes them. Received: {folder!r}"
            )
        hub.import_keras_hub()
        config = json.loads(pathlib.Path(folder, "tokenizer.json").read_text(encoding="utf-8"))
        steps = json.loads(pathlib.Path(folder, _CLEANING).read_text(encoding="utf-8"))
        tokenizer: Any = keras.saving.deserialize_keras_object(config)
        tokenizer.load_preset_assets(folder)
        return cls(tokenizer, cleaning=tuple(steps))


def _is_saved(folder):
    return all(os.path.isfile(os.path.join(folder, name)) for name in ("tokenizer.json", _CLEANING))


def _tokenizer_in(given):
    """The tokenizer that an object of KerasHub is, or has."""
    for one in (given, getattr(given, "preprocessor", None)):
        one = getattr(one, "tokenizer", one)
        if hasattr(one, "tokenize") and hasattr(one, "vocabulary_size"):
            return one
    raise TypeError(
        "`name` must be a preset, a folder, or a tokenizer of KerasHub, or a preprocessor or task "
        f"with one. Received: {type(given).__module__}.{type(given).__qualname__}. A backbone has "
        "no words: pass the tokenizer that it was trained with"
    )


def _tokenizer_of(preset):
    try:
        return huggingface.load_tokenizer(preset)
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{preset!r} must be a text network with a tokenizer that KerasHub can read: {error}"
        ) from error


def _preprocessor_of(tokenizer):
    """KerasHub's preprocessor for `tokenizer`, built, and whether it is of a causal model."""
    import keras_hub

    models = keras_hub.models
    bases = ((models.TextClassifierPreprocessor, False), (models.CausalLMPreprocessor, True))
    for base, is_causal in bases:
        for name in dir(models):
            made = getattr(models, name)
            is_one = isinstance(made, type) and issubclass(made, base)
            if is_one and getattr(made, "tokenizer_cls", None) is type(tokenizer):
                return _built(made, tokenizer), is_causal
    if type(tokenizer).__name__ in _AS_BERT:
        return _built(models.TextClassifierPreprocessor, tokenizer), False
    raise ValueError(
        "`tokenizer` must be one whose family KerasHub has a preprocessor for, of text "
        "classification or of causal language models. Received: "
        f"{type(tokenizer).__module__}.{type(tokenizer).__qualname__}"
    )


def packer_of(tokens: Tokens, length: int) -> Any:
    """KerasHub's preprocessor of the family of `tokens`, which a task of KerasHub holds.

    Args:
        tokens: `Tokens`.
        length: Int, the tokens of a row.
    """
    preprocessor, _ = _preprocessor_of(tokens.tokenizer)
    return type(preprocessor)(tokens.tokenizer, sequence_length=length)


def _built(preprocessor, tokenizer):
    made = preprocessor(tokenizer, sequence_length=8)
    made.build(None)
    return made


def _as_ids(value):
    return tuple(int(one) for one in value or ())


def _unknown_of(tokenizer):
    """The id of the unknown token: WordPiece and sentencepiece have one, bytes need none."""
    if hasattr(tokenizer, "oov_token"):
        return int(tokenizer.token_to_id(tokenizer.oov_token))
    if hasattr(tokenizer, "unk_token_id"):  # XLM-RoBERTa's, which has ids of its own
        return int(tokenizer.unk_token_id)
    if hasattr(tokenizer, "proto"):
        import sentencepiece

        unknown = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.proto).unk_id()
        return None if unknown < 0 else int(unknown)
    return None


def _chunks(texts) -> Iterator[list[str]]:
    for begin in range(0, len(texts), _CHUNK):
        chunk = list(texts[begin : begin + _CHUNK])
        for offset, text in enumerate(chunk):
            if not isinstance(text, str):
                raise TypeError(
                    "`texts` must hold strings alone. Received: "
                    f"texts[{begin + offset}]={text!r}, of type {type(text).__name__}"
                )
        yield chunk
