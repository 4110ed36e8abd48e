"""The finished stages of a compression, kept until all of it is done."""

import json
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import keras

from kerastl._base import files
from kerastl._base.types import PathLike
from kerastl.compression import sparsity
from kerastl.recipes.device_files import Deployed, Entry, file_rows
from kerastl.tasks.protocols import TaskData
from kerastl.training import FineTuner


class StageStore:
    """Keeps what each stage gave, so that a compression that is stopped goes on after it.

    Args:
        folder: `pathlib.Path` of an existing folder that a later process finds again.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder

    def checkpoints(self, name: str) -> pathlib.Path:
        """Folder for the checkpoints of the stage `name` while it trains."""
        return self._folder / f"{name}.checkpoints"

    def load(self, name: str) -> tuple[keras.Model, dict[str, Any]] | None:
        """`(model, history)` as the stage `name` gave them, or None if it was not done."""
        model, history = self._files(name)
        if not model.is_file():
            return None
        said = json.loads(history.read_text(encoding="utf-8"))
        loaded: Any = keras.saving.load_model(model, compile=False)
        return loaded, said

    def save(self, name: str, model: keras.Model, history: Mapping[str, Any]) -> None:
        """Keep what the stage `name` gave; its checkpoints are of no use any more."""
        path, said = self._files(name)
        files.write(said, json.dumps(history))
        with files.replacing(path) as new:  # last: with it the stage is done
            FineTuner.from_model(model).save(new)  # without the state of its optimizer
        shutil.rmtree(self.checkpoints(name), ignore_errors=True)

    def _files(self, name):
        return self._folder / f"{name}.keras", self._folder / f"{name}.json"


class StageMeasurements:
    """Collects the stages of a compression, to be measured side by side at the end.

    Args:
        data: `TaskData`; stages are compared on its `test` examples.
        folder: Existing folder for the files of the stages.
    """

    def __init__(self, data: TaskData, folder: pathlib.Path) -> None:
        self._data = self._taken = data
        self._folder = folder
        self._entries, self._said = [], []

    def add_model(self, name: str, model: keras.Model, *, as_file: bool = True) -> None:
        """A stage gave `model`: write it as a float32 file, unless that is of no use."""
        if not as_file:
            self._entries.append(Entry.of_model(name, model))
            self._said.append({"sparsity": _sparsity(model), "keras": None})
            return
        path = self._folder / f"{name}.tflite"
        deployed = Deployed.of(model, self._data)
        deployed.write(path)
        self.add_file(name, path, model, deployed)

    def add_file(
        self, name: str, path: PathLike, model: keras.Model, deployed: Deployed | None = None
    ) -> None:
        """A stage gave the file at `path`, made from `model`; see `Deployed`."""
        deployed = deployed or Deployed.of(model, self._data)
        parity = deployed.compared(path)
        self._taken = deployed.data
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

    def rows(self) -> list[dict[str, Any]]:
        """List of one dict a stage: what `file_rows` measures, `sparsity` of the kernels of its
        model, and under `keras` how its file agrees with that model."""
        rows = file_rows(self._entries, self._taken.test, self._data.objective)
        return [{**row, **said} for row, said in zip(rows, self._said, strict=True)]


def _sparsity(model):
    return round(sparsity(model).sparsity, 6)
