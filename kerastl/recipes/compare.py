"""`compare`: train by several strategies under one budget and measure each."""

import dataclasses
import json
import pathlib
import subprocess
import sys
import threading
import time

from kerastl._base import checks
from kerastl.data import scan_images
from kerastl.plans import strategies
from kerastl.recipes.run_folder import RunFolder, Silent, free_name
from kerastl.recipes.settings import TuneConfig
from kerastl.report import draw_comparison


@dataclasses.dataclass(frozen=True)
class CompareResult:
    """What a comparison gave.

    Attributes:
        rows: List of one dict a strategy; `metrics.json` says the same.
        folder: Where `metrics.json`, `comparison.md` and `comparison.png` lie.
    """

    rows: list
    folder: pathlib.Path


def compare(
    data,
    out=None,
    *,
    strategies=strategies.NAMES,
    seeds=2,
    progress=None,
    overwrite=False,
    **settings,
):
    """Train a network by each of `strategies` on a folder of pictures and measure them.

    All have the same budget: the same epochs over the same pictures from the same seeds. Each
    runs in a process of its own, so that its peak of memory is its own.

    Args:
        data: Folder as `fine_tune` takes it.
        out: Folder to write. None makes a new one under `saved_models/`.
        strategies: Names, of `strategies.NAMES`.
        seeds: Int > 0, trainings by each strategy.
        progress: Object with the methods of `tune.progress.Silent`; None for silence.
        overwrite: Boolean, whether an earlier comparison at `out` is replaced.
        **settings: Fields of `TuneConfig`, such as `backbone="resnet50", epochs=10`.

    Returns:
        `CompareResult`. A row has `strategy`, `frozen_layers` and `layers` (those with weights),
        `trainable_weights` at the end, `seconds` of one training (mean), `accuracy` on held-out
        pictures with `mean`, `std` and `each`, and `peak_memory`, bytes of the whole process.

    Raises:
        ValueError, OSError: For settings or data that cannot be used, before any training.
        RuntimeError: If a training fails.
    """
    checks.whole(seeds, 1, 1000, "seeds")
    names = _names(strategies)
    config = TuneConfig(**{**settings, "strategy": names[0], "export": "none"})
    progress = progress or Silent()
    started = time.perf_counter()
    with RunFolder(out or _free_folder(data, config), overwrite=overwrite) as run:
        scan_images(data)  # what is wrong with the folders is told before anything is loaded
        rows = []
        for name in names:
            progress.stage(f"Training by {name}", seeds)
            one = dataclasses.replace(config, strategy=name)
            rows.append(measure(data, one, seeds, progress))
        metrics = {
            "rows": rows,
            "seeds": seeds,
            "config": dataclasses.asdict(config),
            "seconds": round(time.perf_counter() - started, 1),
        }
        run.write_json("metrics.json", metrics)
        run.write_lines("comparison.md", as_markdown(rows).splitlines())
        draw_comparison(rows, run.file("comparison.png"), title=_title(data, config, seeds))
    return CompareResult(rows, run.path)


def _names(chosen):
    chosen = [chosen] if isinstance(chosen, str) else list(chosen)
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(
            "`strategies` must name at least one strategy, none twice. "
            f"Received: strategies={chosen!r}"
        )
    for name in chosen:
        checks.one_of(name, strategies.NAMES, "strategies")
    return chosen


def _free_folder(data, config):
    backbone = pathlib.Path(config.backbone.replace(":", "-")).stem
    return free_name("saved_models", f"{pathlib.Path(data).resolve().name}-{backbone}-comparison")


def _title(data, config, seeds):
    name = pathlib.Path(data).resolve().name
    return f"{config.backbone} on {name}: {config.epochs} epochs, {seeds} seeds"


HEADER = ("strategy", "frozen layers", "trainable weights", "seconds", "accuracy", "memory")


def cells(row):
    """The cells of a row of `compare` as text.

    Example:
        >>> cells({"strategy": "head", "frozen_layers": 3, "layers": 4, "trainable_weights": 1290,
        ...        "seconds": 2.34, "accuracy": {"mean": 0.8, "std": 0.01, "each": [0.79, 0.81]},
        ...        "peak_memory": 1_200_000_000})
        ('head', '3 of 4', '1,290', '2.3', '80.0 ± 1.0 %', '1,200 MB')
    """
    accuracy = row["accuracy"]
    spread = f" ± {100 * accuracy['std']:.1f}" if len(accuracy["each"]) > 1 else ""
    return (
        row["strategy"],
        f"{row['frozen_layers']} of {row['layers']}",
        f"{row['trainable_weights']:,}",
        f"{row['seconds']:.1f}",
        f"{100 * accuracy['mean']:.1f}{spread} %",
        f"{row['peak_memory'] / 1e6:,.0f} MB",
    )


def as_markdown(rows):
    """The rows of `compare` as a Markdown table."""
    lines = [HEADER, ("---",) * len(HEADER), *map(cells, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def measure(data, config, seeds, progress):
    """Train by `config.strategy` once a seed in a fresh process; return the row of the table.

    Args:
        data: Folder of pictures.
        config: `TuneConfig`; its `seed` is the first of `seeds` seeds in a row.
        seeds: Int > 0.
        progress: Object with `count(done, total)`.

    Raises:
        ValueError: For what the worker finds unusable.
        RuntimeError: If it dies.
    """
    job = {"data": str(data), "config": dataclasses.asdict(config), "seeds": seeds}
    command = [sys.executable, "-m", "kerastl.recipes.compare_worker"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            messages, said = _converse(process, job, progress)
        except BaseException:
            process.kill()
            raise
    if "error" in messages:
        raise ValueError(messages["error"])
    if process.returncode or "row" not in messages:
        raise RuntimeError(
            f"Training by {config.strategy!r} ended with code {process.returncode}: "
            f"{said.strip()[-500:] or 'it said nothing; memory may have run out'}"
        )
    return messages["row"]


def _converse(process, job, progress):
    """Send the job; the last message of each kind, and what was written to standard error."""
    said = []
    reader = threading.Thread(target=lambda: said.append(process.stderr.read()))
    reader.start()
    process.stdin.write(json.dumps(job))
    process.stdin.close()
    messages = {}
    for line in process.stdout:
        message = json.loads(line)
        messages.update(message)
        if "done" in message:
            progress.count(message["done"], job["seeds"])
    process.wait()
    reader.join()
    return messages, "".join(said)
