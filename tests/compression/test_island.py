"""A program that imports kerastl and prunes still has Keras 3, and so have its children."""

import os
import subprocess
import sys
import textwrap

import pytest

from kerastl.compression import island

PROGRAM = """
    import os, subprocess, sys
    import tensorflow as tf
    import kerastl
    from kerastl.compression import island

    tfmot, tf_keras = island.tfmot(), island.tf_keras()
    assert tf_keras.__version__.startswith("2.")
    model = tf_keras.Sequential([tf_keras.layers.Dense(2, input_shape=(4,))])
    pruned = tfmot.sparsity.keras.prune_low_magnitude(model)
    assert type(pruned.layers[0]).__name__ == "PruneLowMagnitude"
    assert island.tfmot("sparsity.keras.prune_registry").layers_compat_v1.Dense is not None

    import keras
    print("variable", os.environ.get("TF_USE_LEGACY_KERAS"))
    print("tf.keras", tf.keras.__version__, tf.keras.layers.Dense is keras.layers.Dense)
    for names in (tf, tf.compat.v1, tf.compat.v2):
        print(names.__name__, names.keras.layers.Dense.__module__.split(".")[0])
    for name in ("losses", "metrics", "optimizers", "initializers"):
        print(name, getattr(tf, name).get.__module__.split(".")[0])
    child = [sys.executable, "-c", sys.argv[1]]
    print("child", subprocess.run(child, capture_output=True, text=True).stdout)
"""
CHILD = """
    import os
    import tensorflow as tf
    print(os.environ.get("TF_USE_LEGACY_KERAS"), tf.keras.__version__)
"""


def test_keras_3_is_what_it_was():
    """In a fresh process, in which nobody has used a name of `tf.keras` before TFMOT came in."""
    environment = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), textwrap.dedent(CHILD)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(" ", 1) for line in done.stdout.strip().splitlines() if line)
    assert lines.pop("variable") == "None"
    version, same = lines.pop("tf.keras").split()
    assert version.startswith("3.") and same == "True"
    unset, version = lines.pop("child").split()
    assert unset == "None" and version.startswith("3.")
    assert set(lines.values()) == {"keras"} and len(lines) == 7


@pytest.mark.parametrize("chosen", [None, "0", "1"])
def test_what_the_user_chose_stays(monkeypatch, chosen):
    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    if chosen is not None:
        monkeypatch.setenv("TF_USE_LEGACY_KERAS", chosen)
    with pytest.raises(RuntimeError), island._nothing_else_changes():
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
        raise RuntimeError
    assert os.environ.get("TF_USE_LEGACY_KERAS") == chosen


def test_missing_package_says_how_to_get_it():
    with pytest.raises(ImportError, match="pip install tensorflow-model-optimization tf-keras"):
        island.tfmot("no_such_module")
