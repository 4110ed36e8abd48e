"""`ImageFolder`: a folder of class folders as a source of examples."""

import pathlib

from kerastl._base.types import PathLike
from kerastl.data import scan_images
from kerastl.tasks.classification import Classification
from kerastl.tasks.pictures import Pictures


class ImageFolder(Pictures):
    """A folder of class folders, or one with `train/` and `val/` or `test/` in it."""

    name = "image_folder"
    objective = Classification()

    @classmethod
    def scan(cls, path: PathLike, *, least: int = 2) -> "ImageFolder | None":
        """The source at `path`, or None if that is no folder and not for this source to refuse."""
        path = pathlib.Path(path)
        if path.exists() and not path.is_dir():
            return None
        return cls(scan_images(path, least=least))

    def named(self, split: str) -> str:
        return str(self.path) if split == "all" else str(self.path / split)
