"""From a folder of pictures to a tuned, evaluated and exported model."""

from kerastl.tune.config import TuneConfig
from kerastl.tune.fine_tune import TuneResult, fine_tune
from kerastl.tune.run_folder import RunFolder, free_name

__all__ = ["RunFolder", "TuneConfig", "TuneResult", "fine_tune", "free_name"]
