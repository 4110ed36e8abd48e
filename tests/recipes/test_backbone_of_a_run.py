"""The model of a run as the backbone of the next, by its folder or its file."""

import keras
import pytest

from kerastl import fine_tune, inspect_model
from tests.recipes.test_tune import write_pictures

FAST = {"strategy": "probe", "augment": "none", "export": "none"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    home = tmp_path_factory.mktemp("first")
    data = write_pictures(home / "data", classes=2, each=6)
    fine_tune(data, home / "run", backbone="glyphnet", **FAST)
    return data, home / "run"


@pytest.mark.parametrize("name", ["", "model.keras"])
def test_a_run_lends_its_features_without_its_head(run, name, tmp_path):
    data, folder = run
    path = folder / name if name else folder
    result = fine_tune(data, tmp_path / "second", backbone=str(path), **FAST)
    first = keras.models.load_model(folder / "model.keras")
    assert [layer.name for layer in result.model.layers] == [layer.name for layer in first.layers]
    assert inspect_model(folder)["groups"][-1]["group"] == "head"
