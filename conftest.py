"""What docstring examples of the verbs may speak of: a few pictures, a run, a place to write."""

import pathlib

import numpy as np
import pytest


@pytest.fixture(scope="session")
def _example_pictures(tmp_path_factory):
    """A folder of 40 pictures, dark and light ones."""
    from PIL import Image

    root, rng = tmp_path_factory.mktemp("examples") / "pictures", np.random.default_rng(0)
    for name, grey in (("dark", 40), ("light", 200)):
        (root / name).mkdir(parents=True)
        for i in range(20):
            pixels = np.clip(rng.normal(grey, 15, (40, 40, 3)), 0, 255).astype("uint8")
            Image.fromarray(pixels).save(root / name / f"{i:02}.png")
    return root


@pytest.fixture(scope="session")
def _example_run(_example_pictures, tmp_path_factory):
    """The run folder of a network tuned on them."""
    from kerastl import fine_tune

    out = tmp_path_factory.mktemp("runs") / "pictures-glyphnet"
    options = {"backbone": "glyphnet", "strategy": "probe", "augment": "none"}
    return fine_tune(_example_pictures, out, export="none", **options).folder


@pytest.fixture(autouse=True)
def _names_of_examples(request, doctest_namespace):
    """`pictures`, `run` and `home` in the docstring examples of recipes."""
    if "recipes" in pathlib.Path(request.node.path).parts and not _is_test(request.node):
        doctest_namespace["pictures"] = request.getfixturevalue("_example_pictures")
        doctest_namespace["run"] = request.getfixturevalue("_example_run")
        doctest_namespace["home"] = request.getfixturevalue("tmp_path")


def _is_test(node):
    return "tests" in pathlib.Path(node.path).parts
