"""The notebook runs from its first cell to its last, offline: embedded network, rendered glyphs."""

import json
import os
import pathlib
import tarfile

import keras_hub
import matplotlib
import matplotlib.pyplot as plt
import pytest

from kerastl.backbones.glyphs import load_glyphnet
from tests.recipes.test_tune import write_pictures

NOTEBOOK = pathlib.Path(__file__).parents[1] / "examples" / "transfer_learning.ipynb"
WORDS = "a the film book food was cold lovely evening friendly people dull with and"


def read_cells():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def source_of(cell):
    return "".join(cell["source"])


def write_bert(folder):
    """A preset folder of a BERT classifier with two small blocks and a few words."""
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=len(WORDS.split()) + 5, num_layers=2, num_heads=2, hidden_dim=16,
        intermediate_dim=32, max_sequence_length=16,
    )  # fmt: skip
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = keras_hub.models.BertTokenizer([*special, *WORDS.split()])
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=16)
    keras_hub.models.BertTextClassifier(
        backbone, num_classes=2, preprocessor=preprocessor
    ).save_to_preset(folder)
    return str(folder)


def run_cells(overrides):
    """Run every code cell in one namespace, with `overrides` after the cell of settings."""
    names = {"__name__": "__main__"}
    for number, cell in enumerate(read_cells()):
        if source_of(cell).startswith("%"):
            continue
        exec(compile(source_of(cell), f"{NOTEBOOK.name}, code cell {number}", "exec"), names)
        if "parameters" in cell["metadata"].get("tags", ()):
            assert set(overrides) <= set(names), "an override has no variable in the notebook"
            names.update(overrides)
    return names


@pytest.fixture
def no_windows():
    backend = matplotlib.get_backend()
    plt.switch_backend("agg")
    yield
    plt.close("all")
    plt.switch_backend(backend)


def test_every_code_cell_runs_offline(tmp_path, no_windows, capsys):
    write_pictures(tmp_path / "flower_photos", classes=3, each=24)
    with tarfile.open(tmp_path / "pictures.tgz", "w:gz") as archive:
        archive.add(tmp_path / "flower_photos", "flower_photos")
    names = run_cells(
        {
            "BACKBONE": load_glyphnet(),
            "IMAGE_SIZE": 32,
            "FLOWERS": (tmp_path / "pictures.tgz").as_uri(),
            "EPOCHS": 4,
            "BATCH_SIZE": 8,
            "LEARNING_RATE": 3e-3,
            "TEXT_EPOCHS": 5,
            "TEXT_PRESET": write_bert(tmp_path / "bert"),
            "WORK": str(tmp_path / "work"),
        }
    )
    printed = capsys.readouterr().out
    assert names["pictures"].class_names == ("class_0", "class_1", "class_2")
    assert names["accuracy"] > 0.5  # a third by chance
    assert names["history"]["loss"][-1] < names["history"]["loss"][0]
    assert names["model"].groups.names == tuple(names["multipliers"])
    assert "thawed, now training" in printed
    assert names["parity"].agreement == 1.0
    assert {"tuned.keras", "tuned.tflite", "labels.txt"} <= set(os.listdir(tmp_path / "work"))
    text_model = names["text_model"]
    assert text_model.groups.names == ("embeddings", "layer_0", "layer_1", "pooler", "head")
    assert names["text_history"]["loss"][-1] < names["text_history"]["loss"][0]
    assert len(plt.get_fignums()) == 2


def test_a_folder_of_ones_own_is_taken_as_it_is(tmp_path):
    """The cell that downloads must not be needed: it runs with a place that does not exist."""
    write_pictures(tmp_path / "mine", classes=2, each=8)
    (cell,) = [cell for cell in read_cells() if "get_file" in source_of(cell)]
    names = {"DATA": tmp_path / "mine", "FLOWERS": None, "IMAGE_SIZE": 32, "SEED": 0}
    exec("import keras, pathlib\nfrom kerastl import data", names)
    exec(source_of(cell), names)
    assert len(names["pictures"].train) == 12  # 70 % and 15 % of 8 in each class, rounded


def test_no_outputs_are_stored():
    for cell in read_cells():
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
