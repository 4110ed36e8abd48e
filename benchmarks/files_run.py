"""Through how many files of kerastl one `fit` with a plan runs, and one `fine_tune`.

Counts the files of the package in which a function was called, by `sys.setprofile`, in all threads;
the modules themselves are imported before. What a reader must open to follow a call:

    python benchmarks/files_run.py [--names]
"""

import argparse
import pathlib
import sys
import tempfile
import threading

import keras
import numpy as np
from PIL import Image

import kerastl
from kerastl import FineTuner, callbacks, fine_tune, strategies

ROOT = pathlib.Path(kerastl.__file__).parent


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", action="store_true", help="Print the files, too.")
    options = parser.parse_args()
    total = len(list(ROOT.rglob("*.py")))
    for what, call in (("fit with a plan", fit_with_a_plan()), ("fine_tune", tuning())):
        files = files_run(call)
        print(f"{what}: {len(files)} of {total} files")
        if options.names:
            print("\n".join(f"  {name}" for name in sorted(files)))


def files_run(call):
    """The files of kerastl in which `call()` runs a function."""
    found = set()

    def notice(frame, event, argument):
        if event == "call":
            found.add(frame.f_code.co_filename)

    threading.setprofile(notice)
    sys.setprofile(notice)
    try:
        call()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    ours = (pathlib.Path(name) for name in found if name.startswith(str(ROOT)))
    return {str(path.relative_to(ROOT)) for path in ours}


def fit_with_a_plan():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="body")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization(name="norm")(x))
    model = FineTuner(inputs, keras.layers.Dense(3, activation="softmax", name="head")(x))
    plan = strategies.full(model.groups, epochs=3, learning_rate=1e-2)
    model.compile(keras.optimizers.AdamW(1e-2), "sparse_categorical_crossentropy")
    data = np.zeros((12, 8, 8, 3), "float32"), np.arange(12) % 3
    follow = [callbacks.FollowPlan(plan)]
    return lambda: model.fit(*data, epochs=3, batch_size=4, callbacks=follow, verbose=0)


def tuning():
    def call():
        with tempfile.TemporaryDirectory() as home:
            for name in ("a", "b"):
                pathlib.Path(home, "data", name).mkdir(parents=True)
                for i in range(10):
                    Image.new("RGB", (32, 32), (20 * i, 0, 99)).save(f"{home}/data/{name}/{i}.png")
            fine_tune(f"{home}/data", f"{home}/run", backbone="glyphnet", epochs=2, batch_size=8)

    return call


if __name__ == "__main__":
    main()
