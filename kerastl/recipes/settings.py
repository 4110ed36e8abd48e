"""The settings of a tuning run, checked before any work is done."""

import dataclasses

from kerastl._base import checks
from kerastl.compression.sparsity import check_patterns, check_sparsity
from kerastl.data import AUGMENTATIONS
from kerastl.export.quantization import MODES, checked
from kerastl.plans import strategies
from kerastl.recipes.device_files import QUANTIZATIONS

EXPORTS = ("none", *QUANTIZATIONS)
AUGMENTS = ("none", "light", "medium", "strong")


@dataclasses.dataclass(frozen=True)
class TuneConfig:
    """How to tune. Plain data: equal when equal, and saved as `config.json` in the run folder.

    Attributes:
        backbone: A name that `backbones.load` knows, a preset or a `.keras` file.
        weights: `"imagenet"`, None for random ones, or the path of a weights file.
        alpha: Float, width multiplier of the networks that have one, or None.
        strategy: `"head"`, `"partial"`, `"full"` or `"gradual"`; see `strategies.by_name`.
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
        checks.one_of(self.strategy, strategies.NAMES, "strategy")
        checks.one_of(self.export, EXPORTS, "export")
        checks.one_of(self.augment, AUGMENTS, "augment")
        if self.augmented_copies is not None:
            checks.whole(self.augmented_copies, 1, 10_000, "augmented_copies")
        checks.whole(self.epochs, 1, 100_000, "epochs")
        checks.whole(self.batch_size, 1, 100_000, "batch_size")
        checks.whole(self.seed, 0, 2**31 - 1, "seed")
        checks.in_range(self.learning_rate, 1e-12, 1e3, "learning_rate")
        checks.in_range(self.averaging, 0.0, 0.99, "averaging", "a share")
        checks.in_range(self.dropout, 0.0, 0.99, "dropout")
        checks.in_range(self.validation, 0.0, 0.5, "validation", "a share")
        checks.in_range(self.label_smoothing, 0.0, 0.99, "label_smoothing")
        checks.in_range(self.weight_decay, 0.0, 10.0, "weight_decay")
        if self.image_size is not None:
            checks.whole(self.image_size, 1, 10_000, "image_size")

    @property
    def averages(self):
        """Whether the weights are averaged."""
        return self.averaging > 0 and self.strategy in strategies.PLAIN

    @property
    def options(self):
        """Options of the backbone that were given."""
        return {} if self.alpha is None else {"alpha": self.alpha}


@dataclasses.dataclass(frozen=True)
class CompressConfig:
    """How to compress. Plain data: equal when equal, and saved as `config.json`.

    Attributes:
        prune: Sparsity in [0, 1), share of the weights of all kernels but the head's and depthwise
            ones that become zero; or None. Kernels with less than a hundredth of these weights
            stay dense, and the others make up for them.
        block_size: Pair of ints > 0, as in `compression.MagnitudePruning`.
        m_by_n: Pair such as `(2, 4)`, in place of `prune`, as in `MagnitudePruning`; or None.
        prune_channels: Float in (0, 1), share of whole channels to take away; or None.
        qat: Boolean, whether the model trains with its quantization before the int8 file is
            written; else that is calibrated on training pictures.
        epochs: Int > 0, of each stage that trains.
        learning_rate: Float > 0, peak rate of each of these trainings, the same in all layers; a
            tenth of it where zeros were made up for by the other weights, a thirtieth with
            quantization in the loop.
        distill: Float in [0, 1], share of the answers of the model as it was in what each stage
            learns; the rest are labels.
        batch_size: Int > 0.
        augment: `"none"`, `"light"`, `"medium"` or `"strong"`.
        seed: Int, of shuffling and augmentation. It also divides the pictures of a model whose run
            is unknown. None is the seed of the model's run.
        max_drop: Float in [0, 1], how much accuracy a calibrated file may lose. Where int8 loses
            more, files with layers in float are tried; see `export.to_litert_within`.
        label_smoothing: Float in [0, 1).
        weight_decay: Float, decoupled, not applied to biases and norms.
        validation: Float in [0, 0.5], share of the training pictures held back to judge `max_drop`
            on where DATA has no `val/`. By default it is judged on the pictures that train.
        strict: Boolean, whether unreadable files stop the run.
        cache_dir: Folder for decoded pictures, needed when they do not fit in memory.
    """

    prune: float | None = None
    block_size: tuple = (1, 1)
    m_by_n: tuple | None = None
    prune_channels: float | None = None
    qat: bool = False
    epochs: int = 10
    learning_rate: float = 3e-3
    distill: float = 0.5
    batch_size: int = 32
    augment: str = "light"
    seed: int | None = None
    max_drop: float = 0.01
    label_smoothing: float = 0.1
    weight_decay: float = 1e-4
    validation: float = 0.0
    strict: bool = False
    cache_dir: str | None = None

    def __post_init__(self):
        if self.prune is not None:
            check_sparsity(self.prune, "prune")
        self._check_patterns()
        if self.prune_channels is not None and not check_sparsity(
            self.prune_channels, "prune_channels"
        ):
            raise ValueError(
                "`prune_channels` must be a share in (0, 1). Received: prune_channels=0"
            )
        checks.one_of(self.augment, AUGMENTATIONS, "augment")
        checks.whole(self.epochs, 1, 100_000, "epochs")
        checks.whole(self.batch_size, 1, 100_000, "batch_size")
        if self.seed is not None:
            checks.whole(self.seed, 0, 2**31 - 1, "seed")
        checks.in_range(self.learning_rate, 1e-12, 1e3, "learning_rate")
        checks.in_range(self.distill, 0.0, 1.0, "distill", "a share")
        checks.in_range(self.max_drop, 0.0, 1.0, "max_drop")
        checks.in_range(self.validation, 0.0, 0.5, "validation", "a share")
        checks.in_range(self.label_smoothing, 0.0, 0.99, "label_smoothing")
        checks.in_range(self.weight_decay, 0.0, 10.0, "weight_decay")

    def _check_patterns(self):
        block_size, m_by_n = check_patterns(self.block_size, self.m_by_n)
        if self.prune is not None and m_by_n is not None:
            raise ValueError(
                "Pass `prune` or `m_by_n`, which is a sparsity of m / n. "
                f"Received: prune={self.prune}, m_by_n={self.m_by_n}"
            )
        if self.prune is None and block_size != (1, 1):
            raise ValueError(
                f"`block_size` needs `prune`, a sparsity. Received: block_size={self.block_size}"
            )

    @property
    def prunes(self):
        """Whether weights become zero."""
        return self.prune is not None or self.m_by_n is not None


FORMATS = ("litert", "saved_model", "onnx")
QUANTIZE = ("none", "float16", "dynamic", "int8", "int16x8")
# What is tried when one way to quantize loses too much.
LADDERS = {
    "float16": ("float16",),
    "dynamic": ("dynamic", "float16"),
    "int8": ("int8", "int8_mixed", "dynamic", "float16"),
    "int16x8": ("int16x8", "dynamic", "float16"),
}


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """How to export. Plain data: equal when equal.

    Attributes:
        quantize: `"none"`, `"float16"`, `"dynamic"`, `"int8"` or `"int16x8"`.
        max_drop: Float in [0, 1], how much lower the accuracy of the file may be. Where a file
            loses more, others are tried by `export.to_litert_within`. None takes the file as it is.
        io_dtype: Dtype of the file's inputs and outputs, as in `export.to_litert`.
        format: `"litert"`, `"saved_model"` or `"onnx"`.
        seed: Int that divides the pictures of a model of unknown seed.
    """

    quantize: str = "none"
    max_drop: float | None = None
    io_dtype: str = "float32"
    format: str = "litert"
    seed: int = 0

    def __post_init__(self):
        checks.one_of(self.quantize, QUANTIZE, "quantize")
        checks.one_of(self.format, FORMATS, "format")
        checks.whole(self.seed, 0, 2**31 - 1, "seed")
        checked(self.quantization, self.io_dtype)
        if self.max_drop is not None:
            checks.in_range(self.max_drop, 0.0, 1.0, "max_drop")
            self._check_ladder()
        if self.format != "litert" and (self.quantize, self.io_dtype) != ("none", "float32"):
            raise ValueError(
                "`quantize` and `io_dtype` are for the format 'litert'. Received: "
                f"format={self.format!r}, quantize={self.quantize!r}, io_dtype={self.io_dtype!r}"
            )

    def _check_ladder(self):
        if self.quantize == "none":
            raise ValueError(
                "`max_drop` is for a quantized file. Received: quantize='none'. "
                "Pass quantize='int8' (--quantize int8), say."
            )
        if self.io_dtype != "float32":
            raise ValueError(
                "With `max_drop` the file takes and gives float32, since it need not become int8. "
                f"Received: io_dtype={self.io_dtype!r}. Leave one of the two out."
            )

    def check_data(self, data, has_ranges=False):
        """Refuse settings that need pictures where `data` is None.

        Args:
            data: Folder, or None.
            has_ranges: Boolean, whether the model brings the ranges that int8 needs.
        """
        if data is not None:
            return
        if MODES[self.quantization].calibrated and not (self.quantize == "int8" and has_ranges):
            raise ValueError(
                f"`quantize={self.quantize!r}` needs `data` (--data), a folder of pictures as in "
                "training, to measure the ranges of activations on. Received: None. "
                "About 100 pictures are enough."
            )
        if self.max_drop is not None:
            raise ValueError(
                "`max_drop` needs `data` (--data), a folder of pictures to measure the accuracy "
                "on. Received: None"
            )

    @property
    def quantization(self):
        """`quantize` as `export.to_litert` names it."""
        return None if self.quantize == "none" else self.quantize
