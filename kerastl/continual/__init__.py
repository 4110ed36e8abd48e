"""Training on without forgetting: terms that hold what was learnt, and what is left of it."""

from kerastl.continual.elastic_weight_consolidation import ElasticWeightConsolidation
from kerastl.continual.forgetting_report import ForgettingReport, forgetting_report
from kerastl.continual.l2_sp import L2SP
from kerastl.continual.learning_without_forgetting import LearningWithoutForgetting
from kerastl.continual.memory_aware_synapses import MemoryAwareSynapses
from kerastl.continual.synaptic_intelligence import SynapticIntelligence

__all__ = [
    "L2SP",
    "ElasticWeightConsolidation",
    "ForgettingReport",
    "LearningWithoutForgetting",
    "MemoryAwareSynapses",
    "SynapticIntelligence",
    "forgetting_report",
]
