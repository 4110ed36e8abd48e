"""The verbs, one file each: from data to a tuned, measured and exported model."""

from kerastl.recipes.compare import CompareResult, compare
from kerastl.recipes.compress import CompressResult, compress
from kerastl.recipes.demo import run_demo
from kerastl.recipes.demo_results import DemoResult
from kerastl.recipes.demo_texts import run_text_demo
from kerastl.recipes.distill import DistillResult, distill
from kerastl.recipes.evaluate import evaluate
from kerastl.recipes.export import ExportResult, export_model
from kerastl.recipes.finished import load_run
from kerastl.recipes.generate import generate
from kerastl.recipes.inspect import inspect_model
from kerastl.recipes.lr_find import find_learning_rate
from kerastl.recipes.predict import predict
from kerastl.recipes.run_folder import RunFolder, free_name
from kerastl.recipes.tune import TuneResult, fine_tune
from kerastl.tasks.settings import (
    CompareSettings,
    CompressSettings,
    DistillSettings,
    ExportSettings,
    GenerateSettings,
    LRFindSettings,
    TuneSettings,
)

__all__ = [
    "CompareResult",
    "CompareSettings",
    "CompressResult",
    "CompressSettings",
    "DemoResult",
    "DistillResult",
    "DistillSettings",
    "ExportResult",
    "ExportSettings",
    "GenerateSettings",
    "LRFindSettings",
    "RunFolder",
    "TuneResult",
    "TuneSettings",
    "compare",
    "compress",
    "distill",
    "evaluate",
    "export_model",
    "find_learning_rate",
    "fine_tune",
    "free_name",
    "generate",
    "inspect_model",
    "load_run",
    "predict",
    "run_demo",
    "run_text_demo",
]
