"""What pruning has done to a model: a table, and plain weights again."""

import dataclasses

import keras
import numpy as np

from kerastl._base import checks
from kerastl._base.text_table import in_columns
from kerastl.compression.kernels import all_kernels
from kerastl.compression.masks import hold, mask_of, masks_of, retrace


@dataclasses.dataclass(frozen=True)
class LayerSparsity:
    """Zeros of one kernel.

    Attributes:
        path: Path of the layer.
        shape: Tuple, shape of the kernel.
        zeros: Int, weights that are exactly zero.
        size: Int, weights.
    """

    path: str
    shape: tuple[int, ...]
    zeros: int
    size: int

    @property
    def sparsity(self) -> float:
        """Share of zeros, in [0, 1]."""
        return self.zeros / self.size


@dataclasses.dataclass(frozen=True)
class SparsityTable:
    """Zeros of every kernel of a model.

    Attributes:
        rows: Tuple of `LayerSparsity` in the order of the layers.
        num_weights: Int, all weights of the model, those that are in no kernel included.
    """

    rows: tuple[LayerSparsity, ...]
    num_weights: int

    @property
    def sparsity(self) -> float:
        """Share of zeros in all kernels together, in [0, 1]."""
        return sum(row.zeros for row in self.rows) / max(1, sum(row.size for row in self.rows))

    def __getitem__(self, path: str) -> LayerSparsity:
        """The `LayerSparsity` of the layer at `path`."""
        for row in self.rows:
            if row.path == path:
                return row
        paths = [row.path for row in self.rows]
        raise KeyError(
            f"`path` must be that of a layer with a kernel. Received: {path!r}. "
            f"Closest: {checks.closest(path, paths)}."
        )

    def __str__(self) -> str:
        cells = [("layer", "kernel", "zeros", "sparsity")]
        cells += [
            (row.path, " × ".join(map(str, row.shape)), f"{row.zeros:,}", f"{row.sparsity:.3f}")
            for row in self.rows
        ]
        kernels = sum(row.size for row in self.rows)
        zeros = sum(row.zeros for row in self.rows)
        cells.append(("all kernels", f"{kernels:,}", f"{zeros:,}", f"{self.sparsity:.3f}"))
        cells.append(("all weights", f"{self.num_weights:,}", "", ""))
        return in_columns(cells)


def sparsity(model: keras.Model) -> SparsityTable:
    """How many weights of each kernel of `model` are exactly zero.

    Args:
        model: Functional or built Sequential `keras.Model`.

    Returns:
        `SparsityTable`; `print` shows it.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="low")])
        >>> _ = model.layers[0].kernel.assign([[0.0, 1.0], [2.0, 0.0], [0.0, 3.0], [4.0, 5.0]])
        >>> sparsity(model)["low"].sparsity
        0.375
    """
    rows = []
    for kernel in all_kernels(model):
        zeros = int(np.sum(keras.ops.convert_to_numpy(kernel.variable) == 0))
        shape = tuple(kernel.variable.shape)
        rows.append(LayerSparsity(kernel.path, shape, zeros, kernel.size))
    return SparsityTable(tuple(rows), sum(int(np.prod(w.shape)) for w in model.weights))


def hold_zeros(model: keras.Model) -> keras.Model:
    """Have weights of `model` that are exactly zero stay zero in later trainings, until `strip`.

    For a pruned model that comes from a file, which keeps zeros and no masks, or that was stripped.
    `MagnitudePruning` and `prune_weights` hold their zeros by themselves, and so does what
    `quantize_aware` makes of a pruned model. A kernel of zeros alone is free to learn.

    Args:
        model: Functional or built Sequential `keras.Model`.

    Returns:
        `model`.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="head")])
        >>> _ = model.layers[0].kernel.assign([[0.0, 1.0], [2.0, 3.0]])
        >>> hold_zeros(model).compile("sgd", "mse")
        >>> _ = model.fit(np.ones((8, 2)), np.ones((8, 2)), verbose=0)
        >>> sparsity(model)["head"].sparsity
        0.25
    """
    for kernel in all_kernels(model):
        keep = keras.ops.convert_to_numpy(kernel.variable) != 0
        if mask_of(kernel.variable) is None and keep.any() and not keep.all():
            hold(kernel, keep)
    retrace(model)
    return model


def strip(model: keras.Model) -> keras.Model:
    """Let go of the masks of a pruned model: what is left is its weights, with their zeros.

    `MagnitudePruning` adds nothing to the graph of a model, so a saved file needs no strip. It
    holds the zeros in every later training, until this call. A model that was loaded from a file
    holds no masks, and comes back as it is: the next training fills its zeros, unless `hold_zeros`
    is called, or `quantize_aware`, which holds the zeros it finds.

    Args:
        model: `keras.Model` that was pruned, or made by `quantize_aware` of one that was.

    Returns:
        `model`.

    Raises:
        RuntimeError: If a pruned weight is not zero, because something has set weights since,
            such as `EarlyStopping(restore_best_weights=True)` listed after `MagnitudePruning`.
    """
    masks = masks_of(model)
    broken = [mask.kernel.path for mask in masks if not mask.holds()]
    if broken:
        raise RuntimeError(
            "Every pruned weight must be zero, and something has set weights since they were "
            "pruned. List callbacks that restore weights before MagnitudePruning. Received: "
            f"weights other than zero in {checks.listed(broken, 5)}"
        )
    for mask in masks:
        mask.kernel.variable.constraint = mask.before
    if masks:
        retrace(model)
    return model
