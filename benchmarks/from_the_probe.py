"""What keeps pretrained features while they train: what the defaults of `tune` rest on.

Cross-validation on training examples alone. On each fold the head is solved on the other four
(`training.solve_head`); from there, or from zero, the network trains by each of several ways; then
the held-back fold is answered by the probe, by the trained weights, and by weights between the two
(WiSE-FT). One line a way: at 0 (the probe), 1/4, 1/2, 3/4 and 1 (the trained weights) accuracy,
cross-entropy, and that at the best temperature; pictures gained and lost at 1, seconds.

    python benchmarks/from_the_probe.py digits --weights MOBILENET.h5 [--ways "full; partial"]
    python benchmarks/from_the_probe.py pneumonia --pneumonia NPZ --weights MOBILENET.h5
    python benchmarks/from_the_probe.py flowers --flowers FLOWERS --weights MOBILENET.h5

Without `--weights` the network is glyphnet, at 32 pixels.
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
from kerastl.backbones.glyphs import load_glyphnet
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
TEMPERATURES = 2 ** np.linspace(-1, 3, 33)
TOP = 1e-2  # the rate of a head that starts at zero; 1/30 of it is that of the group below


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to train."""

    strategy: str = "full"
    start: str = "probe"
    epochs: int = 20
    rate: float = TOP
    uniform: bool = False
    warmup: bool = True
    averaging: float = 0.2
    smoothing: float = 0.0
    augment: str = "none"
    l2_sp: float = 0.0


LOWER = {"rate": TOP * 0.3, "uniform": True}
WAYS = {
    "before": Way("gradual", "as_is", warmup=False, smoothing=0.1, augment="light"),
    "full": Way(),
    "full, no warm-up": Way(warmup=False),
    "full, 10 epochs": Way(epochs=10),
    "full, lower rates": Way(**LOWER),
    "full, lower rates, L2-SP": Way(l2_sp=0.01, **LOWER),
    "full, lower rates, augmented": Way(augment="light", **LOWER),
    "full, lowest rates": Way(rate=TOP * 0.1, uniform=True, warmup=False),
    "full, L2-SP": Way(l2_sp=0.01),
    "full, cosine": Way(averaging=0.0),
    "full, augmented": Way(augment="light"),
    "gradual": Way("gradual"),
    "partial": Way("partial"),
    "partial, 10 epochs": Way("partial", epochs=10),
}


def main():
    options = arguments()
    data, load = SETS[options.set](options)
    labels = data.train.targets
    folds = list(StratifiedKFold(5, shuffle=True, random_state=options.seed).split(labels, labels))
    for name in options.ways:
        each = []
        for kept, held in folds[: options.folds]:
            part = dataclasses.replace(data, train=data.train.at(kept))
            each.append(tried(WAYS[name], part, data.train.at(held), load, options.seed))
        print(f"{name:32s} {line(each)}", flush=True)


def tried(way, data, held, load, seed):
    """Outputs for `held` at each share of the way, its labels, and the seconds of training."""
    keras.utils.set_random_seed(seed)
    own = TuneSettings(
        strategy=way.strategy,
        start="probe" if way.start == "probe" else "zero",
        keep="last",
        epochs=way.epochs,
        batch_size=32,
        learning_rate=way.rate,
        averaging=way.averaging,
        label_smoothing=way.smoothing,
        augment=way.augment,
        seed=seed,
    )
    model = training.build(load(), data, dropout=own.dropout, name="tried")
    plan = strategies.by_name(
        way.strategy,
        model.groups,
        epochs=way.epochs,
        learning_rate=way.rate,
        schedule=schedule(way),
        start=way.start,
        work=training.work_for(model, data, own),
    )
    if way.uniform:
        plan = uniform(plan)
    if way.start == "probe":
        training.solve(model, data, own)
    start, started = model.get_weights(), time.perf_counter()
    train(model, data, own, plan, way)
    seconds, ends, outputs = time.perf_counter() - started, model.get_weights(), {}
    for share in SHARES:
        model.set_weights(ends)
        blend_weights(model, start, share)
        outputs[share] = data.objective.outputs_of(model, held)
    return outputs, held.targets, seconds


def uniform(plan):
    """`plan` with all groups at the rate of the group below the head."""
    phases = [
        dataclasses.replace(phase, multipliers=dict.fromkeys(phase.multipliers, 1 / 30))
        for phase in plan.phases
    ]
    return dataclasses.replace(plan, phases=phases)


def schedule(way):
    """The factor of the rate: a cosine, or, where weights are averaged, a rate that stands."""
    if not way.averaging:
        return strategies.COSINE
    return strategies.WARMUP if way.warmup else None


def train(model, data, own, plan: TransferPlan, way):
    steps = plan.epochs * -(-len(data.train) // own.batch_size)
    terms = [continual.L2SP(way.l2_sp, proximal=False)] if way.l2_sp else []
    training.compile_at_peak(model, data, own, averaged=way.averaging * steps, terms=terms)
    model.fit(
        training.batches(data, own),
        epochs=plan.epochs,
        class_weight=data.objective.class_weight(data),
        callbacks=[FollowPlan(plan), Audit()],
        verbose=0,
    )


def line(each):
    """Accuracies, cross-entropies, those at the best temperature, gained and lost, seconds."""
    labels = np.concatenate([labels for _, labels, _ in each])
    right, losses, tempered = {}, {}, {}
    for share in SHARES:
        given = np.concatenate([outputs[share] for outputs, _, _ in each])
        right[share] = given.argmax(1) == labels
        losses[share] = entropy(given, labels)
        tempered[share] = min(entropy(given, labels, t) for t in TEMPERATURES)
    gained, lost = (int((right[a] > right[b]).sum()) for a, b in ((1.0, 0.0), (0.0, 1.0)))
    seconds = np.mean([seconds for _, _, seconds in each])
    told = (
        " ".join(f"{float(np.mean(of[share])):.3f}" for share in SHARES)
        for of in (right, losses, tempered)
    )
    parts = "  loss ".join(told)
    return f"n={len(labels)}  {parts}  +{gained} -{lost}  {seconds:.0f} s"


def entropy(given, labels, temperature=1.0):
    scores = np.log(np.maximum(given.astype("float64"), 1e-30)) / temperature
    scores -= scores.max(1, keepdims=True)
    of_label = scores[np.arange(len(labels)), labels]
    return float((np.log(np.exp(scores).sum(1)) - of_label).mean())


def flowers(options):
    network = {"backbone": "mobilenet", "alpha": 0.25, "weights": options.weights}
    if not options.weights:
        network = {"backbone": "glyphnet"}
    own = TuneSettings(**network, image_size=160 if options.weights else 32)
    source = find_source(options.flowers)
    backbone = source.load_backbone(own)
    data = source.read(source.prepare_for(backbone, own), own, seed=options.seed)
    return data, lambda: source.load_backbone(own)


def pneumonia(options):
    stored = np.load(options.pneumonia)
    rows = np.random.default_rng(options.seed).permutation(len(stored["train_images"]))[:800]
    pixels = np.repeat(stored["train_images"][rows][..., None], 3, -1)
    return task(pixels, stored["train_labels"].ravel()[rows], options), network(options)


def digits(options):
    stored = load_digits()
    rows = np.random.default_rng(options.seed).permutation(len(stored.images))[:300]
    pixels = np.repeat((stored.images * 255 / 16)[rows][..., None], 3, -1)
    return task(scaled(pixels, 32), stored.target[rows], options), network(options)


SETS = {"digits": digits, "pneumonia": pneumonia, "flowers": flowers}


def network(options):
    if not options.weights:
        return load_glyphnet
    size = {"image_size": 96, "alpha": 0.25}
    return lambda: backbones.load("mobilenet", weights=options.weights, **size)


def scaled(pixels, size):
    return np.asarray(tf.cast(tf.round(tf.image.resize(pixels, (size, size))), tf.uint8))


def task(pixels, labels, options):
    pixels = scaled(pixels, 96 if options.weights else 32)
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
