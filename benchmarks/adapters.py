"""What parameter-efficient methods cost, and what the base forgets, beside full fine-tuning.

A network learns an old task with all its weights, then a new one by each method in turn, from the
same weights, with the same batches. For each method: the weights that train, the bytes of the
optimizer, the time of a step over that of full fine-tuning (both take the same batch in turn, a
pair a round; the median ratio and its standard error), the size of the file that holds what was
learnt, accuracy on the new task, and forgetting: by how much the loss of the old head on held-out
examples of the old task has risen, on the trunk as it is now. Each method learns at that of
some rates which gave the lowest loss on a quarter of the training examples, learning from the rest.

    python benchmarks/adapters.py pictures
    python benchmarks/adapters.py texts OLD.tsv NEW.tsv [--encoder FOLDER] [--rows 800]

`pictures` is MobileNetV2 (alpha 0.35, 64 pixels) on scikit-learn's digits, 0 to 4 the old task and
5 to 9 the new one. `texts` is an encoder of 6 layers, 384 wide, on two tables of labelled texts;
without --encoder its weights are random before the old task.
"""

import argparse
import os
import pathlib
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")  # as the command line does

import keras
import numpy as np

from kerastl import FineTuner, peft

BATCH_SIZE, ROUNDS = 32, 20
EPOCHS = {"texts": 4, "pictures": 12}
RATES = {"texts": (5e-5, 5e-4), "pictures": (3e-4, 1e-3, 3e-3)}  # to choose from
SHARED = {
    "LoRA": peft.LoRA(),
    "LoRA, rank 32": peft.LoRA(rank=32),
    "DoRA": peft.DoRA(),
    "PiSSA": peft.PiSSA(),
    "SHiRA": peft.SHiRA(),
    "VeRA": peft.VeRA(),
    "BitFit": peft.BitFit(),
    "norms": peft.NormTuning(),
}
OF_TEXTS = {
    "IA3": peft.IA3(),
    "adapters, Houlsby": peft.BottleneckAdapter(style="houlsby"),
    "adapters, Pfeiffer": peft.BottleneckAdapter(style="pfeiffer"),
    "prefix": peft.PrefixTuning(),
    "prompt": peft.PromptTuning(),
}


class Task:
    """Inputs and labels, to train on and held out."""

    def __init__(self, inputs, labels, seed=0):
        order = np.random.default_rng(seed).permutation(len(labels))
        cut = len(order) * 3 // 4
        self.train = self._rows(inputs, labels, order[:cut])
        self.held = self._rows(inputs, labels, order[cut:])
        self.classes = int(labels.max()) + 1

    def to_choose(self):
        """A `Task` of the training examples alone."""
        return Task(*self.train)

    @staticmethod
    def _rows(inputs, labels, rows):
        return keras.tree.map_structure(lambda part: part[rows], inputs), labels[rows]


def digits():
    """`(trunk maker, old task, new task)` of pictures."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = np.repeat(np.repeat(found.images / 8 - 1, 8, axis=1), 8, axis=2)
    images = np.repeat(images[..., None], 3, axis=-1).astype("float32")
    low = found.target < 5
    old = Task(images[low], found.target[low])
    new = Task(images[~low], found.target[~low] - 5)

    def trunk():
        made = keras.applications.MobileNetV2(
            (64, 64, 3), alpha=0.35, weights=None, pooling="avg", include_top=False
        )
        for layer in made.layers:  # its own momentum, 0.999, wants thousands of steps
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.9
        return made

    return trunk, old, new


def texts(paths, encoder, rows):
    """`(trunk maker, old task, new task)` of texts."""
    from texts import network

    from kerastl.data import scan_texts

    _, tokens = network(encoder)

    def task(path):
        found = scan_texts(path)
        given = found.splits.get("train") or found.splits["all"]
        chosen = np.random.default_rng(0).permutation(len(given))[:rows]
        ids = tokens.ids([given[row].parts[0] for row in chosen])
        labels = np.array([given[row].target for row in chosen])
        width = int(np.percentile([len(one) for one in ids], 95)) + 2
        packed = tokens.pack(ids, width)
        inputs = {name: packed[name] for name in network(encoder)[0].input}
        return Task(inputs, labels)

    return lambda: network(encoder)[0], task(paths[0]), task(paths[1])


def compiled(trunk, classes, rate, method=None):
    """A `FineTuner` over `trunk` with a new head that starts at zero."""
    head = keras.layers.Dense(classes, kernel_initializer="zeros", name="head")
    model = FineTuner.from_model(keras.Model(trunk.input, head(trunk.output)))
    if method is not None:
        peft.add(model, method)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(rate), loss, metrics=["accuracy"], jit_compile=False)
    return model


def learnt(trunk, task, rate, epochs):
    """The head of the old task, after the whole of `trunk` has learnt it."""
    model = compiled(trunk, task.classes, rate)
    model.fit(*task.train, batch_size=BATCH_SIZE, epochs=epochs, verbose=0)
    return model.get_layer("head").get_weights()


def old_loss(trunk, head, task):
    """Loss on the held-out part of the old task, of the old head on `trunk` as it is now."""
    features = keras.Model(trunk.input, trunk.output).predict(task.held[0], verbose=0)
    logits = features @ head[0] + head[1]
    shifted = logits - logits.max(1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return float(-logs[np.arange(len(logs)), task.held[1]].mean())


def step_ratios(model, full, task):
    """Time of a step of `model` over that of `full`, a ratio a round."""
    batch = keras.tree.map_structure(lambda part: part[:BATCH_SIZE], task.train)

    def seconds(one):
        started = time.perf_counter()
        one.train_on_batch(*batch)
        return time.perf_counter() - started

    for one in (model, full):
        for _ in range(3):
            one.train_on_batch(*batch)
    return np.array([seconds(model) / seconds(full) for _ in range(ROUNDS)])


def size_of_file(model, folder):
    """Bytes of the file that holds what `model` has learnt."""
    path = pathlib.Path(folder) / "learnt"
    if model.adapter_bank is None:
        model.save(path.with_suffix(".keras"))
        return path.with_suffix(".keras").stat().st_size
    peft.save(model, path.with_suffix(".adapter"), optimizer=False)
    return path.with_suffix(".adapter").stat().st_size


def tuned(make_trunk, weights, task, rate, method, epochs):
    """`(trunk, model)` that has learnt `task` from `weights`."""
    keras.utils.set_random_seed(0)
    trunk = make_trunk()
    trunk.set_weights(weights)
    model = compiled(trunk, task.classes, rate, method)
    model.fit(*task.train, batch_size=BATCH_SIZE, epochs=epochs, verbose=0)
    return trunk, model


def chosen_rate(make_trunk, weights, task, rates, method, epochs):
    """The rate after which held-out training examples have the lowest loss."""
    losses = {}
    for rate in rates:
        _, model = tuned(make_trunk, weights, task.to_choose(), rate, method, epochs)
        losses[rate] = model.evaluate(*task.to_choose().held, verbose=0, return_dict=True)["loss"]
        keras.backend.clear_session()
    return min(losses, key=losses.get)


def measured(make_trunk, weights, task, rates, method, epochs, full):
    """What one method gives, as a dict."""
    rate = chosen_rate(make_trunk, weights, task, rates, method, epochs)
    trunk, model = tuned(make_trunk, weights, task, rate, method, epochs)
    told = {"trains": sum(int(np.prod(v.shape)) for v in model.trainable_variables)}
    told["rate"] = rate
    told["accuracy"] = model.evaluate(*task.held, verbose=0, return_dict=True)["accuracy"]
    told["optimizer"] = sum(int(np.prod(v.shape)) * 4 for v in model.optimizer.variables)
    with tempfile.TemporaryDirectory() as folder:
        told["file"] = size_of_file(model, folder)
    return told, trunk, step_ratios(model, full or model, task)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=["pictures", "texts"])
    parser.add_argument("tables", nargs="*", help="OLD.tsv NEW.tsv, of texts")
    parser.add_argument("--encoder", help="folder of an encoder; random weights if not said")
    parser.add_argument("--rows", type=int, default=800)
    options = parser.parse_args()
    if options.kind == "texts" and len(options.tables) != 2:
        parser.error("name two tables of texts, the old task and the new one")
    is_text = options.kind == "texts"
    make_trunk, old, new = (
        texts(options.tables, options.encoder, options.rows) if is_text else digits()
    )
    rates, methods = RATES[options.kind], {**SHARED, **(OF_TEXTS if is_text else {})}
    keras.utils.set_random_seed(0)
    trunk = make_trunk()
    epochs, rate = EPOCHS[options.kind], rates[0 if is_text else 1]
    head = learnt(trunk, old, rate, epochs if is_text else 3 * epochs)
    weights, before = trunk.get_weights(), old_loss(trunk, head, old)
    trunk_of_full = make_trunk()
    full = compiled(trunk_of_full, new.classes, rate)
    told = f"old task: loss {before:.3f} held out; {len(new.train[1])} examples of the new one"
    print(told, flush=True)
    print(f"{'':<20}{'trains':>12}{'optimizer':>12}{'step':>16}{'file':>11}", end="")
    print(f"{'rate':>8}{'new task':>10}  old loss")
    for name, method in {"all weights": None, **methods}.items():
        told, now, ratios = measured(make_trunk, weights, new, rates, method, epochs, full)
        error = ratios.std(ddof=1) / np.sqrt(len(ratios))
        print(
            f"{name:<20}{told['trains']:>12,}{told['optimizer'] / 1e6:>9.2f} MB"
            f"{np.median(ratios):>9.2f} ± {error:.2f}{told['file'] / 1e6:>8.2f} MB"
            f"{told['rate']:>8.0e}"
            f"{told['accuracy']:>10.3f}  {old_loss(now, head, old) - before:+.3f}",
            flush=True,
        )
        keras.backend.clear_session()


if __name__ == "__main__":
    main()
