"""What a model was at each stage of its compression: its file, and how near it is to the model."""

import numpy as np

from kerastl import export
from kerastl.compression import sparsity
from kerastl.tune.device_file import COMPARED
from kerastl.tune.file_rows import Entry, file_rows


class Trail:
    """Collects the stages of a compression, to be measured side by side at the end.

    Args:
        images: `ImageData`; stages are compared on its `test` pictures.
        folder: Existing folder for the files of the stages.
    """

    def __init__(self, images, folder):
        self._images = images
        self._folder = folder
        self._entries, self._said = [], []

    def add_model(self, name, model, *, as_file=True):
        """A stage gave `model`: write it as a float32 file, unless that is of no use."""
        if not as_file:
            self._entries.append(Entry.of_model(name, model))
            self._said.append({"sparsity": _sparsity(model), "keras": None})
            return
        path = self._folder / f"{name}.tflite"
        export.to_litert(model, path, labels=self._images.class_names)
        self.add_file(name, path, model)

    def add_file(self, name, path, model):
        """A stage gave the file at `path`, made from `model`."""
        compared = np.asarray(self._images.test.images[:COMPARED], "float32")
        parity = export.parity(model, path, compared)
        self._entries.append(Entry.of_file(name, path))
        self._said.append(
            {
                "sparsity": _sparsity(model),
                "keras": {
                    "agreement": parity.agreement,
                    "max_abs_error": parity.max_abs_error,
                    "compared_on": parity.num_examples,
                },
            }
        )

    def rows(self):
        """List of one dict a stage: what `file_rows` measures, `sparsity` of the kernels of its
        model, and under `keras` how its file agrees with that model."""
        test = self._images.test
        rows = file_rows(self._entries, test.images, test.labels)
        return [{**row, **said} for row, said in zip(rows, self._said, strict=True)]


def _sparsity(model):
    return round(sparsity(model).sparsity, 6)
