"""What Hugging Face calls the linear layers of BERT, GPT-2 and Llama, and KerasHub does."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import keras

from kerastl._base.checks import listed
from kerastl.peft.fingerprint import layers_by_path

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"


@dataclasses.dataclass(frozen=True)
class Family:
    """The names of one family of networks.

    Attributes:
        name: String.
        block: String, the name of a block in Hugging Face's network, with `{}` for its number.
        within: Dict from a module's name in a block to the paths of KerasHub's layers that it is,
            in the order of its outputs: several where it is fused.
        outside: Dict of the same for modules that are in no block.
        prefixes: What comes before those names in a file: first that of the model with a head.
        task: String, what Hugging Face's PEFT calls the task of that model.
        head: String, the name of that model's head if it is a linear layer on the same features
            as a head of ours, else empty.
    """

    name: str
    block: str
    within: Mapping[str, tuple[str, ...]]
    outside: Mapping[str, tuple[str, ...]]
    prefixes: tuple[str, ...]
    task: str
    head: str = ""


_FEED_FORWARD = ("feedforward_intermediate_dense",), ("feedforward_output_dense",)
BERT = Family(
    "BERT",
    "encoder.layer.{}",
    {
        "attention.self.query": ("self_attention_layer/query",),
        "attention.self.key": ("self_attention_layer/key",),
        "attention.self.value": ("self_attention_layer/value",),
        "attention.output.dense": ("self_attention_layer/attention_output",),
        "intermediate.dense": _FEED_FORWARD[0],
        "output.dense": _FEED_FORWARD[1],
    },
    {"pooler.dense": ("pooled_dense",)},
    ("bert.", ""),
    "SEQ_CLS",
    "classifier",
)
GPT2 = Family(
    "GPT-2",
    "h.{}",
    {
        "attn.c_attn": ("self_attention/query", "self_attention/key", "self_attention/value"),
        "attn.c_proj": ("self_attention/attention_output",),
        "mlp.c_fc": _FEED_FORWARD[0],
        "mlp.c_proj": _FEED_FORWARD[1],
    },
    {},
    ("transformer.", ""),
    "CAUSAL_LM",
)
LLAMA = Family(
    "Llama",
    "layers.{}",
    {
        "self_attn.q_proj": ("self_attention/query",),
        "self_attn.k_proj": ("self_attention/key",),
        "self_attn.v_proj": ("self_attention/value",),
        "self_attn.o_proj": ("self_attention/attention_output",),
        "mlp.gate_proj": ("feedforward_gate_dense",),
        "mlp.up_proj": _FEED_FORWARD[0],
        "mlp.down_proj": _FEED_FORWARD[1],
    },
    {},
    ("model.", ""),
    "CAUSAL_LM",
)
FAMILIES = (BERT, GPT2, LLAMA)
_BLOCK = re.compile(r"transformer_layer_\d+")


def family_of(model: keras.Model) -> Family:
    """The `Family` of a model made of a network of KerasHub.

    RoBERTa has the blocks of BERT and OPT those of GPT-2, and Hugging Face other names for them:
    so the embeddings are asked, too.

    Raises:
        ValueError: If it is of none of them.
    """
    layers = {layer.name: type(layer).__name__ for layer in model.layers}
    kinds = {kind for name, kind in layers.items() if _BLOCK.fullmatch(name)}
    if kinds == {"TransformerEncoder"} and {"segment_embedding", "pooled_dense"} <= set(layers):
        return BERT
    if kinds == {"TransformerDecoder"} and {"position_embedding", "layer_norm"} <= set(layers):
        return GPT2
    if kinds and all(kind.startswith("Llama") for kind in kinds):
        return LLAMA
    raise ValueError(
        f"Folders of Hugging Face's PEFT go with {listed(f.name for f in FAMILIES)} as KerasHub "
        f"has them. Received: {model.name!r}, with the blocks {listed(sorted(kinds)) or 'of none'}"
    )


def modules_of(model: keras.Model, family: Family) -> dict[str, list[tuple[str, Any]]]:
    """Dict from each module that the network has to `(path, layer)` of KerasHub's layers."""
    layers = layers_by_path(model)
    found = {name: [(p, layers[p]) for p in paths if p in layers]
             for name, paths in family.outside.items()}  # fmt: skip
    for i in range(sum(1 for layer in model.layers if _BLOCK.fullmatch(layer.name))):
        for name, paths in family.within.items():
            whole = [f"transformer_layer_{i}/{path}" for path in paths]
            found[f"{family.block.format(i)}.{name}"] = [(path, layers[path]) for path in whole]
    return {name: pairs for name, pairs in found.items() if pairs}
