"""Pretrained networks by name: pixels or tokens in, pooled features out; texts to tokens."""

from kerastl.backbones.loading import load, notices
from kerastl.backbones.masked import masked_lm, masking_of
from kerastl.backbones.specs import Spec, find, names, transfer_size
from kerastl.backbones.tokens import Tokens, load_tokens, max_length

__all__ = [
    "Spec",
    "Tokens",
    "find",
    "load",
    "load_tokens",
    "masked_lm",
    "masking_of",
    "max_length",
    "names",
    "notices",
    "transfer_size",
]
