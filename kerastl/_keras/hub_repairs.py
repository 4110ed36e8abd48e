"""What KerasHub 0.32.0 saves or loads wrongly, mended where a model is loaded or saved.

KerasHub saves a backbone by the backbone's own arguments, so that nobody noticed what single layers
leave out: in a flat model each layer is saved by its own config. Each mend can go when the test
named after it in `tests/training/test_hub_repairs.py` or `tests/backbones/test_checkpoints.py` says
that KerasHub has mended it.
"""

import contextlib
import functools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np


def mend_before_saving(layers: Iterable[keras.Layer]) -> None:
    """Have the configs of `layers` say all that the layers were made with."""
    for layer in layers:
        forgotten = _FORGOTTEN.get(type(layer).__name__, {})
        for name, value in forgotten.items():
            if not hasattr(layer, name):
                setattr(layer, name, value(layer))
        for name in _LEFT_OUT:
            if name in [cls.__name__ for cls in type(layer).__mro__]:
                layer.__dict__["get_config"] = functools.partial(_whole_config, layer, name)


def mend_config(config: dict[str, Any]) -> dict[str, Any]:
    """Drop, in place, what `get_config` says and the constructor does not take."""
    for layer in config["layers"]:
        for name in _UNKNOWN.get(layer["class_name"], ()):
            layer["config"].pop(name, None)
    return config


def mend_after_loading(layers: Iterable[keras.Layer]) -> None:
    """Build sublayers that a constructor makes and that nothing builds before weights arrive."""
    for layer in layers:
        if type(layer).__name__ == "RelativeEmbedding" and not layer.layer_norm.built:
            layer.layer_norm.build((None, 2 * layer.bucket_size, layer.hidden_dim))


def _whole_config(layer, name):
    config = type(layer).get_config(layer)
    for argument, value in _LEFT_OUT[name].items():
        config[argument] = value(layer)
    for argument in _UNKNOWN.get(name, ()):
        config.pop(argument, None)
    return config


def _own(name):
    return lambda layer: getattr(layer, name)


# Attributes that `get_config` reads and the constructor does not make.
_FORGOTTEN = {
    "DeiTEncoder": {"key_dim": lambda layer: layer.hidden_dim // layer.num_heads},
    "LlamaTransformerDecoder": {
        "rope_scaling_factor": lambda layer: layer.rope_position_scaling_factor
    },
}

# Arguments that `get_config` leaves out, so that a saved model comes back with their defaults: a
# tied Llama, one of version 3.1 or later and a Qwen 3 do not load; a Qwen with a sliding window
# loads and computes something else.
_LEFT_OUT = {
    "LlamaBackbone": {"tie_word_embeddings": lambda layer: layer.token_embedding.tie_weights},
    "LlamaTransformerDecoder": {
        name: _own(name)
        for name in ("rope_position_scaling_factor", "rope_frequency_adjustment_factor")
    },
    "QwenTransformerDecoder": {
        name: _own(name) for name in ("use_sliding_window_attention", "sliding_window_size")
    },
    "Qwen3TransformerDecoder": {name: _own(name) for name in ("head_dim", "sliding_window_size")},
}

# Arguments that `get_config` says and the constructor does not know.
_UNKNOWN = {
    "ViTPatchingAndEmbedding": ("num_patches", "num_positions"),
    "DeiTEmbeddings": ("num_patches", "num_positions"),
    "DeiTEncoder": ("key_dim",),
    "LlamaTransformerDecoder": ("rope_scaling_factor",),
}


def blocks_with_activation(network: keras.Model) -> list[Any]:
    """The blocks of KerasHub in `network` whose activation can be chosen.

    Private name: `_feedforward_intermediate_dense`, which computes it.
    """
    return [layer for layer in network.layers if hasattr(layer, "_feedforward_intermediate_dense")]


def use_activation(blocks: Iterable[Any], activation: Callable[[Any], Any]) -> None:
    """Have `blocks` compute `activation`; their configs say so, and saved models too.

    A block gives its activation to a dense layer when it is built, and reads the attribute no more
    but for its config.
    """
    for block in blocks:
        block.activation = activation
        block._feedforward_intermediate_dense.activation = activation


@contextlib.contextmanager
def noting_misfits() -> Iterator[dict[str, Exception]]:
    """Have converters of Hugging Face files go on where a tensor is missing or does not fit.

    KerasHub 0.32.0 stops at the first one, with half of the model filled. Three things that its
    converters overlook are read as well: tensors saved without the name of the model before them,
    the one segment of RoBERTa, which is zero until someone trains it, and what float16 has no room
    for in the embeddings of Mistral. Private name:
    `SafetensorLoader.port_weight`, through which converters fill a model.

    Returns:
        Dict from the name of a tensor to the error it raised, filled while this lasts.
    """
    from keras_hub.src.utils.transformers.safetensor_utils import SafetensorLoader

    found: dict[str, Exception] = {}
    port_weight = SafetensorLoader.port_weight

    def noting(self, keras_variable, hf_weight_key, hook_fn=None):
        try:
            name = _name_in(self, hf_weight_key)
            port_weight(self, keras_variable, name, hook_fn and _exact(hook_fn))
            if hf_weight_key == _ROBERTAS_POSITIONS:
                _add_only_segment(self, keras_variable, name)
        except Exception as error:
            if not (is_missing_tensor(error) or isinstance(error, (ValueError, IndexError))):
                raise
            found[hf_weight_key] = error

    SafetensorLoader.port_weight = noting
    try:
        yield found
    finally:
        SafetensorLoader.port_weight = port_weight


def _exact(hook_fn):
    """`hook_fn` without a detour by half precision, which the converter of Mistral takes."""
    return lambda tensor, shape: np.asarray(hook_fn(tensor.view(_Unrounded), shape))


class _Unrounded(np.ndarray):
    """An array that is not rounded to float16."""

    def astype(self, dtype, *args, **kwargs):
        return self if dtype == np.float16 else super().astype(dtype, *args, **kwargs)


# Families whose converter asks for the name of the model before that of a tensor. `RobertaModel`
# and its like, sentence-transformers' among them, save without it.
_PREFIXES = ("albert.", "distilbert.", "roberta.")
_ROBERTAS_POSITIONS = "roberta.embeddings.position_embeddings.weight"


def _name_in(loader, name):
    """The name by which a checkpoint holds the tensor `name`, if it does."""
    if name.startswith(_PREFIXES):
        try:
            loader.get_tensor(name)
        except Exception as error:
            if not is_missing_tensor(error):
                raise
            return name.split(".", 1)[1]
    return name


def _add_only_segment(loader, positions, name):
    """Add RoBERTa's segment to all positions, as the converter of XLM-RoBERTa does."""
    try:
        segment = loader.get_tensor(name.replace("position_", "token_type_"))[0]
    except Exception as error:
        if not is_missing_tensor(error):
            raise
    else:
        positions.assign(positions + segment)


def is_missing_tensor(error: Exception) -> bool:
    """Whether `error` says that a checkpoint lacks a tensor: of one file, or of an index."""
    return isinstance(error, KeyError) or "does not contain tensor" in str(error)


def preset_file(preset: str, name: str) -> str | None:
    """The path of a file of the preset `hf://...`, fetched if need be; None where it has none.

    Private names: `check_file_exists` and `get_file`. A preset offers no other way to its files.
    """
    from keras_hub.src.utils.preset_utils import check_file_exists, get_file

    return get_file(preset, name) if check_file_exists(preset, name) else None


def use_epsilon(layers: Iterable[Any], epsilon: float) -> None:
    """Have all norms among `layers` divide by `sqrt(variance + epsilon)`, and configs say so.

    KerasHub 0.32.0 reads it of most decoders, but of Llama and Gemma takes 1e-6, where Llama 3 was
    trained with 1e-5.
    """
    for layer in layers:
        for name in ("epsilon", "layer_norm_epsilon"):
            if hasattr(layer, name):
                setattr(layer, name, epsilon)


def complete_saved_tokenizer(tokenizer: Any, config: dict[str, Any]) -> dict[str, Any]:
    """The saved `config` of a tokenizer with what its `get_config` leaves out, `split_on_cjk`."""
    if hasattr(tokenizer, "split_on_cjk"):
        config["config"]["split_on_cjk"] = tokenizer.split_on_cjk
    return config


# How Llama 3 and Qwen 2 cut a text into words (their tokenizer.json): numbers into threes or ones.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PATTERNS = {
    "Llama3Tokenizer": _WORDS % "{1,3}",
    **dict.fromkeys(("Qwen3Tokenizer", "QwenMoeTokenizer", "QwenTokenizer"), _WORDS % ""),
}
# Families whose byte pairs were learnt on words that GPT-2's pattern cuts.
_AS_GPT2 = {"GPT2Tokenizer", "GPTNeoXTokenizer", "OPTTokenizer", "RobertaTokenizer"}


def cut_as_trained(tokenizer: Any) -> None:
    """Have byte pairs begin with the words that they were learnt on.

    KerasHub 0.32.0 hands its pattern to the package `tokenizers` as a string, which stands for
    itself there and is found in no text: eagerly no text is cut at all, so that pairs reach across
    words, two spaces become one token and long numbers fall apart elsewhere. In `tf.data`
    it cuts. Private name: `_tokenizer`, the one of that package that it runs.
    """
    from tokenizers import Regex, pre_tokenizers

    name, made = type(tokenizer).__name__, pre_tokenizers.ByteLevel
    if name in _AS_GPT2:
        tokenizer._tokenizer.pre_tokenizer = made(add_prefix_space=tokenizer.add_prefix_space)
    elif name in _PATTERNS:
        cut = pre_tokenizers.Split(Regex(_PATTERNS[name]), "isolated")
        pairs = made(add_prefix_space=False, use_regex=False)
        tokenizer._tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, pairs])


def fast_tokenizer(tokenizer: Any) -> str:
    """The JSON of the tokenizer of the package `tokenizers` that a byte-pair tokenizer runs.

    KerasHub 0.32.0 has no public way to it. Private name: `_tokenizer`. It can go when KerasHub
    writes tokenizer.json of Hugging Face by itself.
    """
    return str(tokenizer._tokenizer.to_str())


def quiet_sentencepiece(tokenizer: Any, quiet: Callable[[], Any]) -> None:
    """Have tokenizers of the class `tokenizer` made within `quiet()`, which shows no line.

    TensorFlow Text carries a sentencepiece of its own. It tells of each model without a table of
    characters, as Llama's, and no log level of it can be reached. Private name: `_set_proto_tf` of
    KerasHub 0.32.0, which makes it.
    """
    made = tokenizer._set_proto_tf
    if hasattr(made, "__wrapped__"):
        return

    @functools.wraps(made)
    def quietly(self, proto):
        with quiet():
            made(self, proto)

    tokenizer._set_proto_tf = quietly


# Pieces of a sentencepiece model that are no part of any text: `<end_of_turn>`, `<unused7>`.
_MARK = re.compile(r"<(?:[a-z]+(?:_[a-z]+)+|unused\d+|bos|eos|pad|unk|mask)>|\[[A-Z]+\]")


def escape_special_tokens(tokenizer: Any) -> None:
    """Have `tokenizer` read the names of special tokens as any other text.

    As KerasHub 0.32.0 has it, a text that contains `<|endoftext|>` or `<end_of_turn>` writes that
    very token. Sentencepiece never reads `<s>` and the like, but does read what a model calls
    defined by its user. Private names: `_tokenizer` and `_sentence_piece_spm`, which do the work.
    """
    if getattr(tokenizer, "_tokenizer", None) is not None:
        tokenizer._tokenizer.encode_special_tokens = True
    if getattr(tokenizer, "_sentence_piece_spm", None) is not None:
        tokenizer._sentence_piece_spm = _without_marks(tokenizer)


def _without_marks(tokenizer):
    """A sentencepiece processor with the same ids that finds no mark in a text."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    proto: Any = sentencepiece_model_pb2
    model = proto.ModelProto.FromString(tokenizer.proto)
    special, found = set(tokenizer.special_tokens), False
    kinds = type(model.pieces[0])
    for piece in model.pieces:
        is_mark = piece.piece in special or _MARK.fullmatch(piece.piece)
        if piece.type == kinds.USER_DEFINED and is_mark:
            piece.type, found = kinds.CONTROL, True
    if not found:
        return tokenizer._sentence_piece_spm
    return sentencepiece.SentencePieceProcessor(
        model_proto=model.SerializeToString(),
        add_bos=tokenizer.add_bos,
        add_eos=tokenizer.add_eos,
    )
