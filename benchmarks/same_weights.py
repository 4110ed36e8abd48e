"""Whether a change of the house left what it computes alone: hashes of weights and device files.

Runs the glyph demo, three tunings of flowers (`head`, `partial`, `gradual`, three epochs each) and
a compression with channels, zeros and quantization-aware training, all with fixed seeds, and
prints the sha256 of all weights and of each `.tflite` file as JSON. It uses nothing but the command
line, so that it runs on both sides of a change:

    python benchmarks/same_weights.py --data FLOWERS --weights MOBILENET.h5 > before.json
    python benchmarks/same_weights.py --data FLOWERS --weights MOBILENET.h5 --against before.json

Equal on one machine only: kernels round differently on another processor.
"""

import argparse
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

SIZE, EPOCHS = "160", "3"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="Folder of class folders.")
    parser.add_argument("--weights", required=True, help="Weights of MobileNet 0.25.")
    parser.add_argument("--against", help="JSON of an earlier run; exit 1 where a hash differs.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        found = {name: hashes(path) for name, path in runs(options, pathlib.Path(home))}
    print(json.dumps(found, indent=2))
    if options.against:
        before = json.loads(pathlib.Path(options.against).read_text(encoding="utf-8"))
        other = [
            f"{run}/{what}"
            for run in sorted({*before, *found})
            for what in sorted({*before.get(run, {}), *found.get(run, {})})
            if before.get(run, {}).get(what) != found.get(run, {}).get(what)
        ]
        print(f"different: {', '.join(other)}" if other else "equal", file=sys.stderr)
        sys.exit(1 if other else 0)


def runs(options, home):
    """Pairs of a name and the run folder of each verb that was run."""
    verb("demo", "--seeds", "1", "--out", home / "demo")
    yield "demo", home / "demo"
    network = ["--backbone", "mobilenet", "--alpha", "0.25", "--weights", options.weights]
    network += as_before()
    for strategy in ("head", "partial", "gradual"):
        out = home / strategy
        verb("tune", options.data, *network, "--image-size", SIZE, "--strategy", strategy,
             "--epochs", EPOCHS, "--seed", "1", "--out", out)  # fmt: skip
        yield strategy, out
    out = home / "compress"
    verb("compress", home / "head", "--data", options.data, "--prune-channels", "0.3",
         "--prune", "0.6", "--qat", "--epochs", "2", "--out", out)  # fmt: skip
    yield "compress", out


def as_before():
    """Flags with which a `tune` that begins with a regression begins at zero, as it once did."""
    told = run("tune", "--help", stdout=subprocess.PIPE, text=True).stdout
    flags = {"--start": "zero", "--keep": "last", "--label-smoothing": "0.1"}
    return [word for pair in flags.items() if "--start" in told for word in pair]


def verb(*words):
    """Run a verb of the command line; its output goes to standard error."""
    run(*words, stdout=sys.stderr)


def run(*words, **options):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_CPU_ALLOCATOR_USE_BFC": "true"}
    command = [sys.executable, "-m", "kerastl", *map(str, words)]
    return subprocess.run(command, check=True, env=environment, **options)


def hashes(folder):
    """Dict from what to its sha256: all weights of `model.keras` in order, and each device file."""
    found = {"weights": weights_hash(folder / "model.keras")}
    for path in sorted(folder.glob("*.tflite")):
        found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def weights_hash(path):
    """The sha256 of shapes, types and values of all weights, as a model that is loaded has them."""
    import keras

    import kerastl  # noqa: F401 (its classes are named in the file)

    digest = hashlib.sha256()
    for weight in keras.models.load_model(path, compile=False).weights:
        value = keras.ops.convert_to_numpy(weight)
        digest.update(repr((value.shape, str(value.dtype))).encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
