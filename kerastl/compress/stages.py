"""The stages of a compression that change the Keras model: each makes it smaller and trains it."""

import dataclasses

from kerastl.compress.qat import train_quantized
from kerastl.compress.retrain import retrain
from kerastl.compression import prune_channels, prune_weights, strip
from kerastl.compression.prunable import find_kernels
from kerastl.fine_tuner import FineTuner
from kerastl.tune.device_file import some_of

SCORED = 500  # training pictures by which channels are chosen
FITTED = 256  # training pictures that the weights that stay are fitted to
SLOWER = 1 / 10  # of the rate of other stages, with zeros: they fit what the network gave already
LARGE = 0.01  # of the weights: a kernel with fewer stays dense
MOST = 0.95  # zeros in a kernel, to make up for those that stay dense


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: String, its row.
        what: String, shown while it runs.
        run: Function of `(model, task)`, a `Task`, that returns the changed model and the history
            of its training.
        rounds: Boolean, whether the changed model computes with the rounding of int8.
    """

    name: str
    what: str
    run: object
    rounds: bool = False


def stages_of(config):
    """The stages that `config` asks for, in order."""
    made = []
    if config.prune_channels is not None:
        share = f"{config.prune_channels:.0%}"
        made.append(Stage("channels", f"Taking {share} of the channels", take_channels))
    if config.prunes:
        made.append(Stage("pruned", "Making weights zero and training the others", prune))
    if config.qat:
        what = "Training with quantization in the loop"
        made.append(Stage("qat", what, train_quantized, rounds=True))
    return made


def take_channels(model, task):
    """Fewer channels, chosen and made up for by what they say of training pictures."""
    pixels, _ = some_of(task.images.train, count=SCORED)
    smaller, _ = prune_channels(model, task.config.prune_channels, data=pixels)
    smaller = FineTuner.from_model(smaller)
    return smaller, retrain(smaller, task)


def prune(model, task):
    """Zeros, made up for by the weights that stay, which then train with them held."""
    config, (where, target) = task.config, (None, None)
    if config.m_by_n is None:
        where, target = _for_all(model, config.prune)
    pixels, _ = some_of(task.images.train, count=FITTED)
    report = prune_weights(
        model,
        target,
        pixels,
        where,
        block_size=config.block_size,
        m_by_n=config.m_by_n,
        progress=task.progress.count,
    )
    if all(row.error is not None for row in report.layers):
        history = retrain(model, task.slower(SLOWER), batch_norm="inference")
    else:
        history = retrain(model, task)
    return strip(model), history


def _for_all(model, target):
    """The layers to prune, and the sparsity there that makes `target` of all.

    Layers near the input have few weights, each used at many places: zeros there cost most and
    save least.
    """
    kernels, _ = find_kernels(model)
    total = sum(kernel.size for kernel in kernels)
    large = [kernel for kernel in kernels if kernel.size >= LARGE * total]
    raised = target * total / max(1, sum(kernel.size for kernel in large))
    if raised > MOST:
        return None, target
    return [kernel.layer for kernel in large], raised
