"""`find_learning_rate`: pictures in, a learning rate and the curve behind it out."""

import itertools
import os
import pathlib

import keras

from kerastl._base import checks
from kerastl.callbacks import lr_find
from kerastl.data import scan_images
from kerastl.freezing import freeze, unfreeze
from kerastl.recipes import training
from kerastl.recipes.run_folder import Silent
from kerastl.recipes.settings import TuneConfig
from kerastl.report import draw_lr_curve


def find_learning_rate(data, out="lr_find.png", *, steps=100, progress=None, **settings):
    """Find the learning rate for `fine_tune` on a folder of pictures, and draw the curve.

    The network is that of `fine_tune` in the last phase of its strategy, so that the rate is that
    of the head, and layers below it learn more slowly by the strategy's multipliers.

    Args:
        data: Folder of class folders, or one with `train/` and `val/` or `test/` in it.
        out: PNG file to write; one that is there is replaced.
        steps: Int >= 10, steps of the ramp.
        progress: Object with the methods of `tune.progress.Silent`; None for silence.
        **settings: Fields of `TuneConfig`, such as `backbone="resnet50", strategy="head"`.

    Returns:
        `LRFinderResult`.

    Raises:
        ValueError, OSError: For settings, data or a file that cannot be used, before training.
    """
    config = TuneConfig(**{"augment": "none", **settings})
    checks.whole(steps, 10, 1_000_000, "steps")
    progress = progress or Silent()
    out = _checked_file(out)
    scan_images(data)  # what is wrong with the folders is told before anything is loaded
    keras.utils.set_random_seed(config.seed)
    progress.stage(f"Loading {config.backbone}")
    backbone = training.load_backbone(config)
    progress.stage("Reading pictures")
    images = training.read(data, backbone, config, progress.count)
    model = _in_last_phase(backbone, images, config)
    training.adapt(model, images, config)
    progress.stage("Raising the learning rate", steps)
    result = _ramp(model, images, config, steps, progress)
    name = pathlib.Path(data).resolve().name
    _write(result, out, f"{config.backbone}, {config.strategy}, on {name}")
    return result


def _in_last_phase(backbone, images, config):
    """The compiled network with the groups training that the strategy trains at its end."""
    num_classes = len(images.class_names)
    model = training.build(backbone, num_classes, dropout=config.dropout, name="tuned")
    plan = training.compile_for(model, config, len(images.train))
    phase = plan.resolve(model.groups).phases[-1]
    groups = model.groups
    frozen = [
        layer for name in groups.names if name not in phase.training for layer in groups[name]
    ]
    if frozen:
        freeze(model, frozen)
    unfreeze(model, [layer for name in phase.training for layer in groups[name]])
    model.set_multipliers({name: phase.multipliers[name] for name in phase.training})
    return model


def _ramp(model, images, config, steps, progress):
    batches = training.batches(images, config)
    done = itertools.count(1)
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: progress.count(next(done), steps)
    )
    weights = training.weights(images)
    return lr_find(model, batches, num_steps=steps, class_weight=weights, callbacks=[count])


def _checked_file(out):
    out = pathlib.Path(out)
    if out.suffix.lower() != ".png" or out.is_dir():
        raise ValueError(f"`out` must be a .png file. Received: out={str(out)!r}")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise OSError(f"{out} cannot be written: {out.parent} is no folder one may write in")
    return out


def _write(result, out, title):
    """Draw beside `out` and move it there, so that it is never half a picture."""
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        draw_lr_curve(result, partial, title=title)
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
