"""The verbs: from data to a tuned, measured and exported model."""

from kerastl.recipes.compare import CompareResult, compare
from kerastl.recipes.compress import CompressResult, compress
from kerastl.recipes.demo import DemoResult, run_demo
from kerastl.recipes.export import ExportResult, export_model
from kerastl.recipes.run_folder import RunFolder, free_name
from kerastl.recipes.settings import CompressConfig, ExportConfig, TuneConfig
from kerastl.recipes.tune import TuneResult, fine_tune

__all__ = [
    "CompareResult",
    "CompressConfig",
    "CompressResult",
    "DemoResult",
    "ExportConfig",
    "ExportResult",
    "RunFolder",
    "TuneConfig",
    "TuneResult",
    "compare",
    "compress",
    "export_model",
    "fine_tune",
    "free_name",
    "run_demo",
]
