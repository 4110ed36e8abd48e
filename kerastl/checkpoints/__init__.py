"""The state of a training in one file: written whole or not at all, read whole or refused."""

from kerastl.checkpoints.errors import CheckpointError
from kerastl.checkpoints.file import read, write
from kerastl.checkpoints.folder import CheckpointFolder
from kerastl.checkpoints.identity import check_same, identity_of
from kerastl.checkpoints.state import capture, capture_metrics, restore, restore_metrics

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
