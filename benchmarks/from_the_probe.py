"""What keeps pretrained features while they train: what the defaults of `tune` rest on.

Cross-validation on training examples alone. On each fold the head is solved on the other four
(`training.solve_head`); from there, or from zero, the network trains by each of several ways; then
the held-back fold is answered by the probe, by the trained weights, and by weights between the two
(WiSE-FT). One line a way: accuracy and cross-entropy at 0 (the probe), 1/4, 1/2, 3/4 and 1 (what
training ended with), pictures gained and lost at 1, seconds.

    python benchmarks/from_the_probe.py digits --weights MOBILENET.h5 [--ways "full; partial"]
    python benchmarks/from_the_probe.py pneumonia --pneumonia NPZ --weights MOBILENET.h5
    python benchmarks/from_the_probe.py flowers --flowers FLOWERS --weights MOBILENET.h5
    python benchmarks/from_the_probe.py glyphs
"""

import argparse
import dataclasses
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold

from kerastl import backbones, continual, strategies
from kerastl.backbones.glyphs import digits, load_glyphnet
from kerastl.callbacks import Audit, FollowPlan
from kerastl.plans import TransferPlan
from kerastl.recipes import TuneSettings, training
from kerastl.tasks import (
    Classification,
    PictureExamples,
    PreparePictures,
    TaskData,
    find_source,
)
from kerastl.training import blend_weights

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
TOP = 1e-2  # the rate of a head that starts at zero; 1/30 of it is that of the group below


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to train."""

    strategy: str = "full"
    start: str = "probe"
    epochs: int = 10
    rate: float = TOP
    spread: float = 5.0
    averaging: float = 0.2
    smoothing: float = 0.0
    augment: str = "none"
    l2_sp: float = 0.0


WAYS = {
    "before": Way("gradual", "as_is", 20, smoothing=0.1, augment="light"),
    "before, full": Way("full", "as_is", 20, smoothing=0.1, augment="light"),
    "full": Way(epochs=20),
    "full, 10 epochs": Way(),
    "full, augmented": Way(augment="light"),
    "full, smoothed labels": Way(augment="light", smoothing=0.1),
    "full, cosine": Way(averaging=0.0),
    "full, lower rates": Way(rate=TOP * 0.3, spread=1.0),
    "full, higher rates": Way(rate=TOP * 3, augment="light"),
    "full, L2-SP": Way(l2_sp=0.01),
    "gradual": Way("gradual"),
    "partial": Way("partial", spread=1.0),
}


def main():
    options = arguments()
    data, load = SETS[options.set](options)
    labels = data.train.targets
    folds = StratifiedKFold(5, shuffle=True, random_state=options.seed).split(labels, labels)
    answers = {name: [] for name in options.ways}
    for number, (kept, held) in enumerate(folds):
        if number == options.folds:
            break
        part = dataclasses.replace(data, train=data.train.at(kept))
        for name in options.ways:
            answers[name].append(tried(WAYS[name], part, data.train.at(held), load, options.seed))
    for name, each in answers.items():
        print(f"{name:24s} {line(each)}", flush=True)


def tried(way, data, held, load, seed):
    """Outputs for `held` at each share of the way, its labels, and the seconds of training."""
    keras.utils.set_random_seed(seed)
    own = TuneSettings(
        strategy=way.strategy,
        start="probe" if way.start == "probe" else "zero",
        keep="last",
        epochs=way.epochs,
        learning_rate=way.rate,
        averaging=way.averaging,
        label_smoothing=way.smoothing,
        augment=way.augment,
        seed=seed,
    )
    model = training.build(load(), data, dropout=own.dropout, name="tried")
    plan = getattr(strategies, way.strategy)(
        model.groups,
        epochs=way.epochs,
        learning_rate=way.rate,
        spread=way.spread,
        start=way.start,
        schedule=None if own.averages else strategies.COSINE,
    )
    if way.start == "probe":
        training.solve(model, data, own)
    start, started = model.get_weights(), time.perf_counter()
    train(model, data, own, plan, way)
    seconds, ends, outputs = time.perf_counter() - started, model.get_weights(), {}
    for share in SHARES:
        model.set_weights(ends)
        blend_weights(model, start, share)
        outputs[share] = training.outputs_of(model, held)
    return outputs, held.targets, seconds


def train(model, data, own, plan: TransferPlan, way):
    steps = plan.epochs * -(-len(data.train) // own.batch_size)
    terms = [continual.L2SP(way.l2_sp)] if way.l2_sp else []
    training.compile_at_peak(model, data, own, averaged=way.averaging * steps, terms=terms)
    model.fit(
        training.batches(data, own),
        epochs=plan.epochs,
        class_weight=data.objective.class_weight(data),
        callbacks=[FollowPlan(plan), Audit()],
        verbose=0,
    )


def line(each):
    """Accuracies, cross-entropies, gained and lost, seconds, over the folds."""
    labels = np.concatenate([labels for _, labels, _ in each])
    right, losses = {}, {}
    for share in SHARES:
        given = np.concatenate([outputs[share] for outputs, _, _ in each])
        right[share] = given.argmax(1) == labels
        losses[share] = -np.log(np.maximum(given[np.arange(len(labels)), labels], 1e-12))
    gained, lost = (int((right[a] > right[b]).sum()) for a, b in ((1.0, 0.0), (0.0, 1.0)))
    accuracy = " ".join(f"{right[share].mean():.3f}" for share in SHARES)
    entropy = " ".join(f"{losses[share].mean():.3f}" for share in SHARES)
    seconds = np.mean([seconds for _, _, seconds in each])
    return f"n={len(labels)}  {accuracy}  loss {entropy}  +{gained} -{lost}  {seconds:.0f} s"


def flowers(options):
    own = TuneSettings(backbone="mobilenet", alpha=0.25, weights=options.weights, image_size=160)
    source = find_source(options.flowers)
    backbone = source.load_backbone(own)
    data = source.read(source.prepare_for(backbone, own), own, seed=options.seed)
    return data, lambda: source.load_backbone(own)


def pneumonia(options):
    stored = np.load(options.pneumonia)
    rows = np.random.default_rng(options.seed).permutation(len(stored["train_images"]))[:800]
    pixels = np.repeat(stored["train_images"][rows][..., None], 3, -1)
    return task(scaled(pixels, 96), stored["train_labels"].ravel()[rows]), mobilenet(options)


def written(options):
    stored = load_digits()
    rows = np.random.default_rng(options.seed).permutation(len(stored.images))[:300]
    pixels = np.repeat((stored.images * 255 / 16)[rows][..., None], 3, -1)
    return task(scaled(scaled(pixels, 32), 96), stored.target[rows]), mobilenet(options)


def glyphs(options):
    pixels, labels, _, _ = digits(options.seed, labels_per_class=10)
    return task(np.asarray(pixels).astype("uint8"), labels), load_glyphnet


SETS = {"digits": written, "pneumonia": pneumonia, "flowers": flowers, "glyphs": glyphs}


def mobilenet(options):
    size = {"image_size": 96, "alpha": 0.25}
    return lambda: backbones.load("mobilenet", weights=options.weights, **size)


def scaled(pixels, size):
    return np.asarray(tf.cast(tf.round(tf.image.resize(pixels, (size, size))), tf.uint8))


def task(pixels, labels):
    count = int(labels.max()) + 1
    train = PictureExamples(pixels, labels.astype("int64"), count)
    names = tuple(map(str, range(count)))
    nothing, few = train.at(np.arange(0)), train.at(np.arange(4))
    prepare = PreparePictures(pixels.shape[1:3])
    return TaskData(train, nothing, few, names, prepare, Classification())


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", choices=list(SETS))
    parser.add_argument("--ways", default="; ".join(WAYS), help="names with ; between")
    parser.add_argument("--folds", type=int, default=5, help="of five")
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--weights", help="of MobileNet 0.25, without its classifier")
    parser.add_argument("--flowers", help="folder of class folders")
    parser.add_argument("--pneumonia", help="pneumoniamnist.npz")
    options = parser.parse_args()
    options.ways = [name.strip() for name in options.ways.split(";")]
    return options


if __name__ == "__main__":
    main()
