"""Smaller models. TFMOT and tf_keras live only here, behind one door (`island`)."""

from kerastl.compression.twin import Twin, twin

__all__ = ["Twin", "twin"]
