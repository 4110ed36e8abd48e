"""A small student learns from a large teacher, mostly on pictures that nobody labelled.

The teacher is the embedded network of letters and digits, which knows them from its pretraining;
the student is a fortieth of its size and knows nothing. Both see the same 80 labelled pictures of
ten letters and digits. The student does so alone, and then with what the teacher says of these and
of 700 others without labels.

    python examples/distill_glyphs.py

Nothing is downloaded. The figures are those of one seed.
"""

import os
import pathlib
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from PIL import Image

import kerastl
from kerastl.backbones.glyphs import render_glyphs

CLASSES, LABELLED, HELD_OUT, UNLABELLED = 10, 8, 30, 700  # the first three of each class


def write(folder, pixels, number):
    """Write one picture."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(pixels).astype("uint8").squeeze())
    picture.convert("RGB").save(folder / f"{number:04}.png")


def write_pictures(home):
    """`data/train` and `data/test` of class folders, and `more` without labels."""
    pictures, labels = render_glyphs(6000, seed=1)
    more = []
    for label in range(CLASSES):
        rows = np.flatnonzero(labels == label)
        test, train, rest = np.split(rows, [HELD_OUT, HELD_OUT + LABELLED])
        for part, chosen in (("test", test), ("train", train)):
            for row in chosen:
                write(home / "data" / part / f"class_{label}", pictures[row], row)
        more.extend(rest)
    for row in np.sort(more)[:UNLABELLED]:
        write(home / "more", pictures[row], row)


def write_student(path):
    """A small network of random weights, up to its features."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(x)
    for filters in (8, 16, 24):
        x = keras.layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
    keras.Model(inputs, keras.layers.GlobalMaxPooling2D()(x), name="student").save(path)


def main():
    """Print what each way gives on pictures held out."""
    with tempfile.TemporaryDirectory() as folder:
        home = pathlib.Path(folder)
        write_pictures(home)
        write_student(home / "student.keras")
        plain = {"augment": "none", "export": "none"}
        data, student = home / "data", str(home / "student.keras")
        teacher = kerastl.fine_tune(
            data, home / "teacher", backbone="glyphnet", strategy="probe", **plain
        )
        trained = {**plain, "start": "zero", "epochs": 30, "strategy": "full"}
        alone = kerastl.fine_tune(data, home / "alone", backbone=student, keep="last", **trained)
        taught = kerastl.distill(
            home / "teacher", data, home / "taught", student=student,
            unlabelled=str(home / "more"), **trained,
        )  # fmt: skip
        probe = alone.metrics["probe"]["score"]
        for name, score in (
            ("the teacher", teacher.metrics["score"]),
            ("the student's probe", probe),
            ("the student, from labels alone", alone.metrics["score"]),
            (f"the student, taught on {UNLABELLED} more", taught.metrics["score"]),
        ):
            print(f"{name:35} {100 * score:5.1f} % of {taught.metrics['num_examples']}")


if __name__ == "__main__":
    main()
