"""Time of a training step with one quadratic penalty over the plain step, paired, in one run.

MobileNetV2 of alpha 0.35 at 96 pixels, 32 pictures of noise, everything training; weights are
random, which a step does not notice.

    python benchmarks/term_overhead.py [--rounds 40]
"""

import argparse
import time

import keras
import numpy as np

from kerastl import FineTuner
from kerastl.continual import L2SP

WARM_UP = 3


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    data = rng.random((32, 96, 96, 3), dtype="float32"), np.arange(32) % 5
    plain, penalized = compiled([]), compiled([L2SP()])
    for model in (plain, penalized):
        for _ in range(WARM_UP):
            model.train_on_batch(*data)
    pairs = [(seconds(plain, data), seconds(penalized, data)) for _ in range(options.rounds)]
    ratios = np.array([after / before for before, after in pairs])
    error = ratios.std(ddof=1) / np.sqrt(len(ratios))
    print(f"plain step {1000 * min(before for before, _ in pairs):.1f} ms")
    print(
        f"L2SP over plain: median {np.median(ratios):.3f}, mean {ratios.mean():.3f} ± {error:.3f}"
    )


def compiled(terms):
    keras.utils.set_random_seed(0)
    base = keras.applications.MobileNetV2(
        (96, 96, 3), alpha=0.35, weights=None, pooling="avg", include_top=False
    )
    head = keras.layers.Dense(5, activation="softmax", name="head")(base.output)
    model = FineTuner.from_model(keras.Model(base.input, head))
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.AdamW(1e-3), loss, terms=terms, jit_compile=False)
    return model


def seconds(model, data):
    started = time.perf_counter()
    model.train_on_batch(*data)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
