"""What batches of like length and frozen features save of texts: seconds and memory, in one run.

An encoder of 6 layers, 384 wide, learns two classes of real texts: once in batches that are padded
to the 99th percentile of all lengths, as usual, and once in batches of like length; then with its
lower half frozen, without and with cached features, for some epochs. Every run is a process of its
own, on the same texts from the same weights. Seconds are those of `fit`, tracing and computing the
features included; memory is the peak of the process above what it held before `fit` (Linux only).

    python benchmarks/texts.py DATA.tsv [--encoder FOLDER] [--rows 1000] [--epochs 3]

DATA is a table of texts as `kerastl tune` takes it. Without --encoder the network has random
weights, and the vocabulary of `prosenet`.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import resource
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")  # as the command line does

BATCH_SIZE = 32
WAYS = {  # whether batches are of like length, the lower half is frozen, and its features are kept
    "padded": (False, False, False),
    "of like length": (True, False, False),
    "half frozen": (True, True, False),
    "half frozen, cached": (True, True, True),
}


def network(encoder):
    """The encoder, pooled, and its `Tokens`."""
    import keras
    import keras_hub

    from kerastl import backbones
    from kerastl.backbones.local import text_backbone

    keras.utils.set_random_seed(0)
    if encoder:
        model = backbones.load(encoder, pooling="avg")
        return model, backbones.load_tokens(encoder, backbone=model)
    tokens = backbones.load_tokens("prosenet")
    made = keras_hub.models.BertBackbone(
        vocabulary_size=tokens.vocabulary_size,
        num_layers=6,
        num_heads=12,
        hidden_dim=384,
        intermediate_dim=1536,
    )
    return text_backbone(made, "avg"), tokens


def dataset(path, tokens, rows, bucketed):
    """The dataset of `rows` texts of the table at `path`, and of what share of it is padding."""
    import numpy as np

    from kerastl.data import scan_texts
    from kerastl.data.passes import dataset_of
    from kerastl.data.texts.passes import TokenPasses, TokenRows

    class Padded(TokenRows):
        """All batches are as long as the longest."""

        def width(self, rows):
            return self.longest

    found = scan_texts(path)
    texts = found.splits.get("train") or found.splits["all"]
    chosen = np.random.default_rng(0).permutation(len(texts))[:rows]
    ids = tokens.ids([texts[row].parts[0] for row in chosen])
    around = len(tokens.start) + len(tokens.end)
    longest = int(np.percentile([len(one) + around for one in ids], 99, method="higher"))
    given = TokenRows(ids, None, tokens.pack, tokens.inputs, around, longest)
    if not bucketed:
        given = Padded(**{f.name: getattr(given, f.name) for f in dataclasses.fields(given)})
    labels = np.array([texts[row].target for row in chosen])
    passes = TokenPasses(
        given, np.arange(len(ids)), labels, batch_size=BATCH_SIZE, seed=0, bucketed=bucketed
    )
    order = passes.order(0).numpy()
    batches = [order[i : i + BATCH_SIZE] for i in range(0, len(order), BATCH_SIZE)]
    computed = sum(passes.width(batch) * len(batch) for batch in batches)
    return dataset_of(passes), longest, 1 - float(given.lengths.sum()) / computed


def child(way, path, encoder, rows, epochs):
    """One `fit`; prints what it cost and its losses as JSON."""
    import keras

    from kerastl.freezing import freeze_to
    from kerastl.training import FineTuner

    bucketed, frozen, cached = WAYS[way]
    backbone, tokens = network(encoder)
    data, longest, padding = dataset(path, tokens, rows, bucketed)
    head = keras.layers.Dense(2, activation="softmax", name="classes")
    model = FineTuner.from_model(keras.Model(backbone.input, head(backbone.output)))
    if frozen:
        freeze_to(model, -(len(model.groups) // 2))  # the head and the upper three layers learn
    model.compile(
        keras.optimizers.AdamW(3e-5, weight_decay=1e-4), "sparse_categorical_crossentropy"
    )
    seconds, held = [], resident()
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seconds.append(time.perf_counter() - started)
    )
    started = time.perf_counter()
    history = model.fit(
        data, epochs=epochs, callbacks=[watch], cache_frozen=cached, verbose=0
    ).history
    told = {"seconds": seconds, "memory": peak() - held, "loss": history["loss"]}
    print(json.dumps({**told, "longest": longest, "padding": padding}))


def resident():
    """Megabytes that this process holds now."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def peak():
    """The most megabytes that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def run(*given):
    """The JSON of one run in a process of its own."""
    command = [sys.executable, __file__, "--child", json.dumps(given)]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def report(found, epochs):
    for name, row in found.items():
        each = " ".join(f"{value:6.1f}" for value in row["seconds"])
        print(
            f"  {name:<20}{row['memory']:6.0f} MB during fit; {row['padding']:4.0%} padding; "
            f"seconds until the end of each epoch {each}; loss {row['loss'][-1]:.4f}"
        )
    last = {name: row["seconds"][-1] for name, row in found.items()}
    memory = {name: row["memory"] for name, row in found.items()}
    print("\nRatios of seconds (of memory):")
    for one, other, length in (
        ("padded", "of like length", "one epoch"),
        ("half frozen", "half frozen, cached", f"{epochs} epochs"),
    ):
        print(
            f"  {other} over {one}, {length}: {last[other] / last[one]:.2f} "
            f"({memory[other] / memory[one]:.2f})"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", help="a table of texts of two classes")
    parser.add_argument("--encoder", help="folder of an encoder; random weights if not said")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=3, help="of the frozen ones")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*json.loads(options.child))
        return
    if not options.data:
        parser.error("name a table of texts")
    found = {}
    for way, (_, frozen, _) in WAYS.items():
        epochs = options.epochs if frozen else 1
        found[way] = run(way, options.data, options.encoder, options.rows, epochs)
    print(f"{options.rows} texts, batch {BATCH_SIZE}, at most {found['padded']['longest']} ids")
    report(found, options.epochs)


if __name__ == "__main__":
    main()
