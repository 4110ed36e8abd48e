"""At which size a pretrained network sees pictures best: what `backbones.transfer_size` rests on.

Cross-validation on the training pictures of a folder, which leaves test pictures alone. For each
size a logistic regression on the frozen features, standardized: the mean over several divisions
into folds, at the best of four strengths. With `--tuned` also networks that `kerastl tune
--strategy full --keep last` would make, on one division.

    python benchmarks/picture_sizes.py FLOWERS --backbone mobilenet --alpha 0.25 [--weights PATH]
"""

import argparse
import dataclasses
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")

import keras
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kerastl.recipes import TuneSettings, training
from kerastl.tasks import PictureExamples, find_source

FOLDS = 5
STRENGTHS = (0.003, 0.01, 0.03, 0.1)  # of scikit-learn's C


def main():
    options = arguments()
    for size in options.sizes:
        config = TuneSettings(
            backbone=options.backbone,
            alpha=options.alpha,
            weights=options.weights,
            image_size=size,
            epochs=options.epochs,
            seed=options.seed,
            strategy="full",
            keep="last",
        )
        source = find_source(options.data)
        config = source.settled(config)
        backbone = source.load_backbone(config)
        data = source.read(source.prepare_for(backbone, config), config, seed=config.seed)
        text = f"{size:4d} px  frozen {shown(*frozen(backbone, data.train, options.divisions))}"
        if options.tuned:
            text += f"  tuned {shown(*tuned(source, data, config))}"
        print(text, flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="folder of pictures")
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--alpha", type=float)
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--sizes", type=int, nargs="+", default=[192, 224, 256, 288, 320])
    parser.add_argument("--divisions", type=int, default=4, help="into folds, for frozen features")
    parser.add_argument("--tuned", action="store_true", help="tune on each fold, too")
    parser.add_argument("--epochs", type=int, default=TuneSettings.epochs, help="of tuning")
    parser.add_argument("--seed", type=int, default=0, help="of tuning and its folds")
    return parser.parse_args()


def frozen(backbone, split, divisions):
    """Accuracy and cross-entropy of a logistic regression on what `backbone` gives."""
    features = backbone.predict(split.inputs(), verbose=0)
    scores = []
    for strength in STRENGTHS:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
        given = [
            cross_val_predict(model, features, split.targets, cv=folds(d), method="predict_proba")
            for d in range(divisions)
        ]
        scores.append(np.mean([score(p, split.targets) for p in given], axis=0))
    return min(scores, key=lambda pair: pair[1])


def tuned(source, data, config):
    """Accuracy and cross-entropy of networks tuned without the fold that they are asked about."""
    images, labels, count = data.train.inputs(), data.train.targets, len(data.outputs)
    probabilities = np.zeros((len(labels), count), "float32")
    for kept, held in folds(config.seed).split(images, labels):
        keras.utils.set_random_seed(config.seed)
        part = PictureExamples(images[kept].astype("uint8"), labels[kept], count)
        without = dataclasses.replace(data, train=part)
        model = training.build(
            source.load_backbone(config), without, dropout=config.dropout, name="tuned"
        )
        training.adapt(model, without, config)
        training.solve(model, without, config)
        training.train(model, without, config, training.plan_for(model, without, config))
        probabilities[held] = model.predict(images[held], verbose=0)
    return score(probabilities, labels)


def folds(seed):
    return StratifiedKFold(FOLDS, shuffle=True, random_state=seed)


def score(probabilities, labels):
    """The share that is right, and the mean negative logarithm of what the truth was given."""
    of_truth = probabilities[np.arange(len(labels)), labels]
    return np.mean(probabilities.argmax(1) == labels), -np.mean(np.log(of_truth))


def shown(accuracy, cross_entropy):
    return f"{accuracy:.3f} right, cross-entropy {cross_entropy:.3f}"


if __name__ == "__main__":
    main()
