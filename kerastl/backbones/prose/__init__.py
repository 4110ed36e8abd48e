"""The embedded default for texts: a small encoder pretrained on prose, and sentences to try it."""

from kerastl.backbones.prose.network import load_prosenet, prose_tokenizer, prosenet

__all__ = ["load_prosenet", "prose_tokenizer", "prosenet"]
