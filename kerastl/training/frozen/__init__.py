"""Frozen layers computed once: where they end, their features, and training on those."""

from kerastl.training.frozen.cache import Decision, FeatureCache
from kerastl.training.frozen.frontier import Frontier, find_frontier
from kerastl.training.frozen.part import Features

__all__ = ["Decision", "FeatureCache", "Features", "Frontier", "find_frontier"]
