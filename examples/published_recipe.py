"""The published fine-tuning recipe and FineTuner, side by side: which statistics moved?

The recipe of many tutorials: a nested backbone, called with `training=False` "so that batch
normalization runs in inference mode", trained frozen, then `base.trainable = True`, compile again
at a low rate, `fit`. In Keras 3 the container overwrites that `training=False`.

    python examples/published_recipe.py [WEIGHTS.h5]

Pictures are noise and, unless a weights file for MobileNetV2 (96 px, no top) is given, so are the
weights: what is counted here is which variables move, and that does not depend on them.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from kerastl.freezing import freeze_to, unfreeze
from kerastl.training import FineTuner

SIZE, CLASSES = 96, 3


def pretrained(weights):
    """MobileNetV2 without its classifier."""
    return keras.applications.MobileNetV2(
        include_top=False, weights=weights, input_shape=(SIZE, SIZE, 3), pooling="avg"
    )


def statistics(model):
    """Moving mean and variance of each batch normalization of a network, by layer."""
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    return {n.name: (n.moving_mean.numpy(), n.moving_variance.numpy()) for n in norms}


def count_moved(before, after):
    """Number of layers in which a statistic is no longer what it was, bit for bit."""
    same = [all(map(np.array_equal, before[name], after[name])) for name in before]
    return len(same) - sum(same)


def published_recipe(base, x, y):
    """As in the tutorials."""
    base.trainable = False
    inputs = keras.Input((SIZE, SIZE, 3))
    features = base(inputs, training=False)
    model = keras.Model(inputs, keras.layers.Dense(CLASSES, activation="softmax")(features))
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=8, verbose=0)
    base.trainable = True
    model.compile(keras.optimizers.Adam(1e-5), "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=8, verbose=0)


def with_fine_tuner(base, x, y):
    """The same two phases with kerastl: one compile, thawing in between."""
    head = keras.layers.Dense(CLASSES, activation="softmax", name="head")
    model = FineTuner(base.input, head(base.output))
    freeze_to(model, -1)
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=8, verbose=0)
    print("   ", unfreeze(model, list(model.groups.names)))
    model.optimizer.learning_rate = 1e-5
    model.fit(x, y, batch_size=8, verbose=0)


def main(weights=None):
    """Run both and print how many of the backbone's batch normalizations moved."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (16, SIZE, SIZE, 3)).astype("float32")
    y = rng.integers(0, CLASSES, 16)
    moved = {}
    for name, recipe in (("published recipe", published_recipe), ("FineTuner", with_fine_tuner)):
        base = pretrained(weights)
        before = statistics(base)
        recipe(base, x, y)
        moved[name] = count_moved(before, statistics(base))
        print(f"{name}: statistics moved in {moved[name]} of {len(before)} batch normalizations")
    return moved


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2])["FineTuner"] > 0)
