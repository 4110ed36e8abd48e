"""From a folder of pictures to a tuned, evaluated and exported model."""

from kerastl.tune.config import TuneConfig
from kerastl.tune.export_config import ExportConfig
from kerastl.tune.export_model import ExportResult, export_model
from kerastl.tune.fine_tune import TuneResult, fine_tune
from kerastl.tune.run_folder import RunFolder, free_name

__all__ = [
    "ExportConfig",
    "ExportResult",
    "RunFolder",
    "TuneConfig",
    "TuneResult",
    "export_model",
    "fine_tune",
    "free_name",
]
