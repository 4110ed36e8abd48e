"""The finished stages of a compression, kept until all of it is done."""

import json
import os
import shutil

import keras

from kerastl.fine_tuner import FineTuner


class Kept:
    """Keeps what each stage gave, so that a compression that is stopped goes on after it.

    Args:
        folder: `pathlib.Path` of an existing folder that a later process finds again.
    """

    def __init__(self, folder):
        self._folder = folder

    def checkpoints(self, name):
        """Folder for the checkpoints of the stage `name` while it trains."""
        return self._folder / f"{name}.checkpoints"

    def load(self, name):
        """`(model, history)` as the stage `name` gave them, or None if it was not done."""
        model, history = self._files(name)
        if not model.is_file():
            return None
        said = json.loads(history.read_text(encoding="utf-8"))
        return keras.saving.load_model(model, compile=False), said

    def save(self, name, model, history):
        """Keep what the stage `name` gave; its checkpoints are of no use any more."""
        path, said = self._files(name)
        said.write_text(json.dumps(history), encoding="utf-8")
        new = self._folder / f"new-{path.name}"
        FineTuner.from_model(model).save(new)  # without the state of its optimizer
        os.replace(new, path)  # last: with it the stage is done
        shutil.rmtree(self.checkpoints(name), ignore_errors=True)

    def _files(self, name):
        return self._folder / f"{name}.keras", self._folder / f"{name}.json"
