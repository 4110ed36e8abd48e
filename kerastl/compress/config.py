"""The settings of a compression, checked before any work is done."""

import dataclasses

from kerastl import _checks
from kerastl.compression.patterns import check_patterns
from kerastl.compression.sparsity_schedules import check_sparsity
from kerastl.data import AUGMENTATIONS


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
        _checks.one_of(self.augment, AUGMENTATIONS, "augment")
        _checks.whole(self.epochs, 1, 100_000, "epochs")
        _checks.whole(self.batch_size, 1, 100_000, "batch_size")
        if self.seed is not None:
            _checks.whole(self.seed, 0, 2**31 - 1, "seed")
        _checks.in_range(self.learning_rate, 1e-12, 1e3, "learning_rate")
        _checks.in_range(self.distill, 0.0, 1.0, "distill", "a share")
        _checks.in_range(self.max_drop, 0.0, 1.0, "max_drop")
        _checks.in_range(self.validation, 0.0, 0.5, "validation", "a share")
        _checks.in_range(self.label_smoothing, 0.0, 0.99, "label_smoothing")
        _checks.in_range(self.weight_decay, 0.0, 10.0, "weight_decay")

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
