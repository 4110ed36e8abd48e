"""`find_learning_rate`: data in, a learning rate and the curve behind it out."""

import itertools
import os
import pathlib
from typing import Any

import keras

from kerastl._base import files
from kerastl._base.types import PathLike
from kerastl.callbacks import LRFinderResult, lr_find
from kerastl.freezing import freeze, unfreeze
from kerastl.recipes import adapting, training
from kerastl.recipes.run_folder import Progress, Silent
from kerastl.report import draw_lr_curve
from kerastl.tasks import find_source
from kerastl.tasks.settings import LRFindSettings


def find_learning_rate(
    data: PathLike,
    out: PathLike = "lr_find.png",
    *,
    settings: LRFindSettings | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> LRFinderResult:
    """Find the learning rate for `fine_tune` on data, and draw the curve.

    The network is that of `fine_tune` in the last phase of its strategy, so that the rate is that
    of the head, and layers below it learn more slowly by the strategy's multipliers.

    Args:
        data: Path, as `fine_tune` takes it.
        out: PNG file to write; one that is there is replaced.
        settings: `LRFindSettings`. None makes them from `options`.
        progress: Object with the methods of `run_folder.Silent`; None for silence.
        **options: Fields of `LRFindSettings`, such as `backbone="resnet50", strategy="head"`.

    Returns:
        `LRFinderResult`.

    Raises:
        ValueError, OSError: For settings, data or a file that cannot be used, before training.

    Example:
        >>> options = {"backbone": "glyphnet", "strategy": "head", "steps": 20, "batch_size": 8}
        >>> result = find_learning_rate(pictures, home / "curve.png", **options)
        >>> sorted(result.suggestions)
        ['minimum', 'slide', 'steep', 'valley']
    """
    asked = LRFindSettings.of(settings, options)
    progress = progress or Silent()
    out = _checked_file(out)
    source = find_source(data)  # what is wrong with the data is told before anything is loaded
    settings = source.settled(asked)
    model, examples = training.begin(source, settings, progress)
    _bring_to_last_phase(model, examples, settings)
    progress.stage("Raising the learning rate", settings.steps)
    result = _ramp(model, examples, settings, progress)
    name = pathlib.Path(data).resolve().name
    _write(result, out, f"{settings.backbone}, {settings.strategy}, on {name}")
    return result


def _bring_to_last_phase(model, examples, settings):
    """Compile `model`, with the groups training that the strategy trains at its end."""
    plan = training.plan_for(model, examples, settings)
    adapting.add_for(model, plan, settings.seed)
    training.compile_for(model, examples, settings, plan)
    if plan.start == "probe":
        training.solve(model, examples, settings)
    phase = plan.resolve(model.groups).phases[-1]
    groups = model.groups
    frozen = [
        layer for name in groups.names if name not in phase.training for layer in groups[name]
    ]
    if frozen:
        freeze(model, frozen)
    unfreeze(model, [layer for name in phase.training for layer in groups[name]])
    model.set_multipliers({name: phase.multipliers[name] for name in phase.training})


def _ramp(model, examples, settings, progress):
    done = itertools.count(1)
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: progress.count(next(done), settings.steps)
    )
    return lr_find(
        model,
        training.batches(examples, settings),
        num_steps=settings.steps,
        class_weight=examples.objective.class_weight(examples),
        callbacks=[count],
    )


def _checked_file(out):
    out = pathlib.Path(out)
    if out.suffix.lower() != ".png" or out.is_dir():
        raise ValueError(f"`out` must be a .png file. Received: out={str(out)!r}")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise OSError(f"{out} cannot be written: {out.parent} is no folder one may write in")
    return out


def _write(result, out, title):
    """Draw beside `out` and move it there, so that it is never half a file."""
    with files.replacing(out) as partial:
        draw_lr_curve(result, partial, title=title)
