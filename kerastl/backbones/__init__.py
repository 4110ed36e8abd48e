"""Pretrained networks by name: pixels in, pooled features out."""

from kerastl.backbones.loading import load
from kerastl.backbones.specs import Spec, find, names, transfer_size

__all__ = ["Spec", "find", "load", "names", "transfer_size"]
