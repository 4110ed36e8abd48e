"""Train a model that was changed until it works again."""

import contextlib
import dataclasses

import keras

from kerastl.callbacks import Audit, FollowPlan, Resume
from kerastl.compress.taught import Taught
from kerastl.plan import Phase, TransferPlan
from kerastl.strategies.share import COSINE
from kerastl.tune import training

# A tenth of what it is in pretraining: a stage has tens of steps, not tens of thousands, and
# batch normalizations must have forgotten by its end what the network was like before.
MOMENTUM = 0.9


def retrain(model, task, *, batch_norm="train"):
    """Train all of `model` on the training pictures of `task`.

    With a teacher it learns what that answers, by the share `config.distill`: few pictures say
    little of what the network was, their labels less than its answers.

    A network that lost weights has other activations than its statistics tell: with these fixed,
    as they are in `tune`, it does not recover, unless its other weights have made up for them.

    Args:
        model: `FineTuner` that gives one probability a class.
        task: `Task`.
        batch_norm: `"train"` has batch normalizations follow the batches, `"inference"` keeps their
            statistics.

    Returns:
        Dict from metric to a list of one value an epoch.

    Raises:
        FloatingPointError: If the loss is no longer a number.
    """
    config, images = task.config, task.images
    phase = Phase(config.epochs, "all", learning_rate=config.learning_rate, batch_norm=batch_norm)
    plan = TransferPlan([phase], name="retrain", schedule=COSINE)
    if task.teacher is not None and config.distill:
        model = Taught.by(task.teacher, model, config.distill)
        # The answers of one that was trained on smoothed labels are smooth.
        smoothing = (1 - config.distill) * config.label_smoothing
        config = dataclasses.replace(config, label_smoothing=smoothing)
    training.compile_at_peak(model, config)
    resume = [Resume(task.checkpoints)] if task.checkpoints else []
    with quick_statistics(model):
        history = model.fit(
            training.batches(images, config),
            epochs=config.epochs,
            class_weight=training.weights(images),
            callbacks=[
                FollowPlan(plan),
                Audit(),
                keras.callbacks.TerminateOnNaN(),
                *task.progress.callbacks(),
                *resume,
            ],
            verbose=0,
        ).history
    training.check_losses(history["loss"], config)
    return history


@contextlib.contextmanager
def quick_statistics(model):
    """Have batch normalizations follow the batches ten times as fast while this lasts."""
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = min(norm.momentum, MOMENTUM)
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
