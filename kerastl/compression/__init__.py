"""Smaller models. TFMOT and tf_keras live only here, behind one door (`island`)."""

from kerastl.compression.magnitude_pruning import MagnitudePruning
from kerastl.compression.post_training import prune_weights
from kerastl.compression.pruned import sparsity, strip
from kerastl.compression.quantize import quantization_report, quantize_aware, restore
from kerastl.compression.sparsity_schedules import constant_sparsity, polynomial_decay
from kerastl.compression.structured import prune_channels
from kerastl.compression.twin import Twin, twin

__all__ = [
    "MagnitudePruning",
    "Twin",
    "constant_sparsity",
    "polynomial_decay",
    "prune_channels",
    "prune_weights",
    "quantization_report",
    "quantize_aware",
    "restore",
    "sparsity",
    "strip",
    "twin",
]
