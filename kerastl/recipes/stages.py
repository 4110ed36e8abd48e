"""The stages of a compression that change the Keras model: each makes it smaller and trains it."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Literal

import keras

from kerastl._base.types import PathLike
from kerastl.callbacks import Audit, FollowPlan, Resume
from kerastl.compression import prune_channels, prune_weights, quantize_aware, strip
from kerastl.compression.kernels import find_kernels
from kerastl.distillation import Distill
from kerastl.plans import Phase, TransferPlan
from kerastl.plans.strategies import COSINE
from kerastl.recipes import training
from kerastl.recipes.run_folder import Progress, Silent
from kerastl.tasks import TaskData
from kerastl.tasks.settings import CompressSettings
from kerastl.training import FineTuner

SCORED = 500  # training examples by which channels are chosen
FITTED = 256  # training examples that the weights that stay are fitted to
# Of the rate of other stages, where zeros were made up for: they fit what the network gave already.
SLOWER_WITH_ZEROS = 1 / 10
# A tenth of what it is in pretraining: a stage has tens of steps, not tens of thousands, and
# batch normalizations must have forgotten by its end what the network was like before.
MOMENTUM = 0.9
# Of the rate of other stages: the network is trained, it only learns to round.
SLOWER_WITH_ROUNDING = 1 / 30
SEEN = 500  # training examples that ranges start from
LARGE = 0.01  # of the weights: a kernel with fewer stays dense
MOST = 0.95  # zeros in a kernel, to make up for those that stay dense


@dataclasses.dataclass(frozen=True)
class StageJob:
    """What stages train on and by.

    Attributes:
        data: `TaskData`.
        settings: `CompressSettings` with a seed.
        teacher: The model as it was before any stage, a copy that stages do not change; or None to
            learn from labels alone.
        progress: Object with the methods of `run_folder.Silent`.
        checkpoints: Folder in which the training of a stage that is stopped finds where to go on,
            or None.
    """

    data: TaskData
    settings: CompressSettings
    teacher: keras.Model | None = None
    progress: Progress = dataclasses.field(default_factory=Silent)
    checkpoints: PathLike | None = None

    def slower(self, factor: float) -> "StageJob":
        """The same at `factor` times the learning rate."""
        slower = factor * training.rate_of(self.settings)
        settings = dataclasses.replace(self.settings, learning_rate=slower)
        return dataclasses.replace(self, settings=settings)


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: String, its row.
        what: String, shown while it runs.
        run: Function of `(model, job)`, a `StageJob`, that returns the changed model and the
            history of its training.
        rounds: Boolean, whether the changed model computes with the rounding of int8.
    """

    name: str
    what: str
    run: Callable[..., Any]
    rounds: bool = False


def stages_of(settings: CompressSettings) -> list["Stage"]:
    """The stages that `settings` ask for, in order."""
    made = []
    if settings.prune_channels is not None:
        share = f"{settings.prune_channels:.0%}"
        made.append(Stage("channels", f"Taking {share} of the channels", take_channels))
    if settings.prunes:
        made.append(Stage("pruned", "Making weights zero and training the others", prune))
    if settings.qat:
        what = "Training with quantization in the loop"
        made.append(Stage("qat", what, train_quantized, rounds=True))
    return made


def take_channels(model: FineTuner, job: "StageJob") -> tuple[FineTuner, dict[str, Any]]:
    """Fewer channels, chosen and made up for by what they say of training examples."""
    inputs, _ = job.data.train.sample(SCORED)
    share: Any = job.settings.prune_channels  # there is one where there is this stage
    smaller, _ = prune_channels(model, share, data=inputs)
    smaller = FineTuner.from_model(smaller)
    return smaller, retrain(smaller, job)


def prune(model: FineTuner, job: "StageJob") -> tuple[FineTuner, dict[str, Any]]:
    """Zeros, made up for by the weights that stay, which then train with them held."""
    settings, (where, target) = job.settings, (None, None)
    if settings.m_by_n is None:
        where, target = _for_all(model, settings.prune)
    inputs, _ = job.data.train.sample(FITTED)
    report = prune_weights(
        model,
        target,
        inputs,
        where,
        block_size=settings.block_size,
        m_by_n=settings.m_by_n,
        progress=job.progress.count,
    )
    if all(row.error is not None for row in report.layers):
        history = retrain(model, job.slower(SLOWER_WITH_ZEROS), batch_norm="inference")
    else:
        history = retrain(model, job)
    return strip(model), history


def _for_all(model, target):
    """The layers to prune, and the sparsity there that makes `target` of all.

    Layers near the input have few weights, each used at many places: zeros there cost most and
    save least.
    """
    kernels = [k for k in find_kernels(model)[0] if not isinstance(k.layer, keras.layers.Embedding)]
    total = sum(kernel.size for kernel in kernels)
    large = [kernel for kernel in kernels if kernel.size >= LARGE * total]
    raised = target * total / max(1, sum(kernel.size for kernel in large))
    if raised > MOST:
        return None, target
    return [kernel.layer for kernel in large], raised


def retrain(
    model: FineTuner, job: "StageJob", *, batch_norm: Literal["train", "inference"] = "train"
) -> dict[str, Any]:
    """Train all of `model` on the training examples of `job`.

    With a teacher it learns what that answers, by the share `settings.distill`: few examples say
    little of what the network was, their labels less than its answers.

    A network that lost weights has other activations than its statistics tell: with these fixed,
    as they are in `tune`, it does not recover, unless its other weights have made up for them.

    Args:
        model: `FineTuner`.
        job: `StageJob`.
        batch_norm: `"train"` has batch normalizations follow the batches, `"inference"` keeps their
            statistics.

    Returns:
        Dict from metric to a list of one value an epoch.

    Raises:
        FloatingPointError: If the loss is no longer a number.
    """
    settings, data = job.settings, job.data
    phase = Phase(
        settings.epochs, "all", learning_rate=training.rate_of(settings), batch_norm=batch_norm
    )
    plan = TransferPlan([phase], name="retrain", schedule=COSINE)
    terms = []
    if job.teacher is not None and settings.distill:
        terms, model = [Distill(job.teacher, settings.distill)], FineTuner.from_model(model)
        # The answers of one that was trained on smoothed labels are smooth.
        smoothing = (1 - settings.distill) * settings.label_smoothing
        settings = dataclasses.replace(settings, label_smoothing=smoothing)
    training.compile_at_peak(model, data, settings, terms=terms)
    resume = [Resume(job.checkpoints)] if job.checkpoints else []
    with quick_statistics(model):
        history = model.fit(
            training.batches(data, settings),
            epochs=settings.epochs,
            class_weight=data.objective.class_weight(data),
            callbacks=[
                FollowPlan(plan),
                Audit(),
                keras.callbacks.TerminateOnNaN(),
                *job.progress.callbacks(),
                *resume,
            ],
            verbose=0,
        ).history
    training.check_losses(history["loss"], settings)
    return history


@contextlib.contextmanager
def quick_statistics(model: FineTuner) -> Iterator[None]:
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


def train_quantized(model: FineTuner, job: "StageJob") -> tuple[FineTuner, dict[str, Any]]:
    """The model with the rounding of int8 in it, trained; weights that were zero still are."""
    inputs, _ = job.data.train.sample(SEEN)
    aware = quantize_aware(model, inputs)
    history = retrain(aware, job.slower(SLOWER_WITH_ROUNDING))
    return strip(aware), history
