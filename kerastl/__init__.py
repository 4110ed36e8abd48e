"""kerastl: exact, fast and visible transfer learning for Keras 3 on TensorFlow.

The whole public API is on this page. Importing it also tells Keras of the classes that a `.keras`
file may name.
"""

from kerastl import (
    adaptation,
    backbones,
    callbacks,
    compression,
    continual,
    data,
    distillation,
    export,
    peft,
    plans,
    schedules,
    tasks,
)
from kerastl._version import __version__
from kerastl.callbacks import lr_find
from kerastl.freezing import freeze, freeze_batch_norm, freeze_to, trainable_summary, unfreeze
from kerastl.graph import LayerGroups, flatten, layer_groups, select_layers
from kerastl.optimizers import LRMultiplier, discriminative_rates, layer_decay, no_decay
from kerastl.plans import Phase, TransferPlan, recommend, strategies
from kerastl.recipes import (
    compare,
    compress,
    distill,
    evaluate,
    export_model,
    find_learning_rate,
    fine_tune,
    generate,
    inspect_model,
    load_run,
    predict,
    run_demo,
    run_text_demo,
)
from kerastl.schedules import OneCycle, SlantedTriangular
from kerastl.training import FineTuner

__all__ = [
    "FineTuner",
    "LRMultiplier",
    "LayerGroups",
    "OneCycle",
    "Phase",
    "SlantedTriangular",
    "TransferPlan",
    "__version__",
    "adaptation",
    "backbones",
    "callbacks",
    "compare",
    "compress",
    "compression",
    "continual",
    "data",
    "discriminative_rates",
    "distill",
    "distillation",
    "evaluate",
    "export",
    "export_model",
    "find_learning_rate",
    "fine_tune",
    "flatten",
    "freeze",
    "freeze_batch_norm",
    "freeze_to",
    "generate",
    "inspect_model",
    "layer_decay",
    "layer_groups",
    "load_run",
    "lr_find",
    "no_decay",
    "peft",
    "plans",
    "predict",
    "recommend",
    "run_demo",
    "run_text_demo",
    "schedules",
    "select_layers",
    "strategies",
    "tasks",
    "trainable_summary",
    "unfreeze",
]
