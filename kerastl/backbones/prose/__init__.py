"""The embedded default for texts: a small encoder pretrained on prose, and sentences to try it."""

from kerastl.backbones.prose.network import load_prosenet, prose_tokenizer, prosenet
from kerastl.backbones.prose.sentences import authors, held_out_sentences, sentences

__all__ = [
    "authors",
    "held_out_sentences",
    "load_prosenet",
    "prose_tokenizer",
    "prosenet",
    "sentences",
]
