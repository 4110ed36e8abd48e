"""The settings of a tuning run, checked before any work is done."""

import dataclasses

from kerastl import _checks, strategies
from kerastl.tune.device_file import QUANTIZATIONS

EXPORTS = ("none", *QUANTIZATIONS)
AUGMENTS = ("none", "light", "medium", "strong")


@dataclasses.dataclass(frozen=True)
class TuneConfig:
    """How to tune. Plain data: equal when equal, and saved as `config.json` in the run folder.

    Attributes:
        backbone: A name that `backbones.load` knows, a preset or a `.keras` file.
        weights: `"imagenet"`, None for random ones, or the path of a weights file.
        alpha: Float, width multiplier of the networks that have one, or None.
        strategy: `"head"`, `"partial"`, `"full"` or `"gradual"`; see `strategies.make`.
        epochs: Int > 0.
        learning_rate: Float > 0, peak rate of the head; the layers below learn more slowly.
        averaging: Float in [0, 1), the share of the training whose weights make the final ones:
            their exponential moving average, with a time constant of that share of all steps,
            while the rate stands still. 0 keeps the last weights and lets the rate fall to 0 by
            half a cosine, as `lp_ft` and `fastai` have schedules of their own.
        image_size: Int, side in pixels. None takes `backbones.transfer_size`, for most networks
            9/7 of the size the weights were trained on; random weights and presets, their own.
        batch_size: Int > 0.
        augment: `"none"`, `"light"`, `"medium"` or `"strong"`.
        augmented_copies: Int > 0, views of each augmented picture to cache at the frozen layers'
            outputs, or None to run frozen layers in every epoch where pictures are augmented.
        seed: Int, of the split, the head, dropout, shuffling and augmentation.
        export: The `.tflite` to write: `"none"`, `"float"`, `"float16"`, `"dynamic"` or `"int8"`;
            see `export.to_litert`. int8 is calibrated on training pictures.
        dropout: Float in [0, 1), before the head.
        label_smoothing: Float in [0, 1).
        weight_decay: Float, decoupled, not applied to biases and norms.
        adapt_statistics: Boolean, whether the batch normalizations of a pretrained network get the
            statistics of the training pictures before training
            (`adaptation.adapt_batch_norm`), which then stand still.
        validation: Float in [0, 0.5], share of the training pictures held back to draw validation
            curves where DATA has no `val/`. Nothing is chosen on them, so that by default they
            train.
        strict: Boolean, whether unreadable files stop the run.
        cache_dir: Folder for decoded pictures, needed when they do not fit in memory.
    """

    backbone: str = "mobilenet_v2"
    weights: str | None = "imagenet"
    alpha: float | None = None
    strategy: str = "gradual"
    epochs: int = 20
    learning_rate: float = 1e-2
    averaging: float = 0.2
    image_size: int | None = None
    batch_size: int = 32
    augment: str = "light"
    augmented_copies: int | None = None
    seed: int = 0
    export: str = "float"
    dropout: float = 0.2
    label_smoothing: float = 0.1
    weight_decay: float = 1e-4
    adapt_statistics: bool = False
    validation: float = 0.0
    strict: bool = False
    cache_dir: str | None = None

    def __post_init__(self):
        _checks.one_of(self.strategy, strategies.NAMES, "strategy")
        _checks.one_of(self.export, EXPORTS, "export")
        _checks.one_of(self.augment, AUGMENTS, "augment")
        if self.augmented_copies is not None:
            _checks.whole(self.augmented_copies, 1, 10_000, "augmented_copies")
        _checks.whole(self.epochs, 1, 100_000, "epochs")
        _checks.whole(self.batch_size, 1, 100_000, "batch_size")
        _checks.whole(self.seed, 0, 2**31 - 1, "seed")
        _checks.in_range(self.learning_rate, 1e-12, 1e3, "learning_rate")
        _checks.in_range(self.averaging, 0.0, 0.99, "averaging", "a share")
        _checks.in_range(self.dropout, 0.0, 0.99, "dropout")
        _checks.in_range(self.validation, 0.0, 0.5, "validation", "a share")
        _checks.in_range(self.label_smoothing, 0.0, 0.99, "label_smoothing")
        _checks.in_range(self.weight_decay, 0.0, 10.0, "weight_decay")
        if self.image_size is not None:
            _checks.whole(self.image_size, 1, 10_000, "image_size")

    @property
    def averages(self):
        """Whether the weights are averaged."""
        return self.averaging > 0 and self.strategy in strategies.PLAIN

    @property
    def options(self):
        """Options of the backbone that were given."""
        return {} if self.alpha is None else {"alpha": self.alpha}
