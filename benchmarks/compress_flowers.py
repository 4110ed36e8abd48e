"""What compression costs in accuracy, and saves in bytes and time: the bars of the design.

For each run folder that `kerastl tune` made (several seeds of one network on one folder of
pictures): int8 by calibration, int8 by training with quantization, 60 % zeros, and 30 % of the
channels taken away, each with the defaults of `kerastl compress`. Everything is measured on the
pictures held out; times are of one picture on one thread, those of a run's files taken in turn.

    kerastl tune flowers/ --backbone mobilenet --alpha 0.25 --seed 0 --out runs/0   # 1, 2 likewise
    python benchmarks/compress_flowers.py flowers/ runs/0 runs/1 runs/2 [--epochs N] [--out FILE]

Or let it tune first: `--seeds 0 1 2 --backbone mobilenet --alpha 0.25 [--weights PATH]`.
Exits with 1 if a bar is missed.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

VARIANTS = {
    "int8 by calibration": ({}, "int8"),
    "int8 by QAT": ({"qat": True}, "int8"),
    "60 % zeros": ({"prune": 0.6}, "pruned"),
    "30 % of the channels": ({"prune_channels": 0.3}, "channels"),
}
# Of the means: points of accuracy that may be lost, and the shares of size and time to reach.
BARS = {
    "int8 by calibration": (1.0, 0.30, 0.6),
    "int8 by QAT": (1.0, 0.30, 0.6),
    "60 % zeros": (2.0, None, None),
    "30 % of the channels": (3.0, 0.75, 0.999),
}
HEADER = ("", "accuracy", "points lost", "size", "gzip", "time", "agreement", "bars")


def main():
    options = arguments()
    with tempfile.TemporaryDirectory() as home:
        runs = [*options.runs, *tuned(options, home)]
        found = {name: [] for name in VARIANTS}
        for run in runs:
            for name in VARIANTS:
                row = measured(run, name, options, home)
                found[name].append(row)
                print(f"{run}, {name}: {json.dumps(row)}", file=sys.stderr, flush=True)
    means = {name: mean(rows) for name, rows in found.items()}
    print_table(means, len(runs))
    if options.out:
        pathlib.Path(options.out).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0 if all(not missed(name, row) for name, row in means.items()) else 1


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="folder of pictures")
    parser.add_argument("runs", nargs="*", help="run folders of kerastl tune on them")
    parser.add_argument("--seeds", type=int, nargs="*", default=(), help="tune these first")
    parser.add_argument("--backbone", default="mobilenet")
    parser.add_argument("--alpha", type=float, default=0.25)
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--epochs", type=int, default=10, help="of each stage")
    parser.add_argument("--out", help="JSON file for the figures of each run")
    options = parser.parse_args()
    if not options.runs and not options.seeds:
        parser.error("give run folders, or --seeds")
    return options


def tuned(options, home):
    """Run folders that are made here."""
    import kerastl

    runs = [str(pathlib.Path(home, f"tuned-{seed}")) for seed in options.seeds]
    for seed, run in zip(options.seeds, runs, strict=True):
        kerastl.fine_tune(
            options.data,
            run,
            seed=seed,
            backbone=options.backbone,
            alpha=options.alpha,
            weights=options.weights,
        )
    return runs


def measured(run, name, options, home):
    """What a variant of the network in `run` gives and costs, beside the network as it was."""
    import kerastl

    settings, stage = VARIANTS[name]
    # One that loses more is written all the same: the bar is to judge it.
    settings = {"max_drop": 1.0, "epochs": options.epochs, **settings}
    result = kerastl.compress(
        run, options.data, pathlib.Path(home, "out"), overwrite=True, **settings
    )
    rows = {row["name"]: row for row in result.metrics["rows"]}
    before, after = rows["float"], rows[stage]
    return {
        "accuracy_before": before["score"],
        "accuracy": after["score"],
        "size": after["bytes"] / before["bytes"],
        "gzip": after["gzip"] / before["gzip"],
        "time": after["ms"] / before["ms"],
        "ms_before": before["ms"],
        "agreement": after["agreement"],
        "keras_agreement": after["keras"]["agreement"],
        "seconds": result.metrics["seconds"],
    }


def mean(rows):
    """The mean of each figure."""
    return {key: statistics.fmean(row[key] for row in rows) for key in rows[0]}


def missed(name, row):
    """Which bars of `name` the mean figures in `row` miss."""
    points, size, time = BARS[name]
    lost = 100 * (row["accuracy_before"] - row["accuracy"])
    reached = {"accuracy": lost <= points + 1e-9}
    if size is not None:
        reached["size"] = row["size"] <= size
    if time is not None:
        reached["time"] = row["time"] <= time
    return [bar for bar, is_reached in reached.items() if not is_reached]


def print_table(means, num_runs):
    before = next(iter(means.values()))
    print(f"Mean of {num_runs} runs; as tuned: accuracy {before['accuracy_before']:.4f}, ", end="")
    print(f"{before['ms_before']:.3f} ms. Size, gzip and time are shares of that network's.\n")
    print(f"| {' | '.join(HEADER)} |\n|{' --- |' * len(HEADER)}")
    for name, row in means.items():
        missing = missed(name, row)
        cells = (
            name,
            f"{row['accuracy']:.4f}",
            f"{100 * (row['accuracy_before'] - row['accuracy']):+.2f}",
            f"{row['size']:.3f}",
            f"{row['gzip']:.3f}",
            f"{row['time']:.3f}",
            f"{row['agreement']:.3f}",
            f"missed: {', '.join(missing)}" if missing else "reached",
        )
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    sys.exit(main())
