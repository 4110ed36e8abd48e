"""Begin a run: load its network, read its examples, give it a head; and train it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerastl._base.types import PathLike
from kerastl.adaptation import adapt_batch_norm
from kerastl.callbacks import Audit, EvaluateAverages, FollowPlan, Resume
from kerastl.plans import TrainingWork, TransferPlan, strategies
from kerastl.recipes import adapting
from kerastl.recipes.run_folder import Progress
from kerastl.tasks.protocols import Source, TaskData
from kerastl.tasks.settings import (
    CHOSEN,
    FEW_SHOT,
    STARTS,
    CompressSettings,
    StrategySettings,
)
from kerastl.training import FineTuner, Probe, SamePairs, solve_head

OF_PAIRS = 10  # steps at least of what counts as an epoch where pairs of few examples are learnt
VIEWS = 2  # augmented views of each example that a probe tries where nobody says how many
HEAD = "head_dropout"  # the layer with which the head of a run begins
RANGED = 64  # training examples at most whose range is compared with what a backbone takes
ADAPTED = 2000  # training examples at most that statistics are measured on


def begin(
    source: Source, settings: StrategySettings, progress: Progress
) -> tuple[FineTuner, TaskData]:
    """The network of a run with a new head, and all examples of `source`, read and checked.

    The same settings give the same network, whatever was begun before.
    """
    keras.utils.set_random_seed(settings.seed)
    progress.stage(f"Loading {settings.backbone}")
    backbone = source.load_backbone(settings)
    progress.stage(f"Reading {source.noun}")
    prepare = source.prepare_for(backbone, settings)
    read = source.read(prepare, settings, seed=settings.seed, progress=progress.count)
    data = dataclasses.replace(read, objective=read.objective.by(settings.metric))
    data = dataclasses.replace(data, notices=(*data.notices, *_told_weights(data)))
    data.objective.check_data(data)
    model = build(backbone, data, dropout=settings.dropout, name="tuned")
    adapt(model, data, settings)
    adapting.check(model, settings)
    return model, data


def _told_weights(data):
    """A notice of how much an example of a class counts where classes are far from even."""
    weights = data.objective.class_weight(data)
    if weights is None:
        return ()
    least, most = min(weights, key=weights.__getitem__), max(weights, key=weights.__getitem__)
    return (
        "Classes are of unlike size, and each counts alike in what is learnt: one of the "
        f"{data.prepare.noun} of {data.outputs[least]!r} counts {weights[least]:.2g}, one of "
        f"{data.outputs[most]!r} {weights[most]:.2g}.",
    )


def build(backbone: keras.Model, data: TaskData, *, dropout: float, name: str) -> FineTuner:
    """A `FineTuner`: `backbone`, dropout and the head of what is learnt of `data`, a `TaskData`.

    Of a backbone that is the model of a run, the head is left out. One that says of itself that
    it takes other values is refused. Where what is learnt needs no new head, it is the backbone.
    """
    data.prepare.check_backbone(backbone, data.train.sample(RANGED)[0])
    if not data.objective.solves:  # the network has its own outputs, and nothing is new in it
        return FineTuner.from_model(backbone, name=name)
    outputs = data.objective.head(_below_head(backbone, dropout), data)
    return FineTuner.from_model(keras.Model(backbone.input, outputs), name=name)


def check_adapters(source: Source, settings: StrategySettings) -> None:
    """Refuse settings by which the network of a run could get no adapters, before data are read.

    Raises:
        ValueError: As `adapting.check`.
    """
    backbone = source.load_backbone(settings)
    model = FineTuner.from_model(backbone)
    if source.objective.solves:  # with a head, since the groups are those of all layers
        outputs = keras.layers.Dense(1)(_below_head(backbone, settings.dropout))
        model = FineTuner.from_model(keras.Model(backbone.input, outputs))
    adapting.check(model, settings)


def _below_head(backbone, dropout):
    return keras.layers.Dropout(dropout, name=HEAD)(_features(backbone))


def _features(backbone):
    """What `backbone` gives, or gave before it got the head of an earlier run."""
    heads = [layer for layer in backbone.layers if layer.name == HEAD]
    return heads[0].input if heads else backbone.output


def adapt(model: FineTuner, data: TaskData, settings: StrategySettings) -> None:
    """Give the batch normalizations of a pretrained network the statistics of `data.train`.

    They stand still in training, so they had better be those of the examples at hand.
    """
    if not settings.adapt_statistics or settings.weights is None:
        return
    # At random: in a batch of one class its own mean would be taken away.
    rows = np.random.default_rng(settings.seed).permutation(len(data.train))[:ADAPTED]
    starts = range(0, len(rows), settings.batch_size)
    chosen = (np.sort(rows[start : start + settings.batch_size]) for start in starts)
    adapt_batch_norm(model, (data.train.inputs(part) for part in chosen))


def batches(data: TaskData, settings: StrategySettings | CompressSettings) -> tf.data.Dataset:
    """The dataset to train on, shuffled and augmented as `settings` say."""
    return data.train.batches(settings.batch_size, seed=settings.seed, augment=settings.augment)


def plan_for(model: FineTuner, data: TaskData, settings: StrategySettings) -> TransferPlan:
    """The plan that `settings` name.

    Of few examples a pass has few steps, so that an epoch of `few_shot` is as many passes as make
    ten steps: 200 in the 20 epochs where nobody says how many.

    Layers below the head learn more slowly, by the plan's multipliers. Where weights are averaged,
    the rate stands still, after a warm-up if the head knows something: their average settles in its
    place. Thaws are joined where tracing takes longer than the epochs it serves.
    """
    if settings.strategy == "probe":
        return strategies.probe(model.groups)
    start: Any = STARTS[settings.start] if data.objective.solves else "trained"
    steady = None if start == "as_is" else strategies.WARMUP
    return strategies.by_name(
        settings.strategy,
        model.groups,
        epochs=settings.epochs * passes_of(settings, len(data.train)),
        learning_rate=rate_of(settings),
        schedule=steady if settings.averages else strategies.COSINE,
        start=start,
        work=work_for(model, data, settings),
        **settings.of_adapters,
    )


def passes_of(settings: StrategySettings, num_train: int) -> int:
    """How many passes over `num_train` examples count as an epoch of the strategy of `settings`."""
    if settings.strategy != FEW_SHOT:
        return 1
    return math.ceil(OF_PAIRS / math.ceil(num_train / settings.batch_size))


def rate_of(settings: StrategySettings | CompressSettings) -> float:
    """The peak rate that `settings` say, or the default of settings that no source has settled."""
    return settings.usual_rate if settings.learning_rate is None else settings.learning_rate


def compile_for(
    model: FineTuner, data: TaskData, settings: StrategySettings, plan: TransferPlan
) -> None:
    """Compile `model` for `plan`."""
    steps = plan.epochs * math.ceil(len(data.train) / settings.batch_size)
    averaged = settings.averaging * steps if settings.averages else 0
    pairs = {"terms": [SamePairs()]} if settings.strategy == FEW_SHOT else {}
    compile_at_peak(model, data, settings, averaged=averaged, **pairs)


def solve(model: FineTuner, data: TaskData, settings: StrategySettings, **options: Any) -> Probe:
    """Solve the head of `model` on `data.train`; see `training.solve_head`."""
    return solve_head(
        model,
        batches(data, settings),
        class_weight=data.objective.class_weight(data),
        seed=settings.seed,
        **options,
    )


def views_of(settings: StrategySettings) -> int:
    """How many augmented views of each example a probe tries that is the last word, or may be."""
    if settings.augment == "none" or settings.strategy not in CHOSEN:
        return 0
    return settings.augmented_copies or VIEWS


def work_for(model: FineTuner, data: TaskData, settings: StrategySettings) -> TrainingWork:
    """What training `model` as `settings` say computes: nothing of it is of this machine."""
    return TrainingWork.of(
        model,
        model.groups,
        examples=len(data.train),
        batch_size=settings.batch_size,
        copies=1 if settings.augment == "none" else settings.augmented_copies or 0,
    )


def compile_at_peak(
    model: FineTuner,
    data: TaskData,
    settings: StrategySettings | CompressSettings,
    *,
    averaged: float = 0.0,
    **options: Any,
) -> None:
    """Compile `model` with AdamW at the peak rate, which a plan's schedule leads over the steps.

    Args:
        model: `FineTuner`.
        data: `TaskData`.
        settings: `StrategySettings` or `CompressSettings`.
        averaged: Float >= 0, the time constant in steps of the moving averages of the weights,
            which `fit` puts in their place when it ends. None are kept if it is at most 1.
        **options: Further arguments of `compile`.
    """
    average = {"use_ema": True, "ema_momentum": 1 - 1 / averaged} if averaged > 1 else {}
    model.compile(
        keras.optimizers.AdamW(
            rate_of(settings),
            weight_decay=settings.weight_decay,
            global_clipnorm=1.0,
            **average,
        ),
        no_decay=True,
        **data.objective.compile_args(data, settings),
        **options,
    )


def train(
    model: FineTuner,
    data: TaskData,
    settings: StrategySettings,
    plan: TransferPlan,
    *,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoints: PathLike | None = None,
) -> Any:
    """Train `model` on `data.train` by `plan`.

    Args:
        model: `FineTuner` over the backbone and its new head.
        data: `TaskData`.
        settings: `StrategySettings`.
        plan: `TransferPlan`, such as `plan_for` gives it.
        callbacks: Further Keras callbacks.
        checkpoints: Folder in which a training that is stopped finds where to go on, or None.

    Returns:
        The `History` callback; its `frozen_features` says in which epochs frozen layers were
        computed from a cache, its `seconds` how long tracing took.

    Raises:
        FloatingPointError: If the loss is no longer a number.
    """
    compile_for(model, data, settings, plan)
    passes = max(1, plan.epochs // settings.epochs)  # of what counts as an epoch
    resume = [Resume(checkpoints, epochs=passes)] if checkpoints else []
    history = model.fit(
        batches(data, settings),
        epochs=plan.epochs,
        validation_data=data.val.batches(settings.batch_size) if len(data.val) else None,
        class_weight=data.objective.class_weight(data),
        callbacks=[
            FollowPlan(plan),
            Audit(),
            EvaluateAverages(),
            keras.callbacks.TerminateOnNaN(),
            *callbacks,
            *resume,
        ],
        verbose=0,
        augmented_copies=settings.augmented_copies,
    )
    check_losses(history.history["loss"], settings)
    return history


def check_losses(losses: Sequence[float], settings: StrategySettings | CompressSettings) -> None:
    """Refuse the losses of the epochs of a training that stopped being numbers.

    Raises:
        FloatingPointError: If they did.
    """
    if len(losses) < settings.epochs or losses[-1] != losses[-1]:
        raise FloatingPointError(
            f"The loss stopped being a number in epoch {len(losses)}. "
            "Lower --learning-rate (a tenth of it is a good next try). "
            f"Received: learning_rate={rate_of(settings)}"
        )


def cache_summary(report: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What `History.frozen_features` says, for `metrics.json`.

    Returns:
        Dict with `epochs`, those trained on features of frozen layers that were computed once;
        `seconds`, spent computing them; `seconds_saved`, about what the frozen layers would have
        taken in these epochs besides; and `reason`, why the first epoch had no cache, or None.

    Example:
        >>> row = {"reason": "the frozen part is computed once", "cached": True}
        >>> cache_summary([{**row, "seconds": 3.0}, {**row, "seconds": 0.0}])["seconds_saved"]
        3.0
    """
    cached = [row for row in report if row["cached"]]
    passes = [row["seconds"] for row in cached if row["seconds"] > 0.01]
    spent, each = sum(passes), min(passes, default=0.0)
    return {
        "epochs": len(cached),
        "seconds": round(spent, 1),
        "seconds_saved": round(max(0.0, len(cached) * each - spent), 1),
        "reason": report[0]["reason"] if report and not report[0]["cached"] else None,
    }
