"""Tiny causal language models of several families, with irregular weights, in folders."""

import keras_hub
import numpy as np

from kerastl.backbones import save_preset

DECODER = {
    "vocabulary_size": 44,
    "num_layers": 2,
    "num_query_heads": 2,
    "num_key_value_heads": 1,
    "hidden_dim": 8,
    "intermediate_dim": 16,
}
HEADS = {
    "vocabulary_size": 44,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 8,
    "intermediate_dim": 16,
}
# Four times as wide inside as outside: KerasHub reads no other GPT-2 of Hugging Face.
LEARNT = {**HEADS, "intermediate_dim": 32, "max_sequence_length": 24, "dropout": 0.0}
CONFIGS = {
    "GPT2": LEARNT,
    "OPT": LEARNT,
    "Llama": {**DECODER, "tie_word_embeddings": True},
    "Llama3": DECODER,
    "Mistral": {**DECODER, "sliding_window": 3},
    "Qwen": {**DECODER, "use_sliding_window_attention": True, "sliding_window_size": 3},
    "Qwen3": {**DECODER, "head_dim": 4},
    "GPTNeoX": {**HEADS, "hidden_dim": 16, "dropout": 0.0},
    "Bloom": HEADS,
    "Falcon": {**{k: v for k, v in HEADS.items() if k != "num_heads"}, "num_attention_heads": 2},
    "Gemma": {**DECODER, "head_dim": 4},
}


def task(family, tokenizer=None, **config):
    """KerasHub's task, its weights drawn so that no two of them are alike."""
    made = getattr(keras_hub.models, f"{family}CausalLM")
    backbone = made.backbone_cls(**{**CONFIGS[family], **config})
    rng = np.random.default_rng(0)
    for weight in backbone.weights:
        weight.assign(rng.normal(size=weight.shape) * 0.4 + (len(weight.shape) == 1))
    packer = None if tokenizer is None else made.preprocessor_cls(tokenizer, sequence_length=24)
    return made(backbone=backbone, preprocessor=packer)


def folder(path, family, **config):
    """A preset folder of such a task."""
    save_preset(task(family, **config), path)
    return path


def documents(count=3, seed=0):
    """Rows of ids of different lengths."""
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 44, size) for size in (5, 7, 3, 6, 2, 8)[:count]]


def padded(rows, length):
    """Inputs of a batch with a row for each of `rows`."""
    ids, mask = (np.zeros((len(rows), length), "int32") for _ in range(2))
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
    return {"token_ids": ids, "padding_mask": mask}


def in_one_row(rows, length):
    """Inputs of a batch of one row with all of `rows`, and the place of each."""
    row = np.concatenate(rows)
    numbers = np.repeat(np.arange(len(rows)) + 1, [len(r) for r in rows])
    documents = np.zeros((1, length), "int32")
    documents[0, : len(row)] = numbers
    return {**padded([row], length), "documents": documents}
