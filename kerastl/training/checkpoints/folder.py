"""The checkpoints of one run: the newest, and the one before it."""

import pathlib
from typing import Any

from kerastl._base import files
from kerastl._base.types import PathLike
from kerastl.training.checkpoints import file
from kerastl.training.checkpoints.file import CheckpointError

NEWEST, PREVIOUS, PARTIAL = "checkpoint.ktl", "checkpoint.previous.ktl", "checkpoint.partial"


class CheckpointFolder:
    """Keeps the two newest checkpoints of a run, so that at any instant one of them is whole.

    A checkpoint is written to a third file first, brought onto the disk, and then takes its place
    by renaming, which happens wholly or not at all.

    Args:
        path: Folder; made when the first checkpoint is saved.

    Example:
        >>> import os, tempfile
        >>> with tempfile.TemporaryDirectory() as home:
        ...     folder = CheckpointFolder(f"{home}/run")
        ...     folder.load()
        ...     folder.save({"epoch": 0})
        ...     folder.save({"epoch": 1})
        ...     folder.load(), sorted(os.listdir(folder.path))
        ({'epoch': 1}, ['checkpoint.ktl', 'checkpoint.previous.ktl'])
    """

    def __init__(self, path: PathLike) -> None:
        self.path = pathlib.Path(path)
        self.newest, self.previous = self.path / NEWEST, self.path / PREVIOUS

    def save(self, state: Any) -> None:
        """Write `state` as the newest checkpoint; the newest until now becomes the previous one."""
        self.path.mkdir(parents=True, exist_ok=True)
        partial = self.path / PARTIAL
        with files.replacing(self.newest, partial=partial, keep=self.previous):
            file.write(partial, state)

    def file_to_load(self) -> pathlib.Path | None:
        """Path of the newest checkpoint, or None.

        That is the previous one where the run was killed between two renamings.
        """
        return next((path for path in (self.newest, self.previous) if path.exists()), None)

    def load(self) -> Any:
        """The state in the newest checkpoint, or None if there is none.

        Raises:
            CheckpointError: If it is damaged or none of kerastl's. It is never passed over in
                silence: the message says whether the one before it is whole.
        """
        path = self.file_to_load()
        if path is None:
            return None
        try:
            return file.read(path)
        except CheckpointError as error:
            raise CheckpointError(f"{error} {self._remedy(path)}") from error

    def _remedy(self, damaged):
        try:
            if damaged != self.previous and self.previous.exists():
                file.read(self.previous)
                return (
                    f"The checkpoint before it, {self.previous}, is whole: delete {damaged} to go "
                    "on from there."
                )
        except CheckpointError:
            return f"{self.previous} is no better. Delete {self.path} to begin anew."
        return f"No other is there. Delete {damaged} to begin anew."
