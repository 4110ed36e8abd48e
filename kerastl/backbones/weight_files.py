"""What is in a weights file, in the three formats Keras has written."""

import contextlib
import os
import zipfile

import h5py
import numpy as np

# Random-number states are saved beside the weights; a dropout more or less is no other network.
_SEEDS = "seed_generator"


def check_path(path):
    """Return `path` as a string if there is such a file, else raise FileNotFoundError."""
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"`weights` must be 'imagenet', None or a file that exists. Received: {path!r}, "
            f"which {'is a folder' if os.path.isdir(path) else 'does not exist'}."
        )
    return path


@contextlib.contextmanager
def opened(path):
    """The HDF5 file inside `path` (`.h5`, `.weights.h5` or the weights of a `.keras`).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a weights file of Keras, or is cut short.
    """
    path = check_path(path)
    with contextlib.ExitStack() as stack:
        try:
            source = path
            if path.endswith(".keras"):
                archive = stack.enter_context(zipfile.ZipFile(path))
                source = stack.enter_context(archive.open("model.weights.h5"))
            file = stack.enter_context(h5py.File(source, "r"))
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{path} is not a readable Keras weights file ({error}). "
                "Fetch it again if a download was cut short; `.weights.h5`, `.h5` and `.keras` "
                "files are understood."
            ) from error
        yield file


def legacy_root(file):
    """The group that holds the layers of the Keras 2 format, or None for the Keras 3 format."""
    for group in (file, file.get("model_weights")):
        if group is not None and _attribute(group, "layer_names"):
            return group
    return None


def arrays(file):
    """Dict from path to dataset, in a Keras 3 file, without the random states."""
    found = {}

    def visit(path, item):
        if isinstance(item, h5py.Dataset) and _SEEDS not in path:
            found[path] = item

    file.visititems(visit)
    return found


def legacy_layers(root):
    """List of `(layer name, [arrays])` in the order saved, for layers that have weights."""
    layers = []
    for name in _attribute(root, "layer_names"):
        values = [np.asarray(root[name][w]) for w in _attribute(root[name], "weight_names")]
        if values:
            layers.append((name, values))
    return layers


def _attribute(group, name):
    """A list of names; HDF5 attributes over 64 KB are cut into `name0`, `name1`, ..."""
    values = list(group.attrs.get(name, ()))
    count = 0
    while f"{name}{count}" in group.attrs:
        values.extend(group.attrs[f"{name}{count}"])
        count += 1
    return [v.decode("utf8") if isinstance(v, bytes) else v for v in values]
