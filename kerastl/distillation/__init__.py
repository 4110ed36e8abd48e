"""Learning from what another model answers, from its features, and from where it looks."""

from kerastl.distillation.attention import DistillAttention
from kerastl.distillation.distill import Distill
from kerastl.distillation.features import DistillFeatures

__all__ = ["Distill", "DistillAttention", "DistillFeatures"]
