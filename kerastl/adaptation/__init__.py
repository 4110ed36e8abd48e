"""What a network learned elsewhere, brought nearer to the data at hand."""

from kerastl.adaptation.batch_norm import adapt_batch_norm
from kerastl.adaptation.coral import Coral, align_covariance
from kerastl.adaptation.domain_adversarial import DomainAdversarial
from kerastl.adaptation.mmd import MMD
from kerastl.adaptation.reversal import GradientReversal
from kerastl.adaptation.selection import batch_nuclear_norm, class_ami, proxy_a_distance
from kerastl.adaptation.target_stream import TargetStream

__all__ = [
    "MMD",
    "Coral",
    "DomainAdversarial",
    "GradientReversal",
    "TargetStream",
    "adapt_batch_norm",
    "align_covariance",
    "batch_nuclear_norm",
    "class_ami",
    "proxy_a_distance",
]
