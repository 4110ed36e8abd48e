"""Pictures named one by one, for prediction: here an unreadable file is an error."""

from pathlib import Path

import numpy as np

from kerastl._checks import closest, one_of
from kerastl.data.decode import RESIZES, ImageError, as_size
from kerastl.data.reading import read_images
from kerastl.data.scan import walk_images


def find_images(paths):
    """The picture files that `paths` stand for: files as given, folders searched through.

    Args:
        paths: One path or an iterable of paths of files and folders.

    Returns:
        List of paths; the files of a folder come sorted.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If a folder holds no pictures.

    Example:
        >>> find_images("no/such/file.jpg")
        Traceback (most recent call last):
        FileNotFoundError: There is no file or folder no/such/file.jpg.
    """
    paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
    if not paths:
        raise ValueError("`paths` must name at least one picture. Received: paths=[]")
    files = []
    for path in map(Path, paths):
        files += _in_folder(path) if path.is_dir() else [_existing(path)]
    return files


def load_image_paths(paths, *, image_size, resize="stretch", progress=None):
    """Read pictures for prediction, exactly as `load_image_folder` reads them for training.

    Args:
        paths: One path or an iterable of paths of files and folders.
        image_size: `(height, width)`, or one int for a square.
        resize: `"stretch"`, `"crop"` or `"pad"`; see `load_image`.
        progress: Called as `progress(done, total)`.

    Returns:
        `(images, files)`: a uint8 array of shape `(n, height, width, 3)` and the list of paths.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If a folder holds no pictures or a file is not a readable image.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (9, 9), "red").save(f"{folder}/a.png")
        ...     images, files = load_image_paths(folder, image_size=(4, 6))
        >>> images.shape, files[0].name
        ((1, 4, 6, 3), 'a.png')
    """
    one_of(resize, RESIZES, "resize")
    files = find_images(paths)
    images = np.zeros((len(files), *as_size(image_size), 3), np.uint8)
    records = read_images(files, images, resize=resize, progress=progress)
    for file, record in zip(files, records, strict=True):
        if record["reason"]:
            raise ImageError(record["reason"], file)
    return images, files


def _in_folder(folder):
    files = walk_images(folder, [])
    if not files:
        raise ValueError(f"{folder} holds no pictures. Name picture files or a folder of them.")
    return files


def _existing(path):
    if path.exists():
        return path
    beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = f" Closest: {closest(path.name, beside, 2)}." if beside else ""
    raise FileNotFoundError(f"There is no file or folder {path}.{near}")
