"""What terms of `kerastl.continual` cost: a step with one, over the plain step; a Fisher pass.

MobileNetV2 of alpha 0.35 at 96 pixels, 32 pictures of noise, everything training; weights are
random, which a step does not notice. Steps of all models are taken in turn, so that what else the
machine does falls on all alike.

    python benchmarks/terms.py [--rounds 40] [--examples 100]
"""

import argparse
import time

import keras
import numpy as np

from kerastl import FineTuner
from kerastl.continual import (
    L2SP,
    ElasticWeightConsolidation,
    MemoryAwareSynapses,
    SynapticIntelligence,
)

WARM_UP = 3
CLASSES = 5


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--examples", type=int, default=100, help="of the timed Fisher pass")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    data = rng.random((32, 96, 96, 3), dtype="float32"), np.arange(32) % CLASSES
    models = {name: compiled(make) for name, make in TERMS.items()}
    for model in models.values():
        for _ in range(WARM_UP):
            model.train_on_batch(*data)
    rounds = [{n: seconds(m, data) for n, m in models.items()} for _ in range(options.rounds)]
    print(f"plain step: median {1000 * np.median([one['plain'] for one in rounds]):.1f} ms")
    for name in list(models)[1:]:
        ratios = np.array([one[name] / one["plain"] for one in rounds])
        error = ratios.std(ddof=1) / np.sqrt(len(ratios))
        print(
            f"{name} over plain: median {np.median(ratios):.3f}, mean {ratios.mean():.3f} "
            f"± {error:.3f}"
        )
    pictures = rng.random((options.examples, 96, 96, 3), dtype="float32")
    for labels in ("true", "exact"):
        took = fisher_seconds(pictures, labels)
        passes = CLASSES if labels == "exact" else 1
        print(
            f"Fisher, labels={labels!r} ({passes} of {CLASSES} classes an example): "
            f"{1000 * took / options.examples:.1f} s per 1,000 examples, tracing left out"
        )


def anchored(term):
    """A maker of `term` that takes the present weights as those of the earlier task."""

    def make(model):
        term.consolidate(model, np.zeros((2, 96, 96, 3), "float32"))
        return [term]

    return make


TERMS = {
    "plain": lambda model: [],
    "L2SP": lambda model: [L2SP()],
    "L2SP, gradient": lambda model: [L2SP(proximal=False)],
    "EWC": anchored(ElasticWeightConsolidation(labels="true")),
    "MAS": anchored(MemoryAwareSynapses()),
    "SI": lambda model: [SynapticIntelligence()],
}


def network():
    keras.utils.set_random_seed(0)
    base = keras.applications.MobileNetV2(
        (96, 96, 3), alpha=0.35, weights=None, pooling="avg", include_top=False
    )
    head = keras.layers.Dense(CLASSES, activation="softmax", name="head")(base.output)
    return FineTuner.from_model(keras.Model(base.input, head))


def compiled(make_terms):
    model = network()
    loss, terms = "sparse_categorical_crossentropy", make_terms(model)
    model.compile(keras.optimizers.AdamW(1e-3), loss, terms=terms, jit_compile=False)
    return model


def seconds(model, data):
    started = time.perf_counter()
    model.train_on_batch(*data)
    return time.perf_counter() - started


def fisher_seconds(pictures, labels):
    """Of a pass over `pictures`, less that of tracing, which the first chunks take."""
    term, model, marks = ElasticWeightConsolidation(labels=labels), network(), []
    term.memory = 2**26  # chunks of some twenty examples
    term.consolidate(
        model, pictures, progress=lambda done, total: marks.append((done, time.perf_counter()))
    )
    # The first chunk traces; the last, of another size, traces once more.
    (first, begun), (last, ended) = marks[0], marks[-2]
    return (ended - begun) / (last - first) * len(pictures)


if __name__ == "__main__":
    main()
