"""Smaller models. TFMOT and tf_keras live only here, behind one door (`island`)."""

from kerastl.compression.channels.prune_channels import prune_channels
from kerastl.compression.magnitude_pruning import MagnitudePruning
from kerastl.compression.prune_weights import prune_weights
from kerastl.compression.pruned import hold_zeros, sparsity, strip
from kerastl.compression.quantize.quantize_aware import quantize_aware, restore
from kerastl.compression.quantize.report import quantization_report
from kerastl.compression.sparsity import constant_sparsity, polynomial_decay
from kerastl.compression.twin.twin import Twin, twin

__all__ = [
    "MagnitudePruning",
    "Twin",
    "constant_sparsity",
    "hold_zeros",
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
