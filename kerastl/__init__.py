"""kerastl: exact, fast and visible transfer learning for Keras 3 on TensorFlow.

The whole public API is on this page. Names are loaded when first used. The command line alone
starts without TensorFlow, so that it answers `--help` at once; `import kerastl` in a program loads
what Keras must know to open a saved model.
"""

import importlib
import pathlib
import sys
import types

from kerastl._version import __version__

_EXPORTS = {
    # layer groups: what `where` selects from
    "LayerGroups": "kerastl.groups",
    "flatten": "kerastl.groups",
    "layer_groups": "kerastl.groups",
    "select_layers": "kerastl.groups",
    # freezing
    "freeze": "kerastl.freezing",
    "freeze_batch_norm": "kerastl.freezing",
    "freeze_to": "kerastl.freezing",
    "unfreeze": "kerastl.freezing",
    "trainable_summary": "kerastl.summary",
    # rates
    "LRMultiplier": "kerastl.optimizers",
    "OneCycle": "kerastl.schedules",
    "SlantedTriangular": "kerastl.schedules",
    "discriminative_rates": "kerastl.optimizers",
    "layer_decay": "kerastl.optimizers",
    "no_decay": "kerastl.optimizers",
    # plans
    "Phase": "kerastl.plan",
    "TransferPlan": "kerastl.plan",
    "recommend": "kerastl.strategies",
    # training
    "FineTuner": "kerastl.fine_tuner",
    "compare": "kerastl.compare",
    "compress": "kerastl.compress",
    "fine_tune": "kerastl.tune",
    "lr_find": "kerastl.callbacks",
}
_MODULES = (
    "adaptation",
    "backbones",
    "callbacks",
    "compression",
    "data",
    "export",
    "glyphs",
    "plan",
    "schedules",
    "strategies",
)

__all__ = ["__version__", *_EXPORTS, *_MODULES]
_SAVED_CLASSES = ("backbones", "callbacks", "compression", "fine_tuner", "optimizers")


def __getattr__(name):
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"kerastl.{name}")
    raise AttributeError(f"module 'kerastl' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)


class _Page(types.ModuleType):
    """A package that keeps its public names when a package below it has the same one.

    Importing `kerastl.compare` would put that package in the place of the function `compare`.
    """

    def __setattr__(self, name, value):
        if name not in _EXPORTS or not isinstance(value, types.ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Page


def register():
    """Import every module with classes that a `.keras` file may name."""
    for name in _SAVED_CLASSES:
        importlib.import_module(f"kerastl.{name}")


if pathlib.Path(sys.argv[0] if sys.argv else "").stem != "kerastl":
    register()
