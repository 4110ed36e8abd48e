"""`compare`: train by several strategies under one budget and measure each beside the probe."""

import dataclasses
import json
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from kerastl._base.types import PathLike
from kerastl.recipes import training
from kerastl.recipes.run_folder import Progress, RunFolder, Silent, free_name
from kerastl.recipes.tune import run_name_for
from kerastl.report import draw_comparison
from kerastl.tasks import Paired, find_source, pooled, said_of
from kerastl.tasks.protocols import Objective
from kerastl.tasks.settings import ADAPTED, CompareSettings

PROBE = "probe"
LOADED = "as loaded"  # in its place where there is no head to solve


@dataclasses.dataclass(frozen=True)
class CompareResult:
    """What a comparison gave.

    Attributes:
        rows: List of one dict a strategy, the probe first.
        metrics: Dict, what `metrics.json` says.
        folder: Where `metrics.json`, `comparison.md` and `comparison.png` lie.
    """

    rows: list[dict[str, Any]]
    metrics: dict[str, Any]
    folder: pathlib.Path


def compare(
    data: PathLike,
    out: PathLike | None = None,
    *,
    settings: CompareSettings | None = None,
    progress: Progress | None = None,
    overwrite: bool = False,
    **options: Any,
) -> "CompareResult":
    """Train a network by each of several strategies on the same data and measure them.

    All have the same budget: the same epochs over the same examples from the same seeds. Each
    runs in a process of its own, so that its peak of memory is its own. The first row is always
    the probe, a regression on the features of the frozen network, which nothing is trained for:
    what a strategy costs is seen beside what it gains over that. Where nothing in the network is
    new it is the network as it was loaded.

    Args:
        data: Path, as `fine_tune` takes it.
        out: Folder to write. None makes a new one under `saved_models/`.
        settings: `CompareSettings`. None makes them from `options`.
        progress: Object with the methods of `run_folder.Silent`; None for silence.
        overwrite: Boolean, whether an earlier comparison at `out` is replaced.
        **options: Fields of `CompareSettings`, such as `strategies="head,full", epochs=10`.

    Returns:
        `CompareResult`. A row has `strategy`, `frozen_layers` and `layers` (those with weights),
        `trainable_weights` at the end, `seconds` of one training (mean), `score` on the examples
        held out with `mean`, `std` and `each`, `peak_memory`, bytes of the whole process, and
        `difference`, a dict of `tasks.Paired` (None of the probe): the score minus the probe's of
        the same seed on the same examples, over all seeds. Its interval is about other examples;
        what other seeds would give is not in it.

    Raises:
        ValueError, OSError: For settings or data that cannot be used, before any training.
        RuntimeError: If a training fails.

    Example:
        >>> options = {"strategies": "head", "seeds": 1, "epochs": 1, "backbone": "glyphnet"}
        >>> rows = compare(pictures, home / "comparison", **options).rows
        >>> [row["strategy"] for row in rows], rows[1]["difference"]["num_examples"] > 0
        (['probe', 'head'], True)
    """
    source = find_source(data)  # what is wrong with the data is told before any training
    settings = source.settled(CompareSettings.of(settings, options))
    progress = progress or Silent()
    for name in ADAPTED:
        if name in settings.names:  # what they could not act on is told before any training, too
            training.check_adapters(source, settings.for_strategy(name))
    started = time.perf_counter()
    default = "saved_models", f"{run_name_for(data, settings)}-comparison"
    with RunFolder(out or free_name(*default), overwrite=overwrite) as run:
        objective = source.objective.by(settings.metric)
        rows, answers = [], {}
        for name in (PROBE, *(name for name in settings.names if name != PROBE)):
            first = "Solving the probe" if objective.solves else "Measuring the network"
            doing = first if name == PROBE else f"Training by {name}"
            progress.stage(doing, settings.seeds)
            path = run.work / f"{name}.npz"
            row = measure(data, settings, name, progress, answers=path)
            with np.load(path) as told:
                answers[name], targets = told["outputs"], told["targets"]
            pairs = zip(answers[name], answers[PROBE], strict=True)
            runs = [(ours, theirs, targets) for ours, theirs in pairs]
            difference = None if name == PROBE else pooled(objective, runs).to_dict()
            if name == PROBE and not objective.solves:
                row["strategy"] = LOADED
            rows.append({**row, "difference": difference})
        metrics = {
            **said_of(objective),
            "examples": source.noun,
            "rows": rows,
            "seeds": settings.seeds,
            "config": settings.to_dict(),
            "seconds": round(time.perf_counter() - started, 1),
        }
        run.write_json("metrics.json", metrics)
        table = as_markdown(rows, objective)
        run.write_lines("comparison.md", table.splitlines())
        draw_comparison(
            [_shown(row, objective) for row in rows],
            run.file("comparison.png"),
            score_name=objective.cost_name or objective.score_name,
            is_share=objective.is_share,
            title=_title(data, settings),
        )
    return CompareResult(rows, metrics, run.path)


def _title(data, settings):
    name = pathlib.Path(data).resolve().name
    return f"{settings.backbone} on {name}: {settings.epochs} epochs, {settings.seeds} seeds"


def header(objective: Objective) -> tuple[str, ...]:
    """Names of the columns of `cells`."""
    costs = "frozen layers", "trainable weights", "seconds"
    gain = "over the probe" if objective.solves else "over as loaded"
    gain = f"points {gain}" if objective.is_share else gain
    score_name = objective.cost_name or objective.score_name
    return "strategy", *costs, score_name, gain, "resolves", "memory"


def cells(row: Mapping[str, Any], objective: Objective) -> tuple[str, ...]:
    """The cells of a row of `compare` as text.

    Over the probe: the difference and its 95 % interval; whether it resolves, with what was gained
    and lost over all seeds where answers are right or wrong.

    Example:
        >>> from kerastl.tasks import Classification, Paired
        >>> cells({"strategy": "head", "frozen_layers": 3, "layers": 4, "trainable_weights": 1290,
        ...        "seconds": 2.34, "score": {"mean": 0.8, "std": 0.01, "each": [0.79, 0.81]},
        ...        "difference": Paired(0.01, -0.02, 0.04, 5, 2, 0.45, 150).to_dict(),
        ...        "peak_memory": 1_200_000_000}, Classification())[4:7]
        ('80.0 ± 1.0 %', '+1.0 (-2.0 to +4.0)', 'no: +5 -2')
    """
    row = _shown(row, objective)
    score = row["score"]
    unit, form, end = (100, ".1f", " %") if objective.is_share else (1, ".3f", "")
    spread = f" ± {unit * score['std']:{form}}" if len(score["each"]) > 1 else ""
    return (
        row["strategy"],
        f"{row['frozen_layers']} of {row['layers']}",
        f"{row['trainable_weights']:,}",
        f"{row['seconds']:.1f}",
        f"{unit * score['mean']:{form}}{spread}{end}",
        *_difference_cells(row["difference"], objective),
        f"{row['peak_memory'] / 1e6:,.0f} MB",
    )


def _shown(row, objective):
    """`row` as people read it: with the cost, where the score is minus one that they know."""
    if objective.cost_name is None:
        return row
    score, difference = row["score"], row["difference"]
    each = [-one for one in score["each"]]
    return {
        **row,
        "score": {"mean": -score["mean"], "std": score["std"], "each": each},
        "difference": difference and Paired(**difference).turned().to_dict(),
    }


def _difference_cells(difference, objective):
    if difference is None:
        return "-", "-"
    found = Paired(**difference)
    counts = "" if found.p is None else f": +{found.gained} -{found.lost}"
    text = found.text(is_share=objective.is_share).replace(" points", "")  # the header says it
    return text, ("yes" if found.resolves else "no") + counts


def as_markdown(rows: Iterable[Mapping[str, Any]], objective: Objective) -> str:
    """The rows of `compare` as a Markdown table."""
    names = header(objective)
    lines = [names, ("---",) * len(names), *(cells(row, objective) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def measure(
    data: PathLike, settings: CompareSettings, name: str, progress: Progress, *, answers: PathLike
) -> dict[str, Any]:
    """Train by one strategy once a seed in a fresh process; return the row of the table.

    Args:
        data: Path of the data.
        settings: `CompareSettings`; its `seed` is the first of `seeds` seeds in a row.
        name: The strategy, or `"probe"`.
        progress: Object with `count(done, total)`.
        answers: File to write what the models gave for the examples held out, `.npz`.

    Raises:
        ValueError: For what the worker finds unusable.
        RuntimeError: If it dies.
    """
    job = {
        "data": str(data),
        "settings": settings.for_strategy(name).to_dict(),
        "seeds": settings.seeds,
        "answers": str(pathlib.Path(answers).resolve()),
    }
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
            f"Training by {name!r} ended with code {process.returncode}: "
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
