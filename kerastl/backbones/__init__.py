"""Pretrained networks by name: pixels or tokens in, pooled features out; texts to tokens."""

from kerastl.backbones.causal import CausalLM, load_causal, save_preset
from kerastl.backbones.loading import load, notices
from kerastl.backbones.masked import masked_lm, masking_of, next_token_lm
from kerastl.backbones.specs import Spec, find, names, transfer_size
from kerastl.backbones.tokens import Tokens, load_tokens, max_length

__all__ = [
    "CausalLM",
    "Spec",
    "Tokens",
    "find",
    "load",
    "load_causal",
    "load_tokens",
    "masked_lm",
    "masking_of",
    "max_length",
    "names",
    "next_token_lm",
    "notices",
    "save_preset",
    "transfer_size",
]
