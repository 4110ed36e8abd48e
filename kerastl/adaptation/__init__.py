"""What a network learned elsewhere, brought nearer to the data at hand."""

from kerastl.adaptation.batch_norm import adapt_batch_norm
from kerastl.adaptation.reversal import GradientReversal
from kerastl.adaptation.selection import batch_nuclear_norm, class_ami, proxy_a_distance

__all__ = [
    "GradientReversal",
    "adapt_batch_norm",
    "batch_nuclear_norm",
    "class_ami",
    "proxy_a_distance",
]
