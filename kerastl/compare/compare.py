"""`compare`: train by several strategies under one budget and measure each."""

import dataclasses
import pathlib
import time

from kerastl import _checks, strategies
from kerastl.compare import table
from kerastl.compare.workers import measure
from kerastl.data import scan_images
from kerastl.report import draw_comparison
from kerastl.tune import RunFolder, TuneConfig, free_name
from kerastl.tune.progress import Silent


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
    _checks.whole(seeds, 1, 1000, "seeds")
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
        run.write_lines("comparison.md", table.as_markdown(rows).splitlines())
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
        _checks.one_of(name, strategies.NAMES, "strategies")
    return chosen


def _free_folder(data, config):
    backbone = pathlib.Path(config.backbone.replace(":", "-")).stem
    return free_name("saved_models", f"{pathlib.Path(data).resolve().name}-{backbone}-comparison")


def _title(data, config, seeds):
    name = pathlib.Path(data).resolve().name
    return f"{config.backbone} on {name}: {config.epochs} epochs, {seeds} seeds"
