"""The state of a training in one file: written whole or not at all, read whole or refused."""

from kerastl.training.checkpoints.file import CheckpointError, read, write
from kerastl.training.checkpoints.folder import CheckpointFolder
from kerastl.training.checkpoints.identity import check_same, identity_of
from kerastl.training.checkpoints.state import capture, capture_metrics, restore, restore_metrics

__all__ = [
    "CheckpointError",
    "CheckpointFolder",
    "capture",
    "capture_metrics",
    "check_same",
    "identity_of",
    "read",
    "restore",
    "restore_metrics",
    "write",
]
