"""Frozen layers computed once: where they end, their features, and training on those."""

from kerastl.frozen_features.cached import FeatureCache
from kerastl.frozen_features.decide import Decision
from kerastl.frozen_features.frontier import Frontier, find_frontier
from kerastl.frozen_features.part import Features

__all__ = ["Decision", "FeatureCache", "Features", "Frontier", "find_frontier"]
