"""A small run to compress and export: quick to trace, and it knows what it was trained on."""

import keras
import numpy as np

from kerastl.data import load_image_folder
from kerastl.recipes.finished import load_run, read_for
from kerastl.tasks import Classification, PreparePictures, TrainedFor, find_source
from kerastl.tasks.settings import ReadSettings
from tests.recipes.test_tune import write_pictures

FAST = {"epochs": 2, "batch_size": 8, "augment": "none"}
L = keras.layers


def network(classes=3):
    """Three convolutions on pixels 0 to 255; the first has under a hundredth of the weights."""
    inputs = keras.Input((32, 32, 3), name="pixels")
    x = L.Rescaling(1 / 127.5, -1.0, name="rescale")(inputs)
    for name, filters in (("low", 6), ("middle", 32), ("high", 64)):
        x = L.Conv2D(filters, 3, strides=2, padding="same", use_bias=False, name=name)(x)
        x = L.ReLU(name=f"{name}_relu")(L.BatchNormalization(name=f"{name}_norm")(x))
    x = L.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, L.Dense(classes, activation="softmax", name="predictions")(x))


def write_run(home):
    """`(pictures, run folder)` under `home`, of three classes, as `tune` would leave them."""
    keras.utils.set_random_seed(0)
    data, run = write_pictures(home / "data", classes=3, each=20), home / "run"
    images = load_image_folder(data, image_size=32, seed=3, val_share=0)
    model = network()
    for norm in (x for x in model.layers if isinstance(x, L.BatchNormalization)):
        norm.momentum = 0.8
    model.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy")
    model.fit(np.asarray(images.train.images, "float32"), images.train.labels, epochs=12, verbose=0)
    run.mkdir()
    model.save(run / "model.keras")
    (run / "labels.txt").write_text("".join(f"{name}\n" for name in images.class_names))
    known = TrainedFor(Classification(), PreparePictures((32, 32)), images.class_names, seed=3)
    (run / "task.json").write_text(known.to_json())
    return data, run


def read(run, data):
    """`TaskData` of `data` for the run."""
    return read_for(load_run(run), find_source(data), ReadSettings())
