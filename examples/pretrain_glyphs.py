"""Make the embedded default backbone: train glyphnet on rendered letters and digits.

    python examples/pretrain_glyphs.py                  # 5 to 10 minutes on two cores
    python examples/pretrain_glyphs.py --measure        # the model card's figures

No picture of real handwriting is used for training: the digits serve only `--measure`.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from keras import layers

from kerastl.backbones.glyphs import class_names, digits, glyphnet, load_glyphnet, render_glyphs

WEIGHTS = Path(__file__).parents[1] / "saved_models" / "glyphnet" / "glyphnet.weights.h5"
VALIDATION_SEED = 1_000_000  # never the first number of a training seed
LABELS_PER_CLASS = 10


def pretrain(path, *, epochs, images_per_epoch, batch_size, seed):
    """Train on fresh glyphs every epoch and write the weights to `path`."""
    keras.utils.set_random_seed(seed)
    model = glyphnet(classes=len(class_names()))
    steps = epochs * (images_per_epoch // batch_size)
    rate = keras.optimizers.schedules.CosineDecay(
        1e-4, steps - steps // 20, warmup_target=4e-3, warmup_steps=steps // 20
    )
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=0.01),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    held_out = render_glyphs(4_000, seed=VALIDATION_SEED)
    for epoch in range(epochs):
        images, labels = render_glyphs(images_per_epoch, seed=(seed, epoch))
        model.fit(
            images,
            labels,
            batch_size=batch_size,
            initial_epoch=epoch,
            epochs=epoch + 1,
            validation_data=held_out,
            verbose=2,
        )
    # A compiled model would write its optimizer's state too, twice the size of the weights.
    bare = glyphnet(classes=len(class_names()))
    bare.set_weights(model.get_weights())
    path.parent.mkdir(parents=True, exist_ok=True)
    bare.save_weights(path)
    print(f"{path.name}: {path.stat().st_size:,} bytes")


def measure(seeds):
    """Print the accuracy on fresh glyphs, and on digits from ten labels a class."""
    model = load_glyphnet(include_top=True)
    images, labels = render_glyphs(10_000, seed=VALIDATION_SEED + 1)
    right = model.predict(images, batch_size=500, verbose=0).argmax(axis=1) == labels
    print(f"glyphs, {len(class_names())} classes, 10,000 fresh: {right.mean():.4f}")
    ways = {
        "logistic regression on pixels": on_pixels,
        "same network from scratch": from_scratch,
        "logistic regression on frozen features": on_features,
    }
    for name, way in ways.items():
        scores = [way(digits(seed, labels_per_class=LABELS_PER_CLASS), seed) for seed in seeds]
        print(
            f"digits, {name}: {np.mean(scores):.4f} ± {np.std(scores):.4f}  {np.round(scores, 4)}"
        )


def on_pixels(data, _seed):
    """Accuracy of a logistic regression on the pixels alone."""
    train, train_labels, test, test_labels = data
    train, test = (images[..., 0].reshape(len(images), -1) / 255 for images in (train, test))
    return logistic_regression(train, train_labels).score(test, test_labels)


def on_features(data, _seed):
    """Accuracy of a logistic regression on the pretrained network's features."""
    train, train_labels, test, test_labels = data
    backbone = load_glyphnet()
    train, test = (backbone.predict(images, batch_size=500, verbose=0) for images in (train, test))
    return logistic_regression(train, train_labels).score(test, test_labels)


def logistic_regression(features, labels):
    """A fitted pipeline of standardization and logistic regression."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(features, labels)


def from_scratch(data, seed, *, epochs=60):
    """Accuracy of the same network trained from fresh weights on the same labels.

    It gets what helps it: random shifts of up to 8 %, a decaying rate and enough epochs to
    fit its labels perfectly.
    """
    train, train_labels, test, test_labels = data
    keras.utils.set_random_seed(seed)
    network = glyphnet(classes=10)
    shifted = layers.RandomTranslation(0.08, 0.08, fill_mode="constant")(network.input)
    model = keras.Model(network.input, network(shifted))
    rate = keras.optimizers.schedules.CosineDecay(2e-3, epochs * 7)
    model.compile(
        keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(train, train_labels, batch_size=16, epochs=epochs, verbose=0)
    return model.evaluate(test, test_labels, batch_size=500, verbose=0)[1]


def main():
    """Read the arguments, then train or measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="measure the weights, train nothing")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--images-per-epoch", type=int, default=30_000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=5, help="repetitions of --measure")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    given = parser.parse_args()
    if given.measure:
        measure(range(given.seeds))
        return
    pretrain(
        given.out,
        epochs=given.epochs,
        images_per_epoch=given.images_per_epoch,
        batch_size=given.batch_size,
        seed=given.seed,
    )


if __name__ == "__main__":
    main()
