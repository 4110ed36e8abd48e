"""Data of each objective, small and made up."""

import numpy as np

from kerastl.tasks import PictureExamples, PreparePictures, TaskData, objective_named


def task_data(name, count=24):
    """`TaskData` of the objective `name` with `count` pictures of noise to train on."""
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (count, 8, 8, 3)).astype("uint8")
    targets = {
        "classification": rng.integers(0, 3, count),
        "multi_label": rng.integers(0, 2, (count, 3)).astype("float32"),
        "regression": rng.normal(5000, 300, (count, 1)).astype("float32"),
    }[name]
    names = ("value",) if name == "regression" else ("a", "b", "c")
    one_hot = 3 if name == "classification" else None
    train, none = (
        PictureExamples(images, targets, one_hot),
        PictureExamples(images[:0], targets[:0]),
    )
    return TaskData(train, none, train, names, PreparePictures((8, 8)), objective_named(name))
